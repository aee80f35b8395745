//! The messages of runtimes and of other workers about objects.
//!
//! Owns: what each message causes. Never: how an object comes or leaves (`arrival`, `departure`).

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use pagewire_cluster::id::Key;
use pagewire_cluster::wire::MoveReason;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::Residence;
use super::identity::PageIdentity;
use crate::object::{ObjectMessage, Seat};

/// Objects that leave at the same time.
const LEAVING: usize = 64;

/// Handles messages until the worker has ended, each in its own task, and looks for objects that are not used.
pub(crate) async fn follow(residence: Arc<Residence>, mut messages: mpsc::UnboundedReceiver<ObjectMessage>) {
    let mut sweep = interval(residence.eviction.limits.pause());
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => drop(tokio::spawn(handle(residence.clone(), message))),
                None => return,
            },
            _ = sweep.tick() => drop(tokio::spawn(residence.eviction.clone().sweep())),
        }
    }
}

async fn handle(residence: Arc<Residence>, message: ObjectMessage) {
    match message {
        ObjectMessage::Died(seat) => residence.lost(&seat).await,
        ObjectMessage::Leave { page, seat, why, left } => {
            let gone = give_up(&residence, page, seat.as_ref(), why).await;
            let had = gone.is_some();
            // an executor that is replaced has a successor in this worker
            if let Some(of) = gone.filter(|_| seat.is_some()) {
                residence.make_again(of);
            }
            // an error means that the asker waits no more
            let _ = left.send(had);
        }
        ObjectMessage::Shrink { executor } => residence.eviction.shrink(executor).await,
        ObjectMessage::LeaveAll { left } => {
            let pages = stream::iter(residence.places.pages());
            let leaving = pages.for_each_concurrent(LEAVING, async |page| {
                if let Some(of) = give_up(&residence, page, None, Some(MoveReason::Drain)).await {
                    residence.departures.wake_next(&of).await;
                }
            });
            leaving.await;
            // an error means that the worker has ended
            let _ = left.send(());
        }
    }
}

/// Lets the object of a page leave this worker; with `seat`, only one in that executor. Returns its page if there was one.
async fn give_up(
    residence: &Residence,
    page: Key,
    seat: Option<&Seat>,
    why: Option<MoveReason>,
) -> Option<PageIdentity> {
    let mut place = residence.places.of(page).write_owned().await;
    let living = place.as_ref().filter(|living| seat.is_none_or(|seat| living.seat.is(seat)));
    let of = living.map(|living| living.of.clone());
    if of.is_some() {
        match why {
            Some(why) => residence.departures.put_aside(&mut place, why).await,
            None => residence.departures.end(&mut place).await,
        };
    }
    residence.places.release(page, place);
    of
}
