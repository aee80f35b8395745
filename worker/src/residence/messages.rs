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
            let had = give_up(&residence, page, seat, why).await;
            // an error means that the asker waits no more
            let _ = left.send(had);
        }
        ObjectMessage::Shrink { executor } => residence.eviction.shrink(executor).await,
        ObjectMessage::LeaveAll { left } => {
            let pages = stream::iter(residence.places.pages());
            pages.for_each_concurrent(LEAVING, |page| leave(&residence, page)).await;
            // an error means that the worker has ended
            let _ = left.send(());
        }
    }
}

/// Puts the object of a page aside and wakes its next worker, because this one drains.
async fn leave(residence: &Residence, page: Key) {
    let mut place = residence.places.of(page).write_owned().await;
    let of = place.as_ref().map(|living| living.of.clone());
    residence.departures.put_aside(&mut place, MoveReason::Drain).await;
    residence.places.release(page, place);
    if let Some(of) = of {
        residence.departures.wake_next(&of).await;
    }
}

/// Lets the object of a page leave this worker, or only the executor of `seat`: then it is made again in another one at once.
/// Returns whether there was one.
async fn give_up(residence: &Arc<Residence>, page: Key, seat: Option<Seat>, why: Option<MoveReason>) -> bool {
    let mut place = residence.places.of(page).write_owned().await;
    let object = place.as_ref().filter(|of| seat.as_ref().is_none_or(|seat| of.seat.is(seat)));
    let of = object.map(|living| living.of.clone());
    if of.is_some() {
        match why {
            Some(why) => residence.departures.put_aside(&mut place, why).await,
            None => residence.departures.end(&mut place).await,
        };
    }
    residence.places.release(page, place);
    if let Some(of) = of.clone().filter(|_| seat.is_some()) {
        residence.make_again(of);
    }
    of.is_some()
}
