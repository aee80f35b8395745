//! One simulation: the processes on one engine, the schedule, and the end.
//!
//! Owns: carrying out the events of a schedule, and the checks in the end. Never: the rules (`history`, `observed`).

use std::time::Duration;

use futures_util::future::select_ok;
use pagewire_cluster::clock;
use pagewire_cluster::engine::{
    Bucket, BusEvent, Engine, Faults, Faulty, Memory, Message, WatchEvent, WatchMode,
};
use pagewire_cluster::id::{Address, Key, NodeNumber};
use pagewire_cluster::job::{Affinity, Submission};
use pagewire_cluster::rollout::{BASE, LaneSpec, RolloutUpdate, Rollouts, RoutingKey, Weight};
use pagewire_cluster::subject::{Subjects, job_key};
use pagewire_cluster::wire::{self, JobUpdate, PeerRequest, PushCounts};
use pagewire_cluster::worker::WorkerGroup;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::breaks::number;
use super::super::turn_key;
use super::observed::Observed;
use super::plan::{Event, JobPlan, LATER_MS, Schedule, USERS, calm};
use super::process::{SimNode, SimProcess};
use super::{PROMPT, SETTLED, TIMING};
use pagewire_cluster::job::Record;

const CANARY: &str = "canary";

/// How long the end of a node waits for a write.
const MOST_AMBUSH: Duration = Duration::from_secs(3);

pub(super) struct World {
    seed: u64,
    memory: Memory,
    schedule: Schedule,
    observed: Observed,
    page: Address,
    node: SimNode,
    workers: Vec<SimProcess>,
    processes: u64,
    weight: u8,
    faults: Faults,
    /// When all links are up again.
    linked_at: Instant,
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

    fn start(&mut self, lane: &str) {
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

    fn pick<T>(from: &[T], which: u64) -> Option<usize> {
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
                    worker.engine.cut_for(length);
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
            Event::CrashNode { after_write } => {
                if let Some(plan) = after_write {
                    let written = self.node.engine.suspend_after(job_key::JOBS);
                    self.submit(plan);
                    let _ = timeout(MOST_AMBUSH, written).await;
                }
                self.node.engine.kill();
                let (_, engine) = self.engine();
                self.node = SimNode::start(engine).await;
            }
            Event::Weight(percent) => self.set_weight(percent),
        }
    }

    fn suspend(&mut self, which: u64, length: Duration) {
        let Some(at) = Self::pick(&self.workers, which) else { return };
        let worker = &self.workers[at];
        self.observed.disturb(worker.number, length);
        let engine = worker.engine.clone();
        engine.suspend();
        tokio::spawn(async move {
            sleep(length).await;
            engine.resume();
        });
    }

    /// Suspends or kills a worker right after its next write of that kind.
    fn ambush(&mut self, which: u64, turn: bool, suspend_ms: Option<u64>) {
        let Some(at) = Self::pick(&self.workers, which) else { return };
        let (engine, number) = (self.workers[at].engine.clone(), self.workers[at].number);
        let observed = self.observed.clone();
        let suspended = engine.suspend_after(if turn { job_key::TURNS } else { job_key::JOBS });
        tokio::spawn(async move {
            if suspended.await.is_err() {
                return;
            }
            match suspend_ms.map(Duration::from_millis) {
                Some(length) => {
                    observed.disturb(number, length);
                    sleep(length).await;
                    engine.resume();
                }
                None => {
                    observed.killed(number);
                    engine.kill();
                }
            }
        });
    }

    /// Suspends the first worker that writes the turn row of a user.
    fn late_claim(&self, user: &str, length: Duration) {
        let (key, faults, observed) = (turn_key(user), self.faults, self.observed.clone());
        let engines: Vec<(u64, Faulty)> =
            self.workers.iter().map(|worker| (worker.number, worker.engine.clone())).collect();
        let written: Vec<_> = engines.iter().map(|(_, engine)| engine.suspend_after(&key)).collect();
        tokio::spawn(async move {
            let Ok(first) = first_written(written).await else { return };
            for (at, (number, engine)) in engines.iter().enumerate() {
                if at == first {
                    observed.disturb(*number, length);
                } else {
                    engine.set_faults(faults);
                }
            }
            sleep(length).await;
            engines[first].1.resume();
        });
    }

    fn submit(&mut self, plan: JobPlan) {
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
                frame: None,
                // by the clock of the cluster, as a caller with a correct clock would
                run_at: plan.ahead_ms.map(|ahead| clock::unix_ms() + ahead),
                retries: plan.retries,
                idempotency: None,
                quota: None,
            };
            // a submission without a reply may have happened; its record is in the history then
            let _ = jobs.submit(submission, |_| {}).await;
        });
    }

    /// An operator cancels a job or runs it again.
    fn operate(&mut self, which: u64, cancels: bool) {
        let Some(job) = self.pick_job(which) else { return };
        let history = &mut self.observed.lock().history;
        let jobs = self.node.jobs.clone();
        match cancels {
            true => history.cancelled.insert(job),
            false => history.retried.insert(job),
        };
        self.node.tasks.spawn(async move {
            let _ = if cancels { jobs.cancel(job).await } else { jobs.retry(job).await };
        });
    }

    fn set_weight(&mut self, percent: u8) {
        self.weight = percent;
        let rollouts = self.node.rollouts.clone();
        self.node.tasks.spawn(set_weight(rollouts, percent));
    }

    /// All faults end, except that a broken link stays so for its time. Every job has to end, and after that new jobs run at once.
    async fn settle(&mut self) -> Result<(), String> {
        self.faults = calm();
        self.node.engine.set_faults(calm());
        self.workers.retain_mut(SimProcess::runs);
        for worker in &self.workers {
            worker.engine.set_faults(calm());
            worker.engine.resume();
        }
        let serves =
            |lane: &str| self.workers.iter().any(|worker| worker.lane == lane && !*worker.draining.borrow());
        let (base, canary) = (serves(BASE), serves(CANARY));
        if !base {
            self.start(BASE);
        }
        if self.weight > 0 && self.schedule.canary_ends {
            self.set_weight(0);
        } else if self.weight > 0 && !canary {
            self.start(CANARY);
        }
        // the last submissions are written or given up by then
        sleep(TIMING.deliver * 2).await;
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

/// Returns the position of the first write, or an error when none of them happens.
async fn first_written(written: Vec<oneshot::Receiver<()>>) -> Result<usize, oneshot::error::RecvError> {
    let indexed = written.into_iter().enumerate();
    let writes = indexed.map(|(at, write)| Box::pin(async move { write.await.map(|()| at) }));
    Ok(select_ok(writes).await?.0)
}

async fn set_weight(rollouts: Rollouts, percent: u8) {
    let weight = Weight::of_percent(percent.into()).unwrap();
    let lane = LaneSpec { name: CANARY.into(), weight };
    let wanted =
        RolloutUpdate { lanes: Some(vec![lane]), salt: Some("s".into()), ..RolloutUpdate::default() };
    while rollouts.change("p", None, wanted.clone(), "sim").await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
}

/// A node without faults that has one page.
async fn page(memory: &Memory, observed: &Observed) -> Address {
    let engine = Engine::Memory(memory.new_process_handle());
    let page = Address { key: Key::random(), node: NodeNumber::new(1).unwrap() };
    let mut inbox = engine.subscribe(&Subjects::new("c").page(page.node), None, 1 << 20).await.unwrap();
    let observed = observed.clone();
    tokio::spawn(async move {
        while let Some(received) = inbox.next().await {
            let BusEvent::Message(message) = received else { continue };
            let Some(PeerRequest::Job(note)) = wire::decode_request(&message.payload) else { continue };
            if let JobUpdate::Ended(ending) = note.news {
                observed.lock().told.entry(note.job).or_default().push(ending.state);
            }
            let answer = wire::encode_response(Some(PushCounts { reached: 1, held: 0 }));
            let _ = engine.publish(Message::new(message.reply.unwrap(), answer)).await;
        }
    });
    page
}

/// Adds every version of every record to the history.
async fn watch_records(memory: &Memory, observed: &Observed) {
    let engine = Engine::Memory(memory.new_process_handle());
    let mut watch = engine.kv(Bucket::Jobs).watch("", WatchMode::Value).await.unwrap();
    let (observed, prints) = (observed.clone(), number("PAGEWIRE_SIM_LOG", 0) > 0);
    tokio::spawn(async move {
        while let Some(event) = watch.next().await {
            if prints {
                println!("{:?} {event:?}", clock::boot());
            }
            let WatchEvent::Put(entry) = event else { continue };
            if !entry.key.starts_with(job_key::JOBS) {
                continue;
            }
            let facts = &mut *observed.lock();
            let record = Record::decode(&entry.value).unwrap();
            if let Err(broken) = facts.history.add(record) {
                facts.violate(|| broken);
            }
        }
    });
}
