//! The objects of resident pages in the children of a pool.
//!
//! Owns: which child each object lives in, and what becomes of the objects of a child that ends. Never: which worker has an
//! object (`residence`).

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::wire::MoveReason;
use tokio::sync::oneshot;

use super::members::SeatedTake;
use super::pool::{Credit, PoolShared};
use super::session::Session;
use crate::object::{ObjectMessage, ObjectStep, ObjectWork, Seat};

/// The objects in the children of a pool.
pub(super) struct PoolObjects<'a>(pub(super) &'a Arc<PoolShared>);

impl PoolObjects<'_> {
    /// Waits for a slot of the child of an object. Returns `None` when the child is gone.
    pub(super) async fn take_seat(&self, child: u64) -> Option<(Arc<Session>, Credit)> {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let taken = self.0.lock().take_at(child);
            match taken {
                SeatedTake::Taken(session) => {
                    return Some((session, Credit::new(self.0.clone(), child, 1, None)));
                }
                SeatedTake::Gone => return None,
                SeatedTake::Full => changed.await,
            }
        }
    }

    /// Records what a step has done with an object.
    pub(super) fn step_ended(&self, child: u64, work: &ObjectWork, has_succeeded: bool) {
        let seat = &work.seat;
        match work.step {
            ObjectStep::Open | ObjectStep::Restore { .. } if has_succeeded => {
                seat.take(child);
                let closed = self.0.lock().seat(child, seat);
                match closed {
                    Some(false) => {}
                    Some(true) => drop(ask_to_leave(seat, MoveReason::Recycle)),
                    None => seat.died(),
                }
            }
            ObjectStep::Save { .. } | ObjectStep::Close => {
                self.0.lock().unseat(child, seat);
                self.0.changed.notify_waiters();
            }
            _ => {}
        }
    }

    /// Asks all objects of a child to leave, and waits until they have left, at most for `within`.
    pub(super) async fn left(&self, child: u64, within: Duration) {
        let seats: Vec<Seat> = {
            let mut state = self.0.lock();
            state.member(child).map(|member| member.objects.values().cloned().collect()).unwrap_or_default()
        };
        let leaving: Vec<_> = seats.iter().map(|seat| ask_to_leave(seat, MoveReason::Recycle)).collect();
        let left = async {
            for left in leaving {
                // an error means that the worker of the object has ended
                let _ = left.await;
            }
        };
        // an error means that some objects are lost with their child
        let _ = tokio::time::timeout(within, left).await;
    }

    /// Asks a part of the objects of a child to leave.
    pub(super) fn shrink(&self, child: u64) {
        let seat = self.0.lock().member(child).and_then(|member| member.objects.values().next().cloned());
        if let Some(seat) = seat {
            seat.send(ObjectMessage::Shrink { executor: child });
        }
    }
}

/// Asks an object to leave its child. The receiver resolves when it has.
fn ask_to_leave(seat: &Seat, why: MoveReason) -> oneshot::Receiver<bool> {
    let (left, has_left) = oneshot::channel();
    seat.send(ObjectMessage::Leave { page: seat.page(), seat: Some(seat.clone()), why: Some(why), left });
    has_left
}
