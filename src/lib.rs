//! The service. (see README)
pub mod protocol;
pub mod session;
pub mod telemetry;
