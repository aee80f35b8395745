//! The turn of a user, as a worker sees it, and the operations and outcomes of its protocol.

use pagewire_cluster::engine::{Entry, Precondition, Put, Unavailable, WriteError};
use pagewire_cluster::job::{NamedAttempt, Record, StoredJob};
use pagewire_cluster::worker::WorkerId;

/// A turn row of this worker, as it wrote or read the row last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Revision of the row.
    pub(crate) rev: u64,
    /// Term of this worker.
    pub(crate) term: u64,
    /// The attempt that the row names.
    pub(crate) named: Option<NamedAttempt>,
    /// Whether no write can claim the named attempt any more.
    pub(crate) settled: bool,
}

/// The next operation of the protocol.
#[derive(Debug)]
pub(crate) enum TurnStep {
    /// Read the latest entry of this key.
    Read(String),
    /// Write.
    Write(Put),
    /// Delete the turn row.
    Delete(String, Precondition),
    /// Check whether this incarnation of a worker is alive.
    Check(WorkerId),
    /// The protocol has ended.
    Done(TurnOutcome),
}

/// The result of an operation.
#[derive(Debug)]
pub(crate) enum StepResult {
    /// There was no operation yet.
    Start,
    /// The result of a read.
    Read(Result<Option<Entry>, Unavailable>),
    /// The result of a write.
    Written(Result<u64, WriteError>),
    /// The result of a delete.
    Deleted(Result<(), WriteError>),
    /// Whether the worker is alive; `None` if that cannot be determined now.
    Checked(Option<bool>),
}

/// How the protocol has ended.
#[derive(Debug)]
pub(crate) enum TurnOutcome {
    /// This worker owns the user.
    Owned,
    /// This worker does not own the user any more.
    Released,
    /// This worker owns the user and has claimed the job. The record after the claim.
    Claimed(Box<StoredJob>),
    /// Another living worker owns the user.
    Elsewhere(WorkerId),
    /// The attempt that the row names runs, according to this record.
    Blocked(Box<StoredJob>),
    /// Another writer was faster: the caller reads the job again.
    Moved,
    /// The engine does not reply. The next worker settles an unknown write.
    Unavailable,
}

/// A claim of a job: the write, and the record after it.
#[derive(Debug)]
pub(crate) struct ClaimWrite {
    pub(crate) put: Put,
    pub(crate) record: Record,
}

/// What a run of the protocol is for.
#[derive(Debug)]
pub(crate) enum TurnGoal {
    /// To own a user for calls.
    Own,
    /// To own a user and to claim a job of the user.
    Claim(Box<ClaimWrite>),
    /// To give a user up. An attempt that the row names and that may still be claimed is settled before.
    Release,
}

impl TurnGoal {
    pub(crate) fn claim(&self) -> Option<&ClaimWrite> {
        match self {
            Self::Claim(claim) => Some(claim),
            Self::Own | Self::Release => None,
        }
    }
}
