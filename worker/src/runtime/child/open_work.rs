//! The work that runs in a child, by id.
//!
//! Owns: each piece of work until the child has ended it, with its slot. Never: the socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::pool::Credit;
use crate::effects::Effects;
use crate::handlers::{HandlerInput, RunResult, WorkUnit};
use crate::outgoing::WorkIdentity;
use crate::reporter::Reporter;

/// The work that runs.
#[derive(Default)]
pub(super) struct OpenWork {
    by_id: HashMap<u64, RunningPiece>,
    /// Whether no more work is accepted, because the child is gone.
    is_closed: bool,
}

/// In whose name a request is made: a piece of work, or an application.
pub(super) struct Requester {
    pub(super) effects: Effects,
    pub(super) identity: WorkIdentity,
}

/// A piece of work that runs in the child, until the child has ended it.
pub(super) struct RunningPiece {
    pub(super) method: String,
    pub(super) is_job: bool,
    pub(super) reporter: Reporter,
    pub(super) requester: Arc<Requester>,
    /// Receiver of the end; it may be gone.
    end: oneshot::Sender<RunResult>,
    /// When the child was asked to stop it.
    stopping: Option<Instant>,
    _credit: Credit,
}

impl RunningPiece {
    /// Creates a piece of work, and the receiver of its end.
    pub(super) fn new(
        method: &str,
        input: &HandlerInput,
        until: Instant,
        credit: Credit,
    ) -> (Self, oneshot::Receiver<RunResult>) {
        let (end, ended) = oneshot::channel();
        let identity = WorkIdentity { until: Some(until), ..input.identity() };
        let piece = Self {
            method: method.to_owned(),
            is_job: input.unit != WorkUnit::Call,
            reporter: input.reporter.clone(),
            requester: Arc::new(Requester { effects: input.effects.clone(), identity }),
            end,
            stopping: None,
            _credit: credit,
        };
        (piece, ended)
    }

    /// Reports the end of the work and gives its slot back.
    pub(super) fn end(self, result: RunResult) {
        // an error means that the receiver is gone, because the work was cancelled
        let _ = self.end.send(result);
    }
}

impl OpenWork {
    /// Adds a piece of work. Returns `false` when the child accepts no more.
    pub(super) fn begin(&mut self, id: u64, piece: RunningPiece) -> bool {
        if !self.is_closed {
            self.by_id.insert(id, piece);
        }
        !self.is_closed
    }

    /// Returns a piece of work.
    pub(super) fn get(&self, id: u64) -> Option<&RunningPiece> {
        self.by_id.get(&id)
    }

    /// Notes that a piece of work is asked to stop. Returns `false` if it has ended.
    pub(super) fn stop(&mut self, id: u64) -> bool {
        let piece = self.by_id.get_mut(&id);
        piece.map(|piece| piece.stopping.get_or_insert_with(Instant::now)).is_some()
    }

    /// Removes a piece of work that has ended.
    pub(super) fn take(&mut self, id: u64) -> Option<RunningPiece> {
        self.by_id.remove(&id)
    }

    /// Removes all work. No more is accepted.
    pub(super) fn close(&mut self) -> Vec<RunningPiece> {
        self.is_closed = true;
        std::mem::take(&mut self.by_id).into_values().collect()
    }

    /// Returns the handler of work that was asked to stop at least this long ago.
    pub(super) fn overdue(&self, limit: Duration) -> Option<&str> {
        let is_overdue = |piece: &&RunningPiece| piece.stopping.is_some_and(|since| since.elapsed() >= limit);
        self.by_id.values().find(is_overdue).map(|piece| piece.method.as_str())
    }

    /// Returns whether no work runs.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
