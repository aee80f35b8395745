//! What carries the requests of this library: the effects of a piece of work, or the server API.
//!
//! Owns: the choice between the two. Never: the parameters of a request.

use std::sync::Arc;

use pagewire_cluster::code::ErrorCode;
use pagewire_worker::effects::Effects;
use pagewire_worker::outgoing::WorkIdentity;
use pagewire_worker::requests;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::fail::RequestError;
use super::http_api::HttpApi;

/// Sends requests, which have the names and parameters of the child wire.
#[derive(Clone)]
pub(super) enum Asker {
    Work(Arc<WorkAsker>),
    Http(Arc<HttpApi>),
}

/// The requests of a piece of work, which its supervisor checks and fences like those of a child.
pub(super) struct WorkAsker {
    pub(super) effects: Effects,
    pub(super) identity: WorkIdentity,
}

impl Asker {
    /// Sends a request and reads its reply.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, RequestError> {
        match self {
            Self::Work(work) => {
                let params = to_raw_value(&params).map_err(unreadable)?;
                let reply = requests::answer(&work.effects, &work.identity, method, &params).await;
                serde_json::from_str(reply.map_err(RequestError::of)?.get()).map_err(unreadable)
            }
            Self::Http(api) => serde_json::from_value(api.ask(method, &params).await?).map_err(unreadable),
        }
    }
}

/// Returns the error of a reply that does not have the type which the caller expects.
pub(super) fn unreadable(error: serde_json::Error) -> RequestError {
    RequestError::new(ErrorCode::Internal, format!("the reply has another type: {error}"))
}

/// Returns a value as JSON.
///
/// # Errors
///
/// `malformed` if it is none.
pub(super) fn json_of(what: &str, value: &impl serde::Serialize) -> Result<Value, RequestError> {
    serde_json::to_value(value).map_err(|error| {
        RequestError::new(ErrorCode::Malformed, format!("{what} cannot be written as JSON: {error}"))
    })
}
