//! The service. (see README)
pub mod config;
pub mod edge;
pub mod protocol;
pub mod session;
pub mod telemetry;
