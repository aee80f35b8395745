//! The check that a holder is dead, before its lease expires.
//!
//! Owns: the probes and the deletion. Never: which holder is checked.

use std::time::Duration;

use crate::engine::{Bucket, Engine, Message, Precondition, RequestError, Unavailable, WriteError};
use crate::timing::Timing;
use crate::wire::{self, Alive};

/// Number of unanswered liveness requests before another process may delete the lease of a dead process.
const DEATH_PROBES: u32 = 3;

/// Returns whether a liveness request met no responder.
pub(super) async fn is_silent(engine: &Engine, subject: &str, within: Duration) -> bool {
    let probe = Message::new(subject, wire::encode(&Alive {}));
    matches!(engine.request(probe, within).await, Err(RequestError::NoResponder))
}

/// Deletes the lease row of a process that has ended: its subject had no responder three times within
/// `Timing::death_confirmation`. Deletes at the revision that was read, so the delete fails if the process has renewed
/// since. Returns whether this call deleted the row.
///
/// # Errors
///
/// [`Unavailable`] when the engine is unavailable or the outcome of the delete is unknown.
pub(crate) async fn evict_silent(
    engine: &Engine,
    timing: Timing,
    subject: &str,
    key: &str,
    rev: u64,
) -> Result<bool, Unavailable> {
    for probe in 0..DEATH_PROBES {
        if probe > 0 {
            tokio::time::sleep(timing.death_confirmation / DEATH_PROBES).await;
        }
        if !is_silent(engine, subject, timing.deliver).await {
            return Ok(false);
        }
    }
    match engine.kv(Bucket::Nodes).delete(key, Precondition::Rev(rev)).await {
        Ok(()) => {
            tracing::warn!(key, "process is dead: no response on its subject, lease deleted");
            Ok(true)
        }
        Err(WriteError::Conflict { .. }) => Ok(false),
        Err(_) => Err(Unavailable),
    }
}
