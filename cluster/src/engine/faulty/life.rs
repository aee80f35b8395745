//! The life of a process: it runs, is suspended, or was killed.
//!
//! Owns: when an operation of the process may begin and return. Never: the outcome of an operation.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::simulation::FaultRng;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Suspended,
    Killed,
}

/// The life of one process, and how long its operations take.
#[derive(Debug)]
pub(super) struct ProcessLife {
    life: watch::Sender<Life>,
    /// A generator of its own, so that latencies change no fault.
    rng: Mutex<FaultRng>,
}

impl ProcessLife {
    pub(super) fn new(seed: u64) -> Self {
        let rng = Mutex::new(FaultRng::new(seed.rotate_left(32)));
        Self { life: watch::Sender::new(Life::Running), rng }
    }

    pub(super) fn suspend(&self) {
        self.set(Life::Suspended);
    }

    pub(super) fn resume(&self) {
        self.set(Life::Running);
    }

    pub(super) fn kill(&self) {
        self.set(Life::Killed);
    }

    /// A process that was killed stays so.
    fn set(&self, next: Life) {
        self.life.send_if_modified(|life| {
            let changes = *life != Life::Killed && *life != next;
            if changes {
                *life = next;
            }
            changes
        });
    }

    pub(super) fn is_killed(&self) -> bool {
        *self.life.borrow() == Life::Killed
    }

    /// Waits for the latency of an operation, and while the process is suspended. Never returns after its end.
    pub(super) async fn pass(&self, latency_ms: u16) {
        if latency_ms > 0 {
            let latency =
                self.rng.lock().unwrap_or_else(PoisonError::into_inner).below(1 + u64::from(latency_ms));
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        self.running().await;
    }

    /// Waits while the process is suspended. Never returns after its end.
    pub(super) async fn running(&self) {
        if *self.life.borrow() != Life::Running {
            // never an error: the sender is borrowed
            drop(self.life.subscribe().wait_for(|life| *life == Life::Running).await);
        }
    }

    /// Runs an operation that ends with the process: a process that was killed takes nothing from a queue any more.
    pub(super) async fn until_killed<T>(&self, operation: impl Future<Output = T>) -> T {
        tokio::pin!(operation);
        let mut life = self.life.subscribe();
        tokio::select! {
            biased;
            outcome = &mut operation => outcome,
            () = async { drop(life.wait_for(|life| *life == Life::Killed).await) } => std::future::pending().await,
        }
    }
}
