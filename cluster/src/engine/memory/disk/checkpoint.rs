//! The thread that brings the steps of the log into the store.
//!
//! Owns: the store while the engine runs, and the repetition of a write to a full disk. Never: the log, or the operations
//! that wait for it: what the log has is on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::pending::PendingChanges;
use super::store::{JournalStore, StoreState, is_full};
use super::writer::PAUSE;

/// Changes to store, and the number of the last frame that they come from.
struct Checkpoint {
    changes: PendingChanges,
    last: u64,
}

/// The writer's end of the thread.
pub(super) struct Checkpoints {
    /// `None` after the end.
    work: Option<Sender<Checkpoint>>,
    done: Receiver<Result<(), redb::Error>>,
    thread: Option<JoinHandle<()>>,
    running: bool,
    /// Whether the engine ends.
    ending: Arc<AtomicBool>,
}

impl Checkpoints {
    /// Starts the thread, which owns the store from now on.
    pub(super) fn start<O: StoreState>(store: JournalStore<O>) -> std::io::Result<Self> {
        let (work, waiting) = channel();
        let (ended, done) = channel();
        let ending = Arc::<AtomicBool>::default();
        let is_ending = ending.clone();
        let run = move || write_all(store, &waiting, &ended, &is_ending);
        let thread = std::thread::Builder::new().name("pagewire-store".to_owned()).spawn(run)?;
        Ok(Self { work: Some(work), done, thread: Some(thread), running: false, ending })
    }

    /// Returns whether a checkpoint may begin: the one before it has ended.
    ///
    /// # Errors
    ///
    /// The error of the one before it: nothing is stored any more.
    pub(super) fn is_idle(&mut self) -> Result<bool, redb::Error> {
        if self.running
            && let Ok(outcome) = self.done.try_recv()
        {
            self.running = false;
            outcome?;
        }
        Ok(!self.running)
    }

    /// Begins to store changes, which come from the frames up to `last`.
    pub(super) fn begin(&mut self, changes: PendingChanges, last: u64) {
        if let Some(work) = &self.work {
            // an error means that the thread has ended, which `is_idle` reports
            self.running = work.send(Checkpoint { changes, last }).is_ok();
        }
    }

    /// Waits until everything is stored and the thread has ended. What a full disk does not take stays in the log, from which
    /// the next start reads it.
    pub(super) fn end(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // an error means that the thread panicked, and the panic was reported already
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.end();
    }
}

fn write_all<O: StoreState>(
    mut store: JournalStore<O>,
    waiting: &Receiver<Checkpoint>,
    ended: &Sender<Result<(), redb::Error>>,
    is_ending: &AtomicBool,
) {
    while let Ok(Checkpoint { changes, last }) = waiting.recv() {
        let outcome = loop {
            match store.write(&changes, last) {
                Err(error) if is_full(&error) && !is_ending.load(Ordering::Relaxed) => {
                    std::thread::sleep(PAUSE);
                }
                outcome => break outcome,
            }
        };
        let failed = outcome.is_err();
        // an error means that the writer has ended
        if ended.send(outcome).is_err() || failed {
            return;
        }
    }
}
