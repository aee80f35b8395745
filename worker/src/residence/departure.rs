//! How an object leaves this worker.
//!
//! Owns: what an object keeps, and its end. Never: when it has to leave.

use pagewire_cluster::engine::{Message, Unavailable};
use pagewire_cluster::id::Key;
use pagewire_cluster::resident::{MAX_SAVED, SavedObject};
use pagewire_cluster::subject::worker_leaf;
use pagewire_cluster::wire::MoveReason;
use pagewire_cluster::wire::{self, PageEvent, WorkerCall};
use pagewire_cluster::worker::WorkerLease;
use serde_json::value::RawValue;

use super::identity::PageIdentity;
use super::places::HeldPlace;
use super::rows::ObjectRows;
use super::steps::{ObjectSteps, StepInput, log_failure};
use crate::handlers::RunResult;
use crate::object::ObjectStep;
use crate::observer::ObjectChange;

/// Ends objects here. Cheap to clone.
#[derive(Clone)]
pub(super) struct Departures {
    pub(super) rows: ObjectRows,
    pub(super) steps: ObjectSteps,
    pub(super) lease: WorkerLease,
}

impl Departures {
    /// Lets the next worker of a page make its object, because no message of the page has to come for that. A message that is
    /// lost is no loss: the next one of the page does the same.
    pub(super) async fn wake_next(&self, of: &PageIdentity) {
        let Some(owner) = of.owner() else { return };
        let next = self.rows.jobs.workers.roster().choose(&self.rows.group, &owner, Some(&of.class));
        let Some(next) = next.filter(|next| Some(*next) != self.lease.worker().map(|me| me.id)) else {
            return;
        };
        let call = WorkerCall {
            id: Key::random(),
            method: of.class.clone(),
            params: RawValue::NULL.to_owned(),
            user: of.user.clone(),
            page: Some(of.page),
            session: of.session,
            connection: of.connection,
            lane: of.keeps_lane.then(|| self.rows.group.lane.clone()),
            class: Some(of.class.clone()),
            event: Some(PageEvent::Wake),
            left_ms: None,
        };
        let subject = self.rows.jobs.subjects.worker(next, worker_leaf::CALL);
        if let Err(error) = self.rows.jobs.engine.publish(Message::new(subject, wire::encode(&call))).await {
            tracing::debug!(page = %of.page.key, %error, "the next worker of a page is not woken");
        }
    }

    /// Lets the object of a place keep what it has and end here. Returns whether there was one.
    pub(super) async fn put_aside(&self, place: &mut HeldPlace, why: MoveReason) -> bool {
        let Some(object) = place.take() else { return false };
        let step =
            StepInput { within: Some(self.steps.timing.child_stop), ..StepInput::event(&object.of.class) };
        let saved =
            self.steps.run(&object.of, object.term, step, ObjectStep::Save { why }, &object.seat).await;
        self.steps.terms.end(object.of.page.key);
        let value = kept(&object.of, saved);
        if why != MoveReason::Lost {
            self.rows.save(&object, SavedObject { why, value, is_away: object.is_away() }).await;
        }
        self.steps.changed(
            &object.of,
            match why {
                MoveReason::Idle | MoveReason::Full | MoveReason::Memory => ObjectChange::Evicted,
                MoveReason::Lost => ObjectChange::Lost,
                _ => ObjectChange::Moved,
            },
        );
        true
    }

    /// Ends the object of a place with its page. Returns whether there was one.
    pub(super) async fn end(&self, place: &mut HeldPlace) -> bool {
        let Some(object) = place.take() else { return false };
        let step = StepInput::event(&object.of.class);
        let closed = self.steps.run(&object.of, object.term, step, ObjectStep::Close, &object.seat).await;
        log_failure(&object.of, &closed);
        self.steps.terms.end(object.of.page.key);
        self.rows.delete(object.of.page.key, object.rev).await;
        self.steps.changed(&object.of, ObjectChange::Closed);
        true
    }

    /// Ends the object of a page that has ended, at another worker, and deletes its row.
    pub(super) async fn end_elsewhere(&self, page: Key) {
        let Ok(Some((row, rev))) = self.rows.read(page).await.map_err(|Unavailable| ()) else {
            // without a row there is no object, and one that cannot be read expires
            return;
        };
        if row.saved.is_none() && Some(row.worker) != self.lease.worker() {
            self.rows.ask(row.worker, page, None).await;
        }
        // the other worker has deleted it, or it has left without an object
        self.rows.delete(page, rev).await;
    }
}

/// Returns what an object has kept: nothing if it could not, or if that is too much.
fn kept(of: &PageIdentity, saved: RunResult) -> Option<Box<RawValue>> {
    log_failure(of, &saved);
    let value = saved.ok().filter(|value| value.get() != "null")?;
    let (page, class, bytes) = (of.page.key, &of.class, value.get().len());
    if bytes > MAX_SAVED {
        tracing::warn!(%page, class, bytes, "an object keeps too much, it is rebuilt from its state trees");
        return None;
    }
    Some(value)
}
