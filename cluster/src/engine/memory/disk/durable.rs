//! How far each stream is on disk, and who waits for it.
//!
//! Owns: the marks, and waking exactly those operations that a write has reached. Never: the writes (`writer`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{JournalEntry, JournalStream, PLACES};
use crate::engine::Unavailable;

/// An operation that waits for a mark. Dropping the sender tells it that the mark may never be reached.
type WaitingOperation = oneshot::Sender<()>;

#[derive(Debug)]
struct Marks {
    reached: [u64; PLACES],
    /// By mark and ticket.
    waiting: [BTreeMap<(u64, u64), WaitingOperation>; PLACES],
    tickets: u64,
    /// Whether the disk accepts no steps.
    broken: bool,
}

/// The marks up to which the streams are on disk.
#[derive(Debug)]
pub(super) struct DurableMarks(Mutex<Marks>);

impl DurableMarks {
    pub(super) fn new(reached: [u64; PLACES]) -> Self {
        let waiting = std::array::from_fn(|_| BTreeMap::new());
        Self(Mutex::new(Marks { reached, waiting, tickets: 0, broken: false }))
    }

    /// Each change leaves the marks consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the disk accepts no steps.
    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// Sets whether the disk accepts no steps. If so, everything that waits is told.
    pub(super) fn set_broken(&self, broken: bool) {
        let mut marks = self.lock();
        marks.broken = broken;
        if broken {
            let told = std::mem::replace(&mut marks.waiting, std::array::from_fn(|_| BTreeMap::new()));
            drop(marks);
            drop(told);
        }
    }

    /// Records that a group is on disk. Returns how many operations waited for that.
    pub(super) fn advance(&self, group: &[JournalEntry]) -> usize {
        let mut woken = Vec::new();
        {
            let marks = &mut *self.lock();
            for step in group {
                marks.reached[step.place.index()] = step.mark;
            }
            for (reached, waiting) in marks.reached.iter().zip(&mut marks.waiting) {
                let later = waiting.split_off(&(reached + 1, 0));
                woken.extend(std::mem::replace(waiting, later).into_values());
            }
        }
        let count = woken.len();
        for operation in woken {
            // the operation has given up
            let _ = operation.send(());
        }
        count
    }

    /// Waits until a stream is on disk up to a mark. Returns [`Unavailable`] when that may never happen.
    pub(super) async fn reach(
        &self,
        place: JournalStream,
        mark: u64,
        within: Duration,
    ) -> Result<(), Unavailable> {
        let reached = {
            let marks = &mut *self.lock();
            if marks.reached[place.index()] >= mark {
                return Ok(());
            }
            if marks.broken {
                return Err(Unavailable);
            }
            let (operation, reached) = oneshot::channel();
            marks.tickets += 1;
            marks.waiting[place.index()].insert((mark, marks.tickets), operation);
            reached
        };
        match timeout(within, reached).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Unavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::engine::Bucket;

    const LONG: Duration = Duration::from_secs(60);
    const STATE: JournalStream = JournalStream::Bucket(Bucket::State);

    fn step(place: JournalStream, mark: u64) -> JournalEntry {
        JournalEntry { place, mark, changes: Vec::new(), notifications: Vec::new() }
    }

    #[tokio::test]
    async fn a_group_wakes_what_waits_for_it_and_nothing_else() {
        let marks = DurableMarks::new([0; PLACES]);
        let mut waiting: Vec<_> = [(STATE, 1), (STATE, 2), (STATE, 2), (STATE, 3), (JournalStream::Queue, 2)]
            .map(|(place, mark)| Box::pin(marks.reach(place, mark, LONG)))
            .into();
        assert!(waiting.iter_mut().all(|reach| reach.now_or_never().is_none()));
        assert_eq!(marks.advance(&[step(STATE, 1), step(STATE, 2)]), 3);
        let ended: Vec<_> = waiting.iter_mut().map(|reach| reach.now_or_never()).collect();
        assert_eq!(ended, [Some(Ok(())), Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(marks.reach(STATE, 2, LONG).now_or_never(), Some(Ok(())));
        marks.set_broken(true);
        assert_eq!(waiting.pop().unwrap().await, Err(Unavailable));
        assert_eq!(waiting.pop().unwrap().await, Err(Unavailable));
        assert_eq!(marks.reach(STATE, 9, LONG).now_or_never(), Some(Err(Unavailable)));
        assert_eq!(marks.reach(STATE, 2, LONG).now_or_never(), Some(Ok(())), "it is on disk");
        marks.set_broken(false);
        assert!(marks.reach(STATE, 9, LONG).now_or_never().is_none());
    }
}
