//! The thread that writes.
//!
//! Owns: grouping what waits into one transaction, and what happens when the disk refuses it. Never blocks the
//! runtime, and never takes a lock of the engine.
//!
//! A full disk is waited out: steps are kept and tried again, and the engine is down meanwhile. After any other error
//! nobody can say what the disk holds, so the engine stays down until the process is started again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch as channel;

use super::store::{Open, Store, is_full};
use super::{Reached, Step};
use crate::engine::Link;

/// The most steps of one transaction.
const GROUP: usize = 4096;
/// How often a full disk is tried again.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Writer<O> {
    pub(super) store: Store<O>,
    pub(super) steps: Receiver<Step>,
    pub(super) reached: channel::Sender<Reached>,
    pub(super) link: Arc<channel::Sender<Link>>,
    pub(super) path: PathBuf,
}

impl<O: Open> Writer<O> {
    /// Writes until the engine is gone.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.steps.recv() {
            let mut group = vec![first];
            group.extend(self.steps.try_iter().take(GROUP));
            if let Err(error) = self.keep(&mut group) {
                self.give_up(&error);
                // nothing of this is kept, and nobody is told of it
                while self.steps.recv().is_ok() {}
                return;
            }
            self.tell(group);
        }
    }

    /// Writes a group, however long the disk is full. The group grows by what comes meanwhile.
    fn keep(&mut self, group: &mut Vec<Step>) -> Result<(), redb::Error> {
        let mut begun = None;
        loop {
            match self.store.write(group) {
                Ok(()) => break,
                Err(error) if is_full(&error) => {
                    begun.get_or_insert_with(|| self.full(&error));
                    if self.pause(group).is_err() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(generation) = begun {
            tracing::info!(path = %self.path.display(), "the disk takes writes again");
            self.reached.send_modify(|reached| reached.broken = false);
            self.link.send_replace(Link::Up { generation: generation + 1 });
        }
        Ok(())
    }

    /// Says that the disk is full; the generation of the link that ended with that.
    fn full(&self, error: &redb::Error) -> u64 {
        tracing::error!(path = %self.path.display(), %error, "the disk is full: nothing is written until it has room");
        let generation = match *self.link.borrow() {
            Link::Up { generation } => generation,
            Link::Down { .. } => 0,
        };
        self.go_down();
        generation
    }

    fn give_up(&self, error: &redb::Error) {
        tracing::error!(
            path = %self.path.display(),
            %error,
            "the disk failed: nothing is written any more; see to the disk, then start this process again"
        );
        self.go_down();
    }

    fn go_down(&self) {
        self.reached.send_modify(|reached| reached.broken = true);
        self.link.send_replace(Link::Down { since: Instant::now() });
    }

    /// An error: the engine is gone.
    fn pause(&self, group: &mut Vec<Step>) -> Result<(), ()> {
        let until = Instant::now() + PAUSE;
        loop {
            match self.steps.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(step) => group.push(step),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(()),
            }
        }
    }

    /// Watches first: who hears of its own write may look at what a watch was told.
    fn tell(&self, group: Vec<Step>) {
        let marks: Vec<_> = group.iter().map(|step| (step.place, step.mark)).collect();
        for (watcher, event) in group.into_iter().flat_map(|step| step.notices) {
            // a dropped watch is forgotten when the next one starts
            let _ = watcher.send(event);
        }
        self.reached.send_modify(|reached| {
            for (place, mark) in marks {
                reached.marks[place.index()] = mark;
            }
        });
    }
}
