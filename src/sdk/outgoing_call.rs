//! Calls of other handlers.
//!
//! Owns: the request `call`. Never: where the call runs.

use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use pagewire_cluster::worker::ExecMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::asker::{Asker, json_of};
use super::fail::RequestError;

/// A call of a handler. It is made by `.await`, which returns the result of the handler, at most once.
#[must_use = "a call is made by `.await`"]
pub struct Call<R> {
    asker: Asker,
    params: Result<Map<String, Value>, RequestError>,
    result: PhantomData<fn() -> R>,
}

impl<R> Call<R> {
    pub(super) fn new(asker: Asker, method: &str, params: &impl Serialize) -> Self {
        let params = json_of("the parameters of the call", params).map(|params| {
            Map::from_iter([("method".to_owned(), json!(method)), ("params".to_owned(), params)])
        });
        Self { asker, params, result: PhantomData }
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        if let Ok(params) = &mut self.params {
            params.insert(name.to_owned(), value);
        }
        self
    }

    /// Lets the call run for this user. Without it, a call of a handler runs for the user of its work.
    pub fn user(self, user: &str) -> Self {
        self.with("user", json!(user))
    }

    /// Lets the call run for no user.
    pub fn no_user(self) -> Self {
        self.with("user", Value::Null)
    }

    /// Lets any executor run the call.
    pub fn any(self) -> Self {
        self.with("exec_mode", json!(ExecMode::Any))
    }

    /// Lets the executor run the call that its user is assigned to.
    pub fn assigned(self) -> Self {
        self.with("exec_mode", json!(ExecMode::Assigned))
    }

    /// Sets the pool of workers.
    pub fn pool(self, pool: &str) -> Self {
        self.with("pool", json!(pool))
    }

    /// Sets the time limit. In a handler it is also within the time of the work.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with("timeout_ms", json!(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1)))
    }
}

impl<R: DeserializeOwned + 'static> IntoFuture for Call<R> {
    type Output = Result<R, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { asker, params, .. } = self;
        Box::pin(async move { asker.ask("call", params?.into()).await })
    }
}
