//! The handlers of a process, by name.
//!
//! Owns: which handlers exist, and how one is run. Never: what a handler does, callers or retries.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::job::Affinity;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::HandlerError;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::effects::Effects;
use super::object::ObjectWork;
use super::outgoing::WorkIdentity;
use super::reporter::Reporter;
pub use super::run_result::{RunFailure, RunResult};
pub use super::stop::{StopReason, StopSignal};

/// The label of a method without a handler. A name that a client made up must not become a metric label.
const OTHER: &str = "other";

/// The JSON result of a handler.
pub type HandlerResult = Result<Box<RawValue>, HandlerError>;

/// What a handler runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkUnit {
    /// A call, whose caller waits.
    Call,
    /// An attempt of a job.
    Job {
        /// Id of the job.
        id: Key,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// How many attempts may follow a failure.
        left: u32,
    },
}

/// The input of a handler.
pub struct HandlerInput {
    /// What it runs for.
    pub unit: WorkUnit,
    /// Whether any executor may run the work, or only the one that is assigned to the user.
    pub affinity: Affinity,
    /// The argument of the call, or the data of the job.
    pub params: Box<RawValue>,
    /// User for whom the work runs.
    pub user: Option<String>,
    /// Page that asked for the work, with the address that it had then.
    pub page: Option<Address>,
    /// Session of that page.
    pub session: Option<Key>,
    /// Connection of that page.
    pub connection: Option<Key>,
    /// How long the caller waits for the result; `None` without a limit.
    pub within: Option<Duration>,
    /// The trace of the caller, as a W3C `traceparent`.
    pub trace: Option<String>,
    /// Reports the progress of a job; does nothing for a call.
    pub reporter: Reporter,
    /// Whether the runtime has to run this work in an executor that runs nothing else, because executors of its kind have
    /// died.
    pub alone: bool,
    /// What the handler may do inside Pagewire.
    pub effects: Effects,
    /// The object that the work is for; `None` for a handler.
    pub object: Option<ObjectWork>,
    /// Asks the handler to stop.
    pub stop: StopSignal,
}

impl HandlerInput {
    /// Returns how long the work may take: the time of its handler, at most that of its caller, else the default.
    pub fn time_limit(&self, of_handler: Option<Duration>, timing: &Timing) -> Duration {
        match self.unit {
            WorkUnit::Call => {
                let caller = self.within.unwrap_or(timing.call);
                of_handler.map_or(caller, |own| own.min(caller))
            }
            WorkUnit::Job { .. } => of_handler.unwrap_or(timing.job),
        }
    }

    /// Creates the input of a call without a user, a page and effects.
    pub fn call(params: Box<RawValue>) -> Self {
        Self {
            unit: WorkUnit::Call,
            affinity: Affinity::Free,
            params,
            user: None,
            page: None,
            session: None,
            connection: None,
            within: None,
            trace: None,
            reporter: Reporter::silent(),
            alone: false,
            effects: Effects::none(),
            object: None,
            stop: StopSignal::default(),
        }
    }

    /// Returns for whom the work runs, from now on.
    pub fn identity(&self) -> WorkIdentity {
        WorkIdentity {
            user: self.user.clone(),
            page: self.page,
            session: self.session,
            connection: self.connection,
            until: self.within.and_then(|within| Instant::now().checked_add(within)),
            trace: self.trace.as_deref().and_then(TraceParent::parse),
        }
    }
}

/// Which calls of a handler run one after the other at the worker that gets them. Calls of a user come to one worker if
/// they are `assigned`, which is the default of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serial {
    /// All calls may run at the same time.
    #[default]
    None,
    /// The calls of one user; a call without a user does not wait.
    User,
    /// The calls of one page; a call without a page does not wait.
    Page,
}

/// Whether a handler belongs to the objects of resident pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ObjectRole {
    /// It does not.
    #[default]
    None,
    /// It is a class: it makes the objects, and is told what happens to their pages.
    Class,
    /// It is a method of an object.
    Method {
        /// Whether it runs beside other methods of the object.
        concurrent: bool,
    },
}

/// How a handler is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HandlerOptions {
    /// Which calls run one after the other.
    pub serial: Serial,
    /// Whether the handler stops on request ([`HandlerInput::stop`]). Any other handler is stopped by dropping its future.
    pub stops: bool,
    /// Which executor runs its work if neither the caller nor the configuration names a mode.
    pub affinity: Option<Affinity>,
    /// How often a failed job is retried if its submitter does not say it.
    pub retries: Option<u32>,
    /// Whether it belongs to the objects of resident pages.
    pub object: ObjectRole,
}

#[derive(Clone)]
struct Registered {
    run: Arc<HandlerFn>,
    options: HandlerOptions,
}

type HandlerFn = dyn Fn(HandlerInput) -> BoxFuture<'static, RunResult> + Send + Sync;

/// The handlers of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Handlers(Arc<BTreeMap<String, Registered>>);

/// Handlers that are added before a process starts.
#[derive(Default)]
pub struct HandlersBuilder(BTreeMap<String, Registered>);

impl HandlersBuilder {
    /// Adds a handler; it replaces an earlier one of the same name. Dropping its future stops the work.
    #[must_use]
    pub fn handler<F>(self, name: &str, run: impl Fn(HandlerInput) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = HandlerResult> + Send + 'static,
    {
        self.handler_with(name, HandlerOptions::default(), run)
    }

    /// Adds a handler like [`HandlersBuilder::handler`], with options.
    #[must_use]
    pub fn handler_with<F>(
        self,
        name: &str,
        options: HandlerOptions,
        run: impl Fn(HandlerInput) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = HandlerResult> + Send + 'static,
    {
        self.runtime(name, options, move |input| {
            let running = run(input);
            async move { running.await.map_err(RunFailure::Failed) }
        })
    }

    /// Adds a handler that a runtime runs in an executor of its own, which may die.
    #[must_use]
    pub fn runtime<F>(
        mut self,
        name: &str,
        options: HandlerOptions,
        run: impl Fn(HandlerInput) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = RunResult> + Send + 'static,
    {
        self.0
            .insert(name.to_owned(), Registered { run: Arc::new(move |input| run(input).boxed()), options });
        self
    }

    /// Returns the handlers.
    pub fn build(self) -> Handlers {
        Handlers(Arc::new(self.0))
    }
}

impl Handlers {
    /// Returns these handlers and those of `other`, which replace handlers of the same names.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let all = self.0.iter().chain(other.0.iter());
        Self(Arc::new(all.map(|(name, handler)| (name.clone(), handler.clone())).collect()))
    }

    /// Returns whether there are no handlers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns whether there is a handler of this name.
    pub fn has(&self, method: &str) -> bool {
        self.0.contains_key(method)
    }

    /// Returns only the handlers of these names.
    ///
    /// # Errors
    ///
    /// The first name without a handler.
    pub fn only(&self, names: &[String]) -> Result<Self, String> {
        let named = names.iter().map(|name| match self.0.get(name) {
            Some(handler) => Ok((name.clone(), handler.clone())),
            None => Err(name.clone()),
        });
        Ok(Self(Arc::new(named.collect::<Result<_, _>>()?)))
    }

    /// Returns the name of a handler as a metric label, and `other` for a method without a handler.
    pub fn label<'a>(&self, method: &'a str) -> &'a str {
        if self.has(method) { method } else { OTHER }
    }

    /// Returns how a handler is run; the default for a method without a handler.
    pub fn options(&self, method: &str) -> HandlerOptions {
        self.0.get(method).map(|handler| handler.options).unwrap_or_default()
    }

    /// Runs the handler of a method to its end. Dropping the future stops it.
    ///
    /// # Errors
    ///
    /// `no_executor` without such a handler, the handler's own error, or the death of its executor.
    pub async fn run(&self, method: &str, input: HandlerInput) -> RunResult {
        match self.0.get(method) {
            Some(handler) => (handler.run)(input).await,
            None => {
                let error = HandlerError::new(ErrorCode::NoExecutor, "no executor has this method");
                Err(RunFailure::Failed(error))
            }
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Returns the error of a handler. A job is retried after it, because the same work may succeed later.
pub(crate) fn failed(message: impl Into<String>) -> HandlerError {
    HandlerError { code: ErrorCode::Failed.text().to_owned(), message: message.into(), retryable: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(params: &str) -> HandlerInput {
        HandlerInput::call(RawValue::from_string(params.to_owned()).unwrap())
    }

    #[tokio::test]
    async fn a_handler_runs_by_its_name_and_a_made_up_name_is_no_label() {
        let handlers =
            HandlersBuilder::default().handler("twice", |input| async move { Ok(input.params) }).build();
        assert_eq!(handlers.run("twice", input("[1]")).await.unwrap().get(), "[1]");
        let failure = handlers.run("once", input("1")).await.unwrap_err();
        assert!(matches!(failure, RunFailure::Failed(error) if error.code == ErrorCode::NoExecutor.text()));
        assert_eq!((handlers.label("twice"), handlers.label("once")), ("twice", OTHER));
        assert_eq!(handlers.names().collect::<Vec<_>>(), ["twice"]);
        assert_eq!(handlers.only(&["once".to_owned()]).err().as_deref(), Some("once"));
        assert!(handlers.only(&["twice".to_owned()]).is_ok_and(|only| only.has("twice")));
    }
}
