//! The service. (see README)
pub mod auth;
pub mod config;
pub mod edge;
pub mod protocol;
pub mod session;
pub mod telemetry;
