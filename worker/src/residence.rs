//! The objects of resident pages at a worker: from the first message of a page to its end.
//!
//! Owns: which objects live here, and the order of the messages of one page. Never: which worker a page is sent to
//! (`affinity`), or the process in which an object lives (`runtime`).
//!
//! A page has one object in the cluster. The worker that has it is the one that its row names (`rows`), which is written by
//! compare-and-set before the object is made (`arrival`). Another worker that gets a message of the page asks that one to
//! give the object up (`departure`); a dead one is not asked. Each place has a lock: messages hold it together, and whatever
//! makes, moves or ends the object holds it alone.

mod arrival;
mod departure;
mod eviction;
mod identity;
mod places;
mod rows;

use std::sync::Arc;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, Jobs};
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::{CallAnswer, HandlerError, PageEvent};
use pagewire_cluster::worker::{WorkerGroup, WorkerLease};
use serde_json::value::RawValue;
use tokio::sync::{OwnedRwLockReadGuard, mpsc};

pub use self::eviction::ObjectLimits;
use self::identity::PageIdentity;
use self::places::{LivingObject, Places};
use super::call::IncomingCall;
use super::effects::Supervisor;
use super::handlers::{HandlerInput, Handlers, RunFailure, RunResult, call_snoozed};
use super::object::{ObjectMessage, ObjectStep, ObjectWork, Seat};
use super::object_terms::ObjectTerms;
use super::run::WorkObserver;
use super::work::WorkerParts;

/// How often a message looks for its object again after another step of the page was first.
const TRIES: usize = 3;

/// What has become of an object, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectChange {
    /// It was made for the first time.
    Opened,
    /// It was made again from what it had kept.
    Restored,
    /// It was made again from its state trees.
    Rebuilt,
    /// It was put aside, because it was not used or there was no room.
    Evicted,
    /// It has left for another executor.
    Moved,
    /// Its executor has died.
    Lost,
    /// Its page has ended.
    Closed,
}

impl ObjectChange {
    /// Returns whether an object lives after it that did not live before.
    pub const fn is_arrival(self) -> bool {
        matches!(self, Self::Opened | Self::Restored | Self::Rebuilt)
    }

    /// Returns its name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Restored => "restored",
            Self::Rebuilt => "rebuilt",
            Self::Evicted => "evicted",
            Self::Moved => "moved",
            Self::Lost => "lost",
            Self::Closed => "closed",
        }
    }
}

/// Why a message has not reached its object. It has not run.
enum Unreached {
    /// Another worker has the object, or may make it.
    Elsewhere(Key),
    /// The worker that the page is sent to has to be found again.
    Refer,
    /// The reason for the caller.
    Error(HandlerError),
}

/// The objects of one worker.
pub(crate) struct Residence {
    jobs: Jobs,
    group: WorkerGroup,
    lease: WorkerLease,
    parts: Arc<WorkerParts>,
    supervisor: Arc<Supervisor>,
    handlers: Handlers,
    observer: Arc<dyn WorkObserver>,
    terms: Arc<ObjectTerms>,
    places: Places,
    limits: ObjectLimits,
    messages: mpsc::UnboundedSender<ObjectMessage>,
}

/// What the objects of a worker are made of.
pub(crate) struct ResidenceSetup {
    pub(crate) parts: Arc<WorkerParts>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) handlers: Handlers,
    pub(crate) observer: Arc<dyn WorkObserver>,
    pub(crate) limits: ObjectLimits,
}

type ObjectGuard = OwnedRwLockReadGuard<Option<LivingObject>>;

impl Residence {
    pub(crate) fn new(setup: ResidenceSetup) -> Arc<Self> {
        let ResidenceSetup { parts, supervisor, handlers, observer, limits } = setup;
        Arc::new(Self {
            jobs: parts.jobs.clone(),
            group: parts.group.clone(),
            lease: parts.lease.clone(),
            terms: parts.objects.clone(),
            messages: parts.object_messages.clone(),
            places: Places::default(),
            parts,
            supervisor,
            handlers,
            observer,
            limits,
        })
    }

    /// Returns the answer to a message of a page. `None` when the worker that the page is sent to has to be found again.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        call: &IncomingCall,
        trace: Option<TraceParent>,
    ) -> Option<CallAnswer> {
        let is_bound = call.affinity == Affinity::Assigned || call.call.lane.is_some();
        let answered = match PageIdentity::of(&call.call).filter(|_| is_bound) {
            Some(of) => match call.call.event {
                Some(PageEvent::Close) => self.close(&of).await.map(|()| null()),
                Some(event) => self.tell(&of, event).await.map(|()| null()),
                None => self.run(&of, call, trace).await,
            },
            None => {
                let message = "a method of a resident page is called by its page, with exec_mode assigned";
                Err(Unreached::Error(HandlerError::new(ErrorCode::Malformed, message)))
            }
        };
        match answered {
            Ok(answer) => Some(answer),
            Err(Unreached::Error(error)) => Some(CallAnswer::Error(error)),
            Err(Unreached::Elsewhere(worker)) => Some(CallAnswer::Elsewhere { worker }),
            Err(Unreached::Refer) => None,
        }
    }

    /// Runs a method of the object of a page, which is made first if it does not live.
    async fn run(
        self: &Arc<Self>,
        of: &PageIdentity,
        call: &IncomingCall,
        trace: Option<TraceParent>,
    ) -> Result<CallAnswer, Unreached> {
        for _ in 0..TRIES {
            let object = self.visit(of).await?;
            let Some(living) = object.as_ref() else { continue };
            let seat = living.seat.clone();
            let step = StepInput {
                name: &call.call.method,
                params: call.call.params.clone(),
                within: call.remaining(),
                trace: trace.clone(),
            };
            let result = self.step(of, living.term, step, ObjectStep::Call, &seat).await;
            drop(object);
            match result {
                Err(RunFailure::NoObject) => self.lost(&seat).await,
                Err(RunFailure::Lost { .. }) => {
                    self.lost(&seat).await;
                    return Ok(CallAnswer::Lost);
                }
                result => return Ok(answer_of(result)),
            }
        }
        Err(Unreached::Error(moving()))
    }

    /// Tells an object what has happened to its page.
    async fn tell(self: &Arc<Self>, of: &PageIdentity, event: PageEvent) -> Result<(), Unreached> {
        if event == PageEvent::Away && self.terms.of(of.page.key).is_none() {
            // an object is not made to be told that
            return Ok(());
        }
        if event != PageEvent::Away && self.parts.drains() {
            // the object is about to leave, and the next worker makes it
            return Err(Unreached::Refer);
        }
        let object = self.visit(of).await?;
        let Some(living) = object.as_ref() else { return Err(Unreached::Error(moving())) };
        let step = match event {
            PageEvent::Away if !living.set_away(true) => ObjectStep::Away,
            PageEvent::Back if living.set_away(false) => ObjectStep::Back,
            _ => return Ok(()),
        };
        let (term, seat) = (living.term, living.seat.clone());
        let told = self.step(of, term, StepInput::event(&of.class), step, &seat).await;
        drop(object);
        match told {
            Err(RunFailure::NoObject | RunFailure::Lost { .. }) => self.lost(&seat).await,
            told => self.log_failure(of, &told),
        }
        Ok(())
    }

    /// Returns the object of a page, which is made if it does not live here.
    async fn visit(self: &Arc<Self>, of: &PageIdentity) -> Result<ObjectGuard, Unreached> {
        for _ in 0..TRIES {
            let object = self.places.of(of.page.key).read_owned().await;
            if object.as_ref().is_some_and(|living| self.serves(living, of)) {
                object.iter().for_each(LivingObject::touch);
                return Ok(object);
            }
            drop(object);
            if self.parts.drains() {
                return Err(Unreached::Refer);
            }
            // goes on when the caller is gone, so that no object stays half made
            let (this, of) = (self.clone(), of.clone());
            let arrived = tokio::spawn(async move { this.arrive(&of).await }).await;
            arrived.map_err(|_| Unreached::Error(moving()))??;
        }
        Err(Unreached::Error(moving()))
    }

    /// Returns whether an object is that of a page, and was made under the present lease.
    fn serves(&self, living: &LivingObject, of: &PageIdentity) -> bool {
        living.of.is_same(of) && Some(living.worker) == self.lease.worker()
    }

    /// Runs a step of an object.
    async fn step(
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
            within: input.within.or(Some(self.jobs.timing.call)),
            trace: trace.as_ref().map(|trace| trace.as_str().to_owned()),
            effects: standing.traced_effects(trace),
            object: Some(ObjectWork { step, seat: seat.clone() }),
            ..HandlerInput::call(input.params)
        };
        self.handlers.run(input.name, handler).await
    }

    fn log_failure(&self, of: &PageIdentity, result: &RunResult) {
        if let Err(RunFailure::Failed(error) | RunFailure::RetryAfter(error, _)) = result {
            let (page, class, message) = (of.page.key, &of.class, &error.message);
            tracing::warn!(%page, class, code = error.code, "the object of a page has failed: {message}");
        }
    }

    fn changed(&self, of: &PageIdentity, change: ObjectChange) {
        self.observer.object_changed(&of.class, change);
    }
}

/// What a step gets beside its object.
struct StepInput<'a> {
    /// Name of the handler: the class, or `class.method`.
    name: &'a str,
    params: Box<RawValue>,
    within: Option<std::time::Duration>,
    trace: Option<TraceParent>,
}

impl<'a> StepInput<'a> {
    fn event(class: &'a str) -> Self {
        Self { name: class, params: RawValue::NULL.to_owned(), within: None, trace: None }
    }
}

fn null() -> CallAnswer {
    CallAnswer::Value(RawValue::NULL.to_owned())
}

fn moving() -> HandlerError {
    HandlerError::new(ErrorCode::Unavailable, "the object of this page is moving between executors")
}

fn answer_of(result: RunResult) -> CallAnswer {
    match result {
        Ok(value) => CallAnswer::Value(value),
        Err(RunFailure::Failed(error) | RunFailure::RetryAfter(error, _)) => CallAnswer::Error(error),
        Err(RunFailure::Snoozed(_)) => CallAnswer::Error(call_snoozed()),
        Err(RunFailure::NoObject) => CallAnswer::Busy,
        Err(RunFailure::Stopped | RunFailure::Returned | RunFailure::Lost { .. }) => CallAnswer::Lost,
    }
}
