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
mod messages;
mod places;
mod rows;
mod steps;

use std::sync::Arc;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Affinity;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::MoveReason;
use pagewire_cluster::wire::{CallAnswer, HandlerError, PageEvent};
use serde_json::value::RawValue;
use tokio::sync::OwnedRwLockReadGuard;

use self::arrival::{Arrivals, other_class};
use self::departure::Departures;
use self::eviction::Eviction;
pub use self::eviction::ObjectLimits;
use self::identity::PageIdentity;
pub(crate) use self::messages::follow;
use self::places::{HeldPlace, LivingObject, Places};
use self::rows::ObjectRows;
use self::steps::{ObjectSteps, StepInput, log_failure};
use super::call::IncomingCall;
use super::effects::Supervisor;
use super::handlers::{Handlers, RunFailure};
use super::object::{ObjectStep, Seat};
use super::observer::{ObjectChange, WorkObserver};
use super::work::WorkerParts;

/// How often a message looks for its object again after another step of the page was first.
const TRIES: usize = 3;

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
    parts: Arc<WorkerParts>,
    places: Arc<Places>,
    steps: ObjectSteps,
    arrivals: Arrivals,
    departures: Departures,
    eviction: Eviction,
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
        let WorkerParts { jobs, group, lease, objects, object_messages, .. } = &*parts;
        let rows = ObjectRows { jobs: jobs.clone(), group: group.clone() };
        let (timing, terms) = (jobs.timing, objects.clone());
        let steps = ObjectSteps { supervisor, handlers, observer, terms, timing };
        let (places, lease, messages) = (Arc::<Places>::default(), lease.clone(), object_messages.clone());
        let departures = Departures { rows: rows.clone(), steps: steps.clone(), lease: lease.clone() };
        let arrivals = Arrivals { rows, steps: steps.clone(), lease, messages };
        let eviction = Eviction { places: places.clone(), departures: departures.clone(), limits };
        Arc::new(Self { parts, places, steps, arrivals, departures, eviction })
    }

    /// Returns the answer to a message of a page. `None` when the worker that the page is sent to has to be found again.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        call: &IncomingCall,
        trace: Option<TraceParent>,
    ) -> Option<CallAnswer> {
        let is_bound = call.affinity == Affinity::Assigned || call.call.lane.is_some();
        let of =
            PageIdentity::of(&call.call).filter(|of| is_bound && call.call.class.as_ref() == Some(&of.class));
        let answered = match of {
            Some(of) => match call.call.event {
                Some(PageEvent::Close) => {
                    self.close(&of).await;
                    Ok(null())
                }
                Some(event) => self.tell(&of, event, call).await.map(|()| null()),
                None => self.run(&of, call, trace).await,
            },
            None => {
                let message = "a method of a resident page is called by its page, which has named the class when it opened, with \
                               exec_mode assigned";
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
            let object = self.visit(of, call).await?;
            let Some(living) = object.as_ref() else { continue };
            let seat = living.seat.clone();
            let step = StepInput {
                name: &call.call.method,
                params: call.call.params.clone(),
                within: call.remaining(),
                trace: trace.clone(),
            };
            let result = self.steps.run(of, living.term, step, ObjectStep::Call, &seat).await;
            drop(object);
            match result {
                Err(RunFailure::NoObject) => self.lost(&seat).await,
                Err(RunFailure::Lost { .. }) => {
                    self.lost(&seat).await;
                    return Ok(CallAnswer::Lost);
                }
                result => return Ok(result.map_or_else(RunFailure::call_answer, CallAnswer::Value)),
            }
        }
        Err(Unreached::Error(moving()))
    }

    /// Tells an object what has happened to its page.
    async fn tell(
        self: &Arc<Self>,
        of: &PageIdentity,
        event: PageEvent,
        call: &IncomingCall,
    ) -> Result<(), Unreached> {
        if event == PageEvent::Away && self.steps.terms.of(of.page.key).is_none() {
            // an object is not made to be told that
            return Ok(());
        }
        if event != PageEvent::Away && self.parts.drains() {
            // the object is about to leave, and the next worker makes it
            return Err(Unreached::Refer);
        }
        let object = self.visit(of, call).await?;
        let Some(living) = object.as_ref() else { return Err(Unreached::Error(moving())) };
        let step = match event {
            PageEvent::Away if !living.set_away(true) => ObjectStep::Away,
            PageEvent::Back if living.set_away(false) => ObjectStep::Back,
            _ => return Ok(()),
        };
        let (term, seat) = (living.term, living.seat.clone());
        let told = self.steps.run(of, term, StepInput::event(&of.class), step, &seat).await;
        drop(object);
        match told {
            Err(RunFailure::NoObject | RunFailure::Lost { .. }) => self.lost(&seat).await,
            told => log_failure(of, &told),
        }
        Ok(())
    }

    /// Returns the object of a page, which is made if it does not live here. A message that waits for that has no slot, so that
    /// many objects that arrive at the same time hold up no other message.
    async fn visit(
        self: &Arc<Self>,
        of: &PageIdentity,
        call: &IncomingCall,
    ) -> Result<ObjectGuard, Unreached> {
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
            let arriving = tokio::spawn(async move { this.arrive(&of).await });
            let arrived = call.wait_without_slot(arriving).await;
            arrived.map_err(|_| Unreached::Error(moving()))??;
        }
        Err(Unreached::Error(moving()))
    }

    /// Returns whether an object is that of a page, and was made under the present lease.
    fn serves(&self, living: &LivingObject, of: &PageIdentity) -> bool {
        living.of.is_same(of) && Some(living.worker) == self.arrivals.lease.worker()
    }

    /// Makes the object of a page here, unless it lives here.
    async fn arrive(self: &Arc<Self>, of: &PageIdentity) -> Result<(), Unreached> {
        let page = of.page.key;
        let mut place = self.places.of(page).write_owned().await;
        let arrived = self.arrive_at(&mut place, of).await;
        self.places.release(page, place);
        arrived
    }

    async fn arrive_at(&self, place: &mut HeldPlace, of: &PageIdentity) -> Result<(), Unreached> {
        if let Some(living) = place.as_ref() {
            if self.serves(living, of) {
                return Ok(());
            }
            if living.of.class != of.class {
                return Err(other_class(&living.of.class));
            }
            let why = if living.of.user == of.user { MoveReason::Lost } else { MoveReason::User };
            self.departures.put_aside(place, why).await;
        }
        self.eviction.make_room().await?;
        self.arrivals.arrive(place, of).await
    }

    /// Ends the object of a page that has ended, wherever it is.
    async fn close(&self, of: &PageIdentity) {
        let page = of.page.key;
        let mut place = self.places.of(page).write_owned().await;
        let had = self.departures.end(&mut place).await;
        self.places.release(page, place);
        if !had {
            self.departures.end_elsewhere(page).await;
        }
    }

    /// Makes the object of a page again whose executor has died. Its page is told at once.
    async fn lost(self: &Arc<Self>, seat: &Seat) {
        let page = seat.page();
        let mut place = self.places.of(page).write_owned().await;
        let object = place.take_if(|living| living.seat.is(seat));
        if let Some(object) = &object {
            self.steps.terms.end(page);
            self.steps.changed(&object.of, ObjectChange::Lost);
        }
        self.places.release(page, place);
        if let Some(LivingObject { of, .. }) = object {
            self.make_again(of);
        }
    }

    /// Makes the object of a page again without a message of the page, unless this worker drains.
    fn make_again(self: &Arc<Self>, of: PageIdentity) {
        if self.parts.drains() {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            // the next message of the page tries again
            if let Err(Unreached::Error(error)) = this.arrive(&of).await {
                let message = error.message;
                tracing::info!(page = %of.page.key, "an object is not made again at once: {message}");
            }
        });
    }
}

fn null() -> CallAnswer {
    CallAnswer::Value(RawValue::NULL.to_owned())
}

fn moving() -> HandlerError {
    HandlerError::new(ErrorCode::Unavailable, "the object of this page is moving between executors")
}
