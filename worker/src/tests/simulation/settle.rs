//! The end of a simulation.
//!
//! Owns: the end of all faults, and what must hold after it. Never: rules that hold at any time (`history`, `observed`).

use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::engine::{Bucket, Engine};
use pagewire_cluster::job::{Affinity, Record};
use pagewire_cluster::rollout::BASE;
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::{JobPlan, USERS, calm};
use super::process::SimProcess;
use super::world::{CANARY, World};
use super::{PROMPT, SETTLED, TIMING};

impl World {
    /// All faults end, except that a broken link stays so for its time. Every job has to end, and after that new jobs run at once.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        self.faults = calm();
        self.node.engine.process().set_faults(calm());
        self.workers.retain_mut(SimProcess::runs);
        for worker in &self.workers {
            worker.engine.process().set_faults(calm());
            worker.engine.process().resume();
        }
        let serves =
            |lane: &str| self.workers.iter().any(|worker| worker.lane == lane && !*worker.draining.borrow());
        let (base, canary) = (serves(BASE), serves(CANARY));
        if !base {
            self.start(BASE);
        }
        if self.weight > 0 && self.schedule.canary_ends {
            self.weight = 0;
        } else if self.weight > 0 && !canary {
            self.start(CANARY);
        }
        // the last submissions and changes of the weight are written or given up by then
        sleep(TIMING.deliver * 2).await;
        self.set_weight(self.weight);
        self.wait(SETTLED).await?;
        sleep_until(self.linked_at).await;
        // a worker that was killed is known to be dead by then
        sleep(TIMING.lease_ttl).await;
        for user in 0..USERS {
            self.submit(JobPlan::now(Affinity::Assigned, user));
            self.submit(JobPlan::now(Affinity::Free, user));
        }
        sleep(Duration::from_millis(100)).await;
        self.wait(PROMPT).await?;
        self.check_ends()
    }

    /// Waits until every job that is due has ended and the page knows it.
    async fn wait(&self, most: Duration) -> Result<(), String> {
        let until = Instant::now() + most;
        loop {
            let open = {
                let facts = self.observed.lock();
                if let Some(violation) = &facts.violation {
                    return Err(violation.clone());
                }
                let is_told =
                    |record: &Record| record.askers.is_empty() || facts.told.contains_key(&record.id);
                let mut expected = facts.history.expected();
                expected.find(|record| !record.state.is_terminal() || !is_told(record)).cloned()
            };
            match open {
                None => return Ok(()),
                Some(open) if Instant::now() >= until => {
                    let state = self.state().await;
                    return Err(format!("{most:?} later: {open:?} is open or its page not told; {state}"));
                }
                Some(_) => sleep(Duration::from_millis(250)).await,
            }
        }
    }

    /// Returns what a person needs to know of the processes and their rows.
    async fn state(&self) -> String {
        let workers: Vec<String> = self
            .workers
            .iter()
            .map(|worker| {
                format!("{} in {}, draining {}", worker.number, worker.lane, *worker.draining.borrow())
            })
            .collect();
        let engine = Engine::Memory(self.memory.clone());
        let mut rows = engine.kv(Bucket::Nodes).list("").await.unwrap_or_default();
        for prefix in ["turn.", "open."] {
            rows.extend(engine.kv(Bucket::Jobs).list(prefix).await.unwrap_or_default());
        }
        let rows: Vec<String> = rows
            .iter()
            .map(|row| format!("{} at {}: {:?} {:?}", row.key, row.rev, row.value, row.meta))
            .collect();
        format!("canary at {} %\nworkers: {workers:#?}\nrows: {rows:#?}", self.weight)
    }

    fn check_ends(&self) -> Result<(), String> {
        let facts = self.observed.lock();
        for record in facts.history.expected() {
            facts.history.check_end(record)?;
            let ends = facts.history.ends.get(&record.id).into_iter().flatten();
            let ends: Vec<&str> = ends.map(|state| state.text()).collect();
            let told = facts.told.get(&record.id).into_iter().flatten();
            if let Some(wrong) = told.into_iter().find(|told| !ends.contains(&told.as_str())) {
                return Err(format!("the page was told of another end than {ends:?}: {wrong}"));
            }
        }
        let later = facts.history.records.values().filter(|record| record.due > clock::unix_ms());
        match later.into_iter().find(|record| record.attempts > 0) {
            Some(record) => Err(format!("a job for later has begun: {record:?}")),
            None => Ok(()),
        }
    }
}
