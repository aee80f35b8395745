//! Requests of handlers that run in another process.
//!
//! Owns: what a request asks for. Never: the wire.

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::HandlerError;
use serde_json::value::RawValue;

use super::handlers::HandlerInput;

/// The work in whose name requests are made.
pub struct RequestContext;

impl RequestContext {
    /// Creates the context of a piece of work.
    pub fn new(_: &HandlerInput) -> Self {
        Self
    }
}

/// Answers a request.
///
/// # Errors
///
/// `unsupported`: this release knows no request.
pub async fn answer(_: &RequestContext, method: &str, _: &RawValue) -> Result<Box<RawValue>, HandlerError> {
    Err(HandlerError::new(ErrorCode::Unsupported, format!("this release knows no request {method}")))
}
