//! Workers that stop at a chosen moment.
//!
//! Owns: which write a worker stops after, and what becomes of it then. Never: when (`plan`).

use std::time::Duration;

use futures_util::future::select_ok;
use pagewire_cluster::engine::Faulty;
use pagewire_cluster::subject::job_key;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::super::turn_key;
use super::world::World;

impl World {
    pub(super) fn suspend(&mut self, which: u64, length: Duration) {
        let Some(at) = Self::pick(&self.workers, which) else { return };
        let worker = &self.workers[at];
        self.observed.disturb(worker.number, length);
        let engine = worker.engine.clone();
        engine.process().suspend();
        tokio::spawn(async move {
            sleep(length).await;
            engine.process().resume();
        });
    }

    /// Suspends or kills a worker right after its next write of that kind.
    pub(super) fn ambush(&mut self, which: u64, turn: bool, suspend_ms: Option<u64>) {
        let Some(at) = Self::pick(&self.workers, which) else { return };
        let (engine, number) = (self.workers[at].engine.clone(), self.workers[at].number);
        let observed = self.observed.clone();
        let suspended = engine.process().suspend_after(if turn { job_key::TURNS } else { job_key::JOBS });
        tokio::spawn(async move {
            if suspended.await.is_err() {
                return;
            }
            match suspend_ms.map(Duration::from_millis) {
                Some(length) => {
                    observed.disturb(number, length);
                    sleep(length).await;
                    engine.process().resume();
                }
                None => {
                    observed.killed(number);
                    engine.process().kill();
                }
            }
        });
    }

    /// Suspends the first worker that writes the turn row of a user.
    pub(super) fn late_claim(&self, user: &str, length: Duration) {
        let (key, faults, observed) = (turn_key(user), self.faults, self.observed.clone());
        let engines: Vec<(u64, Faulty)> =
            self.workers.iter().map(|worker| (worker.number, worker.engine.clone())).collect();
        let written: Vec<_> =
            engines.iter().map(|(_, engine)| engine.process().suspend_after(&key)).collect();
        tokio::spawn(async move {
            let Ok(first) = first_written(written).await else { return };
            for (at, (number, engine)) in engines.iter().enumerate() {
                if at == first {
                    observed.disturb(*number, length);
                } else {
                    engine.process().set_faults(faults);
                }
            }
            sleep(length).await;
            engines[first].1.process().resume();
        });
    }
}

/// Returns the position of the first write, or an error when none of them happens.
async fn first_written(written: Vec<oneshot::Receiver<()>>) -> Result<usize, oneshot::error::RecvError> {
    let indexed = written.into_iter().enumerate();
    let writes = indexed.map(|(at, write)| Box::pin(async move { write.await.map(|()| at) }));
    Ok(select_ok(writes).await?.0)
}
