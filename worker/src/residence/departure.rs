//! How an object leaves this worker.
//!
//! Owns: saving, closing, and the messages that ask for it. Never: which objects have to leave (`eviction`).

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use pagewire_cluster::engine::{Message, Unavailable};
use pagewire_cluster::id::Key;
use pagewire_cluster::resident::{MAX_SAVED, MoveReason, ObjectRow, SavedObject};
use pagewire_cluster::subject::worker_leaf;
use pagewire_cluster::wire::{self, PageEvent, WorkerCall};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::identity::PageIdentity;
use super::places::HeldPlace;
use super::{ObjectChange, Residence, StepInput, Unreached};
use crate::handlers::RunResult;
use crate::object::{ObjectMessage, ObjectStep, Seat};

/// Objects that leave at the same time.
const LEAVING: usize = 64;

impl Residence {
    /// Handles the messages of runtimes and of other workers until the worker has ended. Each is handled in its own task.
    pub(crate) async fn follow(self: Arc<Self>, mut messages: mpsc::UnboundedReceiver<ObjectMessage>) {
        let mut sweep = tokio::time::interval(self.limits.sweep());
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let this = self.clone();
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => drop(tokio::spawn(this.handle(message))),
                    None => return,
                },
                _ = sweep.tick() => drop(tokio::spawn(this.sweep())),
            }
        }
    }

    async fn handle(self: Arc<Self>, message: ObjectMessage) {
        match message {
            ObjectMessage::Died(seat) => self.lost(&seat).await,
            ObjectMessage::Leave { page, seat, why, left } => {
                let had = self.give_up(page, seat, why).await;
                // an error means that the asker waits no more
                let _ = left.send(had);
            }
            ObjectMessage::Shrink { executor } => self.shrink(executor).await,
            ObjectMessage::LeaveAll { left } => {
                let leave = async |page| {
                    let mut place = self.places.of(page).write_owned().await;
                    let of = place.as_ref().map(|living| living.of.clone());
                    self.put_aside(&mut place, MoveReason::Drain).await;
                    self.places.release(page, place);
                    if let Some(of) = of {
                        self.wake_next(&of).await;
                    }
                };
                stream::iter(self.places.pages()).for_each_concurrent(LEAVING, leave).await;
                // an error means that the worker has ended
                let _ = left.send(());
            }
        }
    }

    /// Lets the object of a page leave this worker, or only the executor of `seat`: then it is made again in another one at
    /// once. Returns whether there was one.
    async fn give_up(self: &Arc<Self>, page: Key, seat: Option<Seat>, why: Option<MoveReason>) -> bool {
        let mut place = self.places.of(page).write_owned().await;
        let object = place.as_ref().filter(|of| seat.as_ref().is_none_or(|seat| of.seat.is(seat)));
        let of = object.map(|living| living.of.clone());
        if of.is_some() {
            match why {
                Some(why) => self.put_aside(&mut place, why).await,
                None => self.end(&mut place).await,
            };
        }
        self.places.release(page, place);
        if let Some(of) = of.clone().filter(|_| seat.is_some()) {
            self.make_again(of);
        }
        of.is_some()
    }

    /// Lets the next worker of a page make its object, because no message of the page has to come for that. A message that is
    /// lost is no loss: the next one of the page does the same.
    async fn wake_next(&self, of: &PageIdentity) {
        let Some(owner) = of.owner() else { return };
        let next = self.jobs.workers.roster().choose(&self.group, &owner, Some(&of.class));
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
            lane: of.keeps_lane.then(|| self.group.lane.clone()),
            event: Some(PageEvent::Wake),
            left_ms: None,
        };
        let subject = self.jobs.subjects.worker(next, worker_leaf::CALL);
        if let Err(error) = self.jobs.engine.publish(Message::new(subject, wire::encode(&call))).await {
            tracing::debug!(page = %of.page.key, %error, "the next worker of a page is not woken");
        }
    }

    /// Lets the object of a place keep what it has and end here. Returns whether there was one.
    pub(super) async fn put_aside(&self, place: &mut HeldPlace, why: MoveReason) -> bool {
        let Some(object) = place.take() else { return false };
        let step =
            StepInput { within: Some(self.jobs.timing.child_stop), ..StepInput::event(&object.of.class) };
        let saved = self.step(&object.of, object.term, step, ObjectStep::Save { why }, &object.seat).await;
        self.terms.end(object.of.page.key);
        let value = self.kept(&object.of, saved);
        if why != MoveReason::Lost {
            self.write_saved(&object, SavedObject { why, value, is_away: object.is_away() }).await;
        }
        self.changed(
            &object.of,
            match why {
                MoveReason::Idle | MoveReason::Full | MoveReason::Memory => ObjectChange::Evicted,
                MoveReason::Lost => ObjectChange::Lost,
                _ => ObjectChange::Moved,
            },
        );
        true
    }

    /// Returns what an object has kept: nothing if it could not, or if that is too much.
    fn kept(&self, of: &PageIdentity, saved: RunResult) -> Option<Box<RawValue>> {
        self.log_failure(of, &saved);
        let value = saved.ok().filter(|value| value.get() != "null")?;
        let (page, class, bytes) = (of.page.key, &of.class, value.get().len());
        if bytes > MAX_SAVED {
            tracing::warn!(%page, class, bytes, "an object keeps too much, it is rebuilt from its state trees");
            return None;
        }
        Some(value)
    }

    /// Ends the object of a place with its page. Returns whether there was one.
    async fn end(&self, place: &mut HeldPlace) -> bool {
        let Some(object) = place.take() else { return false };
        let step = StepInput::event(&object.of.class);
        let closed = self.step(&object.of, object.term, step, ObjectStep::Close, &object.seat).await;
        self.log_failure(&object.of, &closed);
        self.terms.end(object.of.page.key);
        self.delete_row(object.of.page.key, object.rev).await;
        self.changed(&object.of, ObjectChange::Closed);
        true
    }

    /// Ends the object of a page that has ended, wherever it is.
    pub(super) async fn close(&self, of: &PageIdentity) -> Result<(), Unreached> {
        let page = of.page.key;
        let mut place = self.places.of(page).write_owned().await;
        let had = self.end(&mut place).await;
        self.places.release(page, place);
        if had {
            return Ok(());
        }
        let Ok(Some((row, rev))) = self.read_row(page).await.map_err(|Unavailable| ()) else {
            // without a row there is no object, and one that cannot be read expires
            return Ok(());
        };
        let lives_elsewhere = row.saved.is_none() && Some(row.worker) != self.lease.worker();
        if lives_elsewhere {
            self.ask(row.worker, page, None).await;
        }
        match self.read_row(page).await {
            Ok(Some((ObjectRow { .. }, now))) if now == rev => self.delete_row(page, rev).await,
            _ => {}
        }
        Ok(())
    }
}
