//! How an object comes to this worker.
//!
//! Owns: the order from the row to the living object, and what its page is told. Never: the row itself (`rows`).

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::resident::{Arrival, ObjectRow, SavedObject};
use pagewire_cluster::wire::MoveReason;
use pagewire_cluster::wire::{HandlerError, ObjectNotice, ObjectState};
use pagewire_cluster::worker::{WorkerId, WorkerLease};
use tokio::sync::mpsc;

use super::identity::PageIdentity;
use super::places::{HeldPlace, LivingObject};
use super::rows::{ObjectReply, ObjectRows};
use super::steps::{ObjectSteps, StepInput, log_failure};
use super::{TRIES, Unreached, moving};
use crate::object::{ObjectMessage, ObjectStep, Seat};
use crate::observer::ObjectChange;

/// A page whose row names this worker now.
struct TakenPage {
    /// The incarnation of this worker.
    worker: WorkerId,
    /// Revision of the row, which is the term of the object.
    term: u64,
    /// What the object before this one has kept; `None` for the first one.
    before: Option<SavedObject>,
    /// Whether writes of a dead worker may still arrive.
    is_contested: bool,
}

fn unavailable() -> Unreached {
    let message = "the executors have no connection to the cluster";
    Unreached::Error(HandlerError::new(ErrorCode::Unavailable, message))
}

/// Makes objects. Cheap to clone.
#[derive(Clone)]
pub(super) struct Arrivals {
    pub(super) rows: ObjectRows,
    pub(super) steps: ObjectSteps,
    pub(super) lease: WorkerLease,
    pub(super) messages: mpsc::UnboundedSender<ObjectMessage>,
}

impl Arrivals {
    /// Makes the object of a page at its place, where none lives.
    pub(super) async fn arrive(&self, place: &mut HeldPlace, of: &PageIdentity) -> Result<(), Unreached> {
        let taken = self.take_page(of).await?;
        self.make(place, of, taken).await
    }

    /// Makes the object of a page whose row names this worker.
    async fn make(
        &self,
        place: &mut HeldPlace,
        of: &PageIdentity,
        taken: TakenPage,
    ) -> Result<(), Unreached> {
        let TakenPage { worker, term, before, is_contested } = taken;
        let page = of.page.key;
        if is_contested && let Err(error) = self.steps.supervisor.stamp_page(page, term).await {
            return Err(Unreached::Error(error));
        }
        let step = match &before {
            None => ObjectStep::Open,
            Some(SavedObject { why, value, .. }) => ObjectStep::Restore { why: *why, saved: value.clone() },
        };
        let seat = Seat::new(page, self.messages.clone());
        self.steps.terms.begin(page, term);
        let made = self.steps.run(of, term, StepInput::event(&of.class), step, &seat).await;
        log_failure(of, &made);
        match made {
            Ok(_) => {
                let living = LivingObject::new(of.clone(), seat, worker, term);
                living.set_away(before.as_ref().is_some_and(|before| before.is_away));
                **place = Some(living);
                self.arrived(of, term, before.as_ref());
                Ok(())
            }
            Err(failure) => {
                self.steps.terms.end(page);
                self.give_back(of, worker, term, before).await;
                Err(Unreached::Error(failure.error_of("an object").unwrap_or_else(died)))
            }
        }
    }

    /// Takes a page over: writes its row, after the worker that has its object has given it up or is dead.
    async fn take_page(&self, of: &PageIdentity) -> Result<TakenPage, Unreached> {
        let page = of.page.key;
        for _ in 0..TRIES {
            let worker = self.lease.worker().ok_or(Unreached::Refer)?;
            let read = self.rows.read(page).await.map_err(|Unavailable| unavailable())?;
            let row = read.as_ref().map(|(row, _)| row);
            if let Some(row) = row.filter(|row| row.class != of.class) {
                return Err(other_class(&row.class));
            }
            let (before, is_contested) = match ObjectRow::arrival(row, worker) {
                Arrival::Open => (None, false),
                Arrival::Restore(saved) => (Some(saved), false),
                // the writes of an earlier epoch of this worker may still arrive
                Arrival::Rebuild => (Some(lost()), row.is_some_and(|row| row.worker != worker)),
                Arrival::Ask(other) => {
                    let why = self.why_asked(other, of)?;
                    match self.rows.ask(other, page, Some(why)).await {
                        ObjectReply::Gave => continue,
                        ObjectReply::HadNone => (Some(lost()), false),
                        ObjectReply::Dead => (Some(lost()), true),
                        ObjectReply::Silent => return Err(Unreached::Error(silent())),
                    }
                }
            };
            let expect = read.as_ref().map_or(Precondition::Absent, |(_, rev)| Precondition::Rev(*rev));
            let row = ObjectRow { worker, class: of.class.clone(), term: None, saved: None };
            match self.rows.write(page, &row, expect).await {
                Ok(term) => return Ok(TakenPage { worker, term, before, is_contested }),
                Err(WriteError::Conflict { .. }) => {}
                Err(_) => return Err(unavailable()),
            }
        }
        Err(Unreached::Error(moving()))
    }

    /// Returns why another worker is asked for an object. A message that keeps no lane goes to the worker of another lane,
    /// because its page may keep that one.
    fn why_asked(&self, other: WorkerId, of: &PageIdentity) -> Result<MoveReason, Unreached> {
        let roster = self.rows.jobs.workers.roster();
        match roster.row(other.id) {
            Some(row) if row.draining => Ok(MoveReason::Drain),
            Some(row) if row.lane == self.rows.group.lane => Ok(MoveReason::Moved),
            Some(_) if of.keeps_lane => Ok(MoveReason::Lane),
            Some(_) => Err(Unreached::Elsewhere(other.id)),
            None => Ok(MoveReason::Moved),
        }
    }

    /// Gives a page back whose object could not be made, so that the next message tries again with what was kept.
    async fn give_back(&self, of: &PageIdentity, worker: WorkerId, term: u64, before: Option<SavedObject>) {
        let page = of.page.key;
        match before {
            None => self.rows.delete(page, term).await,
            saved => {
                let row = ObjectRow { worker, class: of.class.clone(), term: Some(term), saved };
                if let Err(error) = self.rows.write(page, &row, Precondition::Rev(term)).await {
                    tracing::warn!(%page, %error, "what an object has kept is lost, it is rebuilt");
                }
            }
        }
    }

    /// Tells the page what has become of its object.
    fn arrived(&self, of: &PageIdentity, term: u64, before: Option<&SavedObject>) {
        let (state, change) = match before {
            None => (ObjectState::Open, ObjectChange::Opened),
            Some(SavedObject { value: Some(_), .. }) => (ObjectState::Restored, ObjectChange::Restored),
            Some(SavedObject { value: None, .. }) => (ObjectState::Rebuilt, ObjectChange::Rebuilt),
        };
        self.steps.changed(of, change);
        let why = before.map(|saved| saved.why);
        let notice = ObjectNotice { class: of.class.clone(), state, why };
        let (supervisor, of) = (self.steps.supervisor.clone(), of.clone());
        tokio::spawn(async move {
            let told = match supervisor.begin_object(of.page.key, term, of.owner().as_deref()) {
                Ok(standing) => standing.effects().tell_page(of.page, &notice).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::debug!(page = %of.page.key, error = error.message, "a page is not told of its object");
            }
        });
    }
}

fn lost() -> SavedObject {
    SavedObject { why: MoveReason::Lost, value: None, is_away: false }
}

pub(super) fn other_class(class: &str) -> Unreached {
    let message = format!("the object of this page is of the class {class}");
    Unreached::Error(HandlerError::new(ErrorCode::Conflict, message))
}

fn silent() -> HandlerError {
    let message = "the executor that has the object of this page does not reply";
    HandlerError::new(ErrorCode::Unavailable, message)
}

fn died() -> HandlerError {
    HandlerError::new(ErrorCode::WorkerLost, "the executor died while it made the object of the page")
}
