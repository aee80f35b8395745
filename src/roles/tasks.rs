//! The background tasks of a process.
//!
//! Owns: every task of a role, its name and what its end means. Never: what a task does. A task whose end is not
//! noticed leaves a process that looks well and does half of its work.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the end of a task means before the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// The role cannot work without it: the node becomes unready and drains.
    Vital,
    /// Its work ends by itself; only a panic is an error, and it is logged.
    Finite,
}

/// A vital task that ended although the process was not stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskFailure {
    /// The task's name.
    pub(crate) name: &'static str,
    /// It panicked; otherwise it returned.
    pub(crate) panicked: bool,
}

/// The ticks of a periodic task, the first one at once. A late tick delays the ones after it.
pub(super) fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The tasks of one process. Cheap to clone; all clones supervise the same tasks.
#[derive(Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: watch::Sender<Option<TaskFailure>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            failure: watch::Sender::new(None),
        }
    }
}

impl Tasks {
    /// Runs a task that is dropped when the process stops.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        kind: TaskKind,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.spawn_graceful(name, kind, async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Runs a task that ends by itself after [`Tasks::stopping`]; [`Tasks::shutdown`] waits for it.
    pub(crate) fn spawn_graceful(
        &self,
        name: &'static str,
        kind: TaskKind,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stop, failure) = (self.stop.clone(), self.failure.clone());
        self.tracker.spawn(async move {
            let panicked = AssertUnwindSafe(task).catch_unwind().await.is_err();
            if stop.is_cancelled() && !panicked {
                return;
            }
            if panicked {
                tracing::error!(task = name, "a task panicked");
            }
            if kind == TaskKind::Vital {
                tracing::error!(task = name, "a task that this process needs has ended");
                // the first failure is the cause
                failure.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(TaskFailure { name, panicked });
                    is_first
                });
            }
        });
    }

    /// Stops every task without waiting.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Cancelled when the process stops.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns the first vital task that ends before the process stops; waits for it.
    pub(crate) async fn failed(&self) -> TaskFailure {
        let mut failure = self.failure.subscribe();
        loop {
            if let Some(failure) = *failure.borrow_and_update() {
                return failure;
            }
            if failure.changed().await.is_err() {
                // `self` keeps the sender alive
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops every task and waits for the graceful ones.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_panics_or_returns_is_a_failure_with_its_name() {
        for panics in [true, false] {
            let tasks = Tasks::default();
            tasks.spawn("lease", TaskKind::Vital, async move { assert!(!panics, "a fault of this test") });
            assert_eq!(tasks.failed().await, TaskFailure { name: "lease", panicked: panics });
        }
    }

    #[tokio::test]
    async fn a_finite_task_that_ends_is_no_failure_and_shutdown_waits_for_graceful_ones() {
        let tasks = Tasks::default();
        tasks.spawn("catch up", TaskKind::Finite, async {});
        tasks.spawn("view", TaskKind::Vital, std::future::pending());
        let (stop, (done, released)) = (tasks.stopping(), tokio::sync::oneshot::channel());
        tasks.spawn_graceful("lease", TaskKind::Vital, async move {
            stop.cancelled().await;
            tokio::task::yield_now().await;
            let _ = done.send(());
        });
        tasks.shutdown().await;
        released.await.unwrap();
        assert_eq!(tasks.failed().now_or_never(), None);
    }
}
