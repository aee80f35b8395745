//! Workers that stop at a chosen moment.
//!
//! Owns: which write a worker stops after, and what becomes of it then. Never: when (`plan`).

use std::time::Duration;

use futures_util::future::select_ok;
use pagewire_cluster::engine::Faulty;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, JobState, Record};
use pagewire_cluster::subject::job_key;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::super::turn_key;
use super::plan::{Does, JobPlan};
use super::world::{MOST_AMBUSH, World};

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

    /// Suspends the worker that ends a job of a user right after it has written the end, and runs the job again.
    pub(super) async fn late_end(&mut self, user: u64, length: Duration, crash: bool) {
        let plan = JobPlan::now(Affinity::Assigned, user);
        let (does, runs_ms) = (Does::Fatal, 500);
        self.submit(JobPlan { does, runs_ms, ..plan.clone() });
        let begun = timeout(MOST_AMBUSH, self.running(&plan.user, does)).await;
        let Ok(job) = begun else { return };
        let key = job_key::job(job);
        let written: Vec<_> =
            self.workers.iter().map(|worker| worker.engine.process().suspend_after(&key)).collect();
        let ended = timeout(MOST_AMBUSH, first_written(written)).await;
        let first = ended.ok().and_then(Result::ok);
        for (at, worker) in self.workers.iter().enumerate() {
            match first == Some(at) {
                true => self.observed.disturb(worker.number, length),
                false => worker.engine.process().set_faults(self.faults),
            }
        }
        let Some(first) = first else { return };
        let engine = self.workers[first].engine.clone();
        tokio::spawn(async move {
            sleep(length).await;
            engine.process().resume();
        });
        match crash {
            true => self.replace_node_after_write(&key, |world| world.operate_on(job, false)).await,
            false => self.operate_on(job, false),
        }
    }

    /// Returns a job of a user that runs, as soon as there is one whose handler does this.
    async fn running(&self, user: &str, does: Does) -> Key {
        let fits = |record: &&Record| {
            record.state == JobState::Running
                && record.affinity == Affinity::Assigned
                && record.user.as_deref() == Some(user)
                && record.kind == does.kind()
        };
        loop {
            let running = self.observed.lock().history.records.values().find(fits).map(|record| record.id);
            match running {
                Some(job) => return job,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// Returns the position of the first write, or an error when none of them happens.
async fn first_written(written: Vec<oneshot::Receiver<()>>) -> Result<usize, oneshot::error::RecvError> {
    let indexed = written.into_iter().enumerate();
    let writes = indexed.map(|(at, write)| Box::pin(async move { write.await.map(|()| at) }));
    Ok(select_ok(writes).await?.0)
}
