//! The thread that writes to the log.
//!
//! Owns: grouping waiting steps into one frame, the begin of each checkpoint, and the handling of disk errors. Never blocks
//! the runtime, and never takes a lock of the engine.
//!
//! When the disk is full, the writer keeps the steps and retries; the engine is down meanwhile. After any
//! other error the content of the disk is unknown, so the engine stays down until the process is restarted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch as channel;

use super::JournalEntry;
use super::checkpoint::Checkpoints;
use super::durable::DurableMarks;
use super::log::Log;
use super::pending::PendingChanges;
use super::store::is_full;
use crate::engine::ConnectionState;

/// The most waiting steps that are taken into one frame at a time.
const GROUP: usize = 4096;
/// How many operations the group before has to have woken, so that the next one waits for their next steps.
const BURST: usize = 4;
/// How long it waits: much less than a sync takes, which it saves for each of them that comes in time.
const GATHERING: Duration = Duration::from_micros(50);
/// The interval of the attempts to write to a full disk.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct JournalWriter {
    pub(super) log: Log,
    pub(super) checkpoints: Checkpoints,
    /// The changes of the current file of the log.
    pub(super) pending: PendingChanges,
    pub(super) steps: Receiver<JournalEntry>,
    pub(super) reached: Arc<DurableMarks>,
    pub(super) link: Arc<channel::Sender<ConnectionState>>,
    pub(super) path: PathBuf,
}

impl JournalWriter {
    /// Writes until the engine is dropped, and then the rest of the log to the store.
    pub(super) fn run(mut self) {
        let mut woken = 0;
        while let Ok(first) = self.steps.recv() {
            if woken >= BURST {
                std::thread::sleep(GATHERING);
            }
            let mut group = vec![first];
            group.extend(self.steps.try_iter().take(GROUP));
            if let Err(error) = self.keep(&mut group) {
                return self.stop(&error);
            }
            woken = self.notify_watchers(group);
            if self.log.is_full()
                && let Err(error) = self.checkpoint()
            {
                return self.stop(&error);
            }
        }
        if !self.pending.is_empty() {
            self.checkpoints.begin(std::mem::take(&mut self.pending), self.log.last());
        }
        self.checkpoints.end();
    }

    /// Hands the changes of the current file of the log over to the store, if the other file is free.
    fn checkpoint(&mut self) -> Result<(), redb::Error> {
        if self.checkpoints.is_idle()? {
            self.checkpoints.begin(std::mem::take(&mut self.pending), self.log.last());
            self.log.switch();
        }
        Ok(())
    }

    /// Writes a group and retries while the disk is full. Steps that arrive meanwhile join the group.
    fn keep(&mut self, group: &mut Vec<JournalEntry>) -> Result<(), redb::Error> {
        let mut begun = None;
        loop {
            match self.log.append(group).map_err(redb::Error::from) {
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
            tracing::info!(path = %self.path.display(), "the disk accepts writes again");
            self.reached.set_broken(false);
            self.link.send_replace(ConnectionState::Up { generation: generation + 1 });
        }
        Ok(())
    }

    /// Logs that the disk is full and sets the link down. Returns the generation of the link before.
    fn full(&self, error: &redb::Error) -> u64 {
        tracing::error!(path = %self.path.display(), %error, "the disk is full: nothing is written until it has room");
        let generation = match *self.link.borrow() {
            ConnectionState::Up { generation } => generation,
            ConnectionState::Down { .. } => 0,
        };
        self.set_unavailable();
        generation
    }

    /// Discards the steps that still arrive; the operations that wait for them get `Unavailable`.
    fn stop(&self, error: &redb::Error) {
        tracing::error!(
            path = %self.path.display(),
            %error,
            "the disk failed: nothing is written any more; repair the disk, then restart this process"
        );
        self.set_unavailable();
        while self.steps.recv().is_ok() {}
    }

    fn set_unavailable(&self) {
        self.reached.set_broken(true);
        self.link.send_replace(ConnectionState::Down { since: Instant::now() });
    }

    /// Collects steps for the duration of one interval. Returns an error when the engine was dropped.
    fn pause(&self, group: &mut Vec<JournalEntry>) -> Result<(), ()> {
        let until = Instant::now() + PAUSE;
        loop {
            match self.steps.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(step) => group.push(step),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(()),
            }
        }
    }

    /// Notifies the watches, then the waiting writers, so that a writer that returns can rely on every watch
    /// having received its write. Returns how many writers waited.
    fn notify_watchers(&mut self, mut group: Vec<JournalEntry>) -> usize {
        for (watcher, event) in group.iter_mut().flat_map(|step| step.notifications.drain(..)) {
            // the watch was dropped; it is removed when the next watch starts
            let _ = watcher.send(event);
        }
        let woken = self.reached.advance(&group);
        group.into_iter().for_each(|step| self.pending.add(step));
        woken
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        // nothing that still waits will be on disk, after a panic either
        self.reached.set_broken(true);
    }
}
