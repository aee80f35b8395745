//! One simulation: the processes on one engine, and the schedule.
//!
//! Owns: carrying out the events of a schedule. Never: the rules (`history`, `observed`), or the end (`settle`).

use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::engine::{Faults, Faulty, Memory};
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::job::{Affinity, Submission};
use pagewire_cluster::rollout::{BASE, RoutingKey};
use pagewire_cluster::subject::job_key;
use pagewire_cluster::worker::WorkerGroup;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::TIMING;
use super::observed::Observed;
use super::outside::{page, set_weight, watch_records};
use super::plan::{Event, JobPlan, LATER_MS, Schedule};
use super::process::{SimNode, SimProcess};

pub(super) const CANARY: &str = "canary";

/// How long the end of a node waits for a write.
pub(super) const MOST_AMBUSH: Duration = Duration::from_secs(3);

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) memory: Memory,
    pub(super) schedule: Schedule,
    pub(super) observed: Observed,
    page: Address,
    pub(super) node: SimNode,
    pub(super) workers: Vec<SimProcess>,
    processes: u64,
    pub(super) weight: u8,
    pub(super) faults: Faults,
    /// When all links are up again.
    pub(super) linked_at: Instant,
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        let memory = Memory::with_timing(&TIMING);
        let mut schedule = Schedule::of(seed);
        let observed = Observed::default();
        let page = page(&memory, &observed).await;
        watch_records(&memory, &observed).await;
        let faults = schedule.faults;
        let engine = Faulty::new(memory.new_process_handle(), seed << 16, faults);
        let node = SimNode::start(engine.with_wall_ahead(schedule.next_clock())).await;
        let mut world = Self {
            seed,
            memory,
            schedule,
            observed,
            page,
            node,
            workers: Vec::new(),
            processes: 0,
            weight: 0,
            faults,
            linked_at: Instant::now(),
        };
        let (base, canary) = world.schedule.workers;
        (0..base).for_each(|_| world.start(BASE));
        (0..canary).for_each(|_| world.start(CANARY));
        world
    }

    fn engine(&mut self) -> (u64, Faulty) {
        self.processes += 1;
        let seed = (self.seed << 16) + self.processes;
        let engine = Faulty::new(self.memory.new_process_handle(), seed, self.faults);
        (self.processes, engine.with_wall_ahead(self.schedule.next_clock()))
    }

    pub(super) fn start(&mut self, lane: &str) {
        let (number, engine) = self.engine();
        self.workers.push(SimProcess::worker(number, engine, lane, self.observed.clone()));
    }

    /// Carries out the schedule, and returns the observations.
    pub(super) async fn run(mut self) -> (Observed, Result<(), String>) {
        let begin = Instant::now();
        for (time, event) in std::mem::take(&mut self.schedule.events) {
            sleep_until(begin + Duration::from_millis(time)).await;
            self.apply(event).await;
        }
        let outcome = self.settle().await;
        let violation = self.observed.lock().violation.clone();
        (self.observed.clone(), violation.map_or(outcome, Err))
    }

    pub(super) fn pick<T>(from: &[T], which: u64) -> Option<usize> {
        (!from.is_empty()).then(|| (which % from.len() as u64) as usize)
    }

    fn pick_job(&self, which: u64) -> Option<Key> {
        let facts = self.observed.lock();
        let ids: Vec<Key> = facts.history.records.keys().copied().collect();
        Self::pick(&ids, which).map(|at| ids[at])
    }

    async fn apply(&mut self, event: Event) {
        self.workers.retain_mut(SimProcess::runs);
        match event {
            Event::Submit(plan) => self.submit(plan),
            Event::Flood { user, jobs } => {
                for _ in 0..jobs {
                    let plan = JobPlan::now(Affinity::Assigned, user);
                    self.submit(JobPlan { ahead_ms: Some(LATER_MS), ..plan });
                }
            }
            Event::Cancel(which) => self.operate(which, true),
            Event::Retry(which) => self.operate(which, false),
            Event::Start { canary } => self.start(if canary { CANARY } else { BASE }),
            Event::Kill(which) => {
                if let Some(at) = Self::pick(&self.workers, which) {
                    let worker = self.workers.remove(at);
                    self.observed.killed(worker.number);
                    worker.kill();
                }
            }
            Event::Suspend(which, ms) => self.suspend(which, Duration::from_millis(ms)),
            Event::Drain(which) => {
                if let Some(at) = Self::pick(&self.workers, which) {
                    self.workers[at].draining.send_replace(true);
                }
            }
            Event::Cut(which, ms) => {
                if let Some(at) = Self::pick(&self.workers, which) {
                    let (worker, length) = (&self.workers[at], Duration::from_millis(ms));
                    self.observed.disturb(worker.number, length);
                    worker.engine.process().cut_for(length);
                    self.linked_at = self.linked_at.max(Instant::now() + length);
                }
            }
            Event::Ambush { which, turn, suspend_ms } => self.ambush(which, turn, suspend_ms),
            Event::LateClaim { user, earlier_ms, suspend_ms } => {
                let plan = JobPlan::now(Affinity::Assigned, user);
                let earlier = JobPlan { ahead_ms: Some(earlier_ms), runs_ms: 8_000, ..plan.clone() };
                self.submit(earlier);
                sleep(Duration::from_millis(50)).await;
                self.late_claim(&plan.user, Duration::from_millis(suspend_ms));
                self.submit(plan);
            }
            Event::LateEnd { user, suspend_ms, crash } => {
                self.late_end(user, Duration::from_millis(suspend_ms), crash).await;
            }
            Event::CrashNode { after_write } => {
                let Some(plan) = after_write else { return self.replace_node().await };
                self.replace_node_after_write(job_key::JOBS, |world| world.submit(plan)).await;
            }
            Event::Weight(percent) => self.set_weight(percent),
        }
    }

    /// Kills the node, and starts another one.
    async fn replace_node(&mut self) {
        self.node.engine.process().kill();
        let (_, engine) = self.engine();
        self.node = SimNode::start(engine).await;
    }

    /// Replaces the node right after it has written a key with this prefix.
    pub(super) async fn replace_node_after_write(&mut self, prefix: &str, act: impl FnOnce(&mut Self)) {
        let written = self.node.engine.process().suspend_after(prefix);
        act(self);
        let _ = timeout(MOST_AMBUSH, written).await;
        self.replace_node().await;
    }

    pub(super) fn submit(&mut self, plan: JobPlan) {
        let (jobs, rollouts, page) = (self.node.jobs.clone(), self.node.rollouts.clone(), self.page);
        self.node.tasks.spawn(async move {
            let serves = |lane: &str| jobs.workers.roster().serves(&WorkerGroup::new("p", lane));
            let assigned = rollouts.lane_for("p", RoutingKey::User(&plan.user), serves);
            let submission = Submission {
                kind: plan.does.kind(),
                data: RawValue::from_string(plan.runs_ms.to_string()).unwrap(),
                team: WorkerGroup::new("p", assigned.lane),
                lane_rev: assigned.revision,
                routing: None,
                affinity: plan.affinity,
                user: Some(plan.user),
                page: plan.page.then_some(page),
                session: None,
                connection: None,
                frame: None,
                // by the clock of the cluster, as a caller with a correct clock would
                run_at: plan.ahead_ms.map(|ahead| clock::unix_ms() + ahead),
                run_in: None,
                retries: plan.retries,
                idempotency: None,
                quota: None,
                trace: None,
            };
            // a submission without a reply may have happened; its record is in the history then
            let _ = jobs.submit(submission, |_| {}).await;
        });
    }

    /// An operator cancels a job or runs it again.
    fn operate(&mut self, which: u64, cancels: bool) {
        if let Some(job) = self.pick_job(which) {
            self.operate_on(job, cancels);
        }
    }

    pub(super) fn operate_on(&mut self, job: Key, cancels: bool) {
        let history = &mut self.observed.lock().history;
        let jobs = self.node.jobs.clone();
        match cancels {
            true => history.cancelled.insert(job),
            false => history.retried.insert(job),
        };
        self.node.tasks.spawn(async move {
            let _ = if cancels { jobs.cancel(job).await } else { jobs.retry(job, None).await };
        });
    }

    pub(super) fn set_weight(&mut self, percent: u8) {
        self.weight = percent;
        let rollouts = self.node.rollouts.clone();
        self.node.tasks.spawn(set_weight(rollouts, percent));
    }
}
