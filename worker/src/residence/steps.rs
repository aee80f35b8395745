//! Runs the steps of objects: their methods, and what happens to their pages.
//!
//! Owns: the input of a step, and the right of its effects. Never: which step is due.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::job::Affinity;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::trace::TraceParent;
use serde_json::value::RawValue;

use super::identity::PageIdentity;
use crate::effects::Supervisor;
use crate::handlers::{HandlerInput, Handlers, RunFailure, RunResult};
use crate::object::{ObjectStep, ObjectWork, Seat};
use crate::object_terms::ObjectTerms;
use crate::observer::{ObjectChange, WorkObserver};

/// Runs steps. Cheap to clone.
#[derive(Clone)]
pub(super) struct ObjectSteps {
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) handlers: Handlers,
    pub(super) observer: Arc<dyn WorkObserver>,
    pub(super) terms: Arc<ObjectTerms>,
    pub(super) timing: Timing,
}

/// What a step gets beside its object.
pub(super) struct StepInput<'a> {
    /// Name of the handler: the class, or `class.method`.
    pub(super) name: &'a str,
    pub(super) params: Box<RawValue>,
    pub(super) within: Option<Duration>,
    pub(super) trace: Option<TraceParent>,
}

impl<'a> StepInput<'a> {
    /// Creates the input of a step that no one calls.
    pub(super) fn event(class: &'a str) -> Self {
        Self { name: class, params: RawValue::NULL.to_owned(), within: None, trace: None }
    }
}

impl ObjectSteps {
    /// Runs a step of the object of a page, which has this term.
    pub(super) async fn run(
        &self,
        of: &PageIdentity,
        term: u64,
        input: StepInput<'_>,
        step: ObjectStep,
        seat: &Seat,
    ) -> RunResult {
        let begun = self.supervisor.begin_object(of.page.key, term, of.owner().as_deref());
        let standing = begun.map_err(RunFailure::Failed)?;
        let trace = input.trace;
        let handler = HandlerInput {
            affinity: Affinity::Assigned,
            user: of.user.clone(),
            page: Some(of.page),
            session: of.session,
            connection: of.connection,
            within: input.within.or(Some(self.timing.call)),
            trace: trace.as_ref().map(|trace| trace.as_str().to_owned()),
            effects: standing.traced_effects(trace),
            object: Some(ObjectWork { step, seat: seat.clone() }),
            ..HandlerInput::call(input.params)
        };
        self.handlers.run(input.name, handler).await
    }

    /// Reports what has become of an object.
    pub(super) fn changed(&self, of: &PageIdentity, change: ObjectChange) {
        self.observer.object_changed(&of.class, change);
    }
}

/// Logs the error of a step that no one called.
pub(super) fn log_failure(of: &PageIdentity, result: &RunResult) {
    if let Err(RunFailure::Failed(error) | RunFailure::RetryAfter(error, _)) = result {
        let (page, class, message) = (of.page.key, &of.class, &error.message);
        tracing::warn!(%page, class, code = error.code, "the object of a page has failed: {message}");
    }
}
