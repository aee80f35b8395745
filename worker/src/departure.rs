//! When other processes know that a worker drains.
//!
//! Owns: how long a worker that drains still expects calls of processes that have not seen that. Never: what becomes of
//! such a call.

use futures_util::future::{BoxFuture, FutureExt, Shared};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Jobs;
use pagewire_cluster::worker::Workers;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Resolves when a worker drains and no process sends calls to the groups of its lane any more, because one of them
/// leaves: the engine loses a call that it sends to a member in the moment in which this leaves its group.
pub(crate) type KnownToDrain = Shared<BoxFuture<'static, ()>>;

/// Returns when others know that a worker drains.
pub(crate) fn known_to_drain(jobs: &Jobs, id: Key, mut draining: watch::Receiver<bool>) -> KnownToDrain {
    let (workers, timing) = (jobs.workers.clone(), jobs.timing);
    let known = async move {
        // an error means that the sender is gone, with the worker
        let _ = draining.wait_for(|draining| *draining).await;
        // an engine that is down brings no call
        let _ = timeout(timing.operation, marked(&workers, id)).await;
        sleep(timing.leave_wait).await;
    };
    known.boxed().shared()
}

/// Resolves when this process sees the mark of a worker that drains, as other processes do then: they call another one.
pub(crate) async fn marked(workers: &Workers, id: Key) {
    let seen = |_: &u64| workers.roster().row(id).is_none_or(|row| row.draining);
    // an error means that the view is no longer updated
    let _ = workers.changes().wait_for(seen).await;
}
