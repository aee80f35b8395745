//! The processes of a simulation: workers and nodes, made of the parts that the product is made of.
//!
//! Owns: how such a process starts, runs handlers and ends. Never: when (`world`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{Bucket, Engine, Faulty};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{JobReconciler, Jobs};
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::register::Registers;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::{WorkerGroup, WorkerRow, Workers, claim_worker};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::outgoing::Outgoing;
use super::TIMING;
use super::observed::Observed;
use super::plan::Does;
use crate::attempt::Attempt;
use crate::handlers::RunFailure;
use crate::slots::SlotOptions;
use crate::stream::{WorkStream, WorkerSetup};
use crate::work::Work;

/// How long a process waits before it repeats a step of its start.
const PAUSE: Duration = Duration::from_millis(20);

/// A process.
pub(super) struct SimProcess {
    pub(super) number: u64,
    pub(super) engine: Faulty,
    pub(super) lane: String,
    pub(super) draining: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl SimProcess {
    pub(super) fn worker(number: u64, engine: Faulty, lane: &str, observed: Observed) -> Self {
        let draining = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let life = WorkerLife { number, engine: engine.clone(), lane: lane.to_owned(), observed };
        tasks.spawn(life.run(draining.clone()));
        Self { number, engine, lane: lane.to_owned(), draining, tasks }
    }

    /// Returns whether the process has not ended.
    pub(super) fn runs(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        !self.engine.process().is_killed() && !self.tasks.is_empty()
    }

    /// Kills the process: nothing of it happens any more.
    pub(super) fn kill(self) {
        self.engine.process().kill();
    }
}

/// The views of one process.
async fn views(engine: &Faulty, tasks: &mut JoinSet<()>) -> (Jobs, Rollouts) {
    let (engine, subjects) = (Engine::Faulty(engine.clone()), Subjects::new("c"));
    let workers = Workers::new(&engine, &subjects, TIMING);
    let rollouts =
        Rollouts::new(&engine, PeerClient::new(&engine, &subjects, TIMING.deliver), TIMING.deliver);
    loop {
        match workers.follow().await {
            Ok(follow) => break drop(tasks.spawn(follow)),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    loop {
        match rollouts.follow().await {
            Ok(follow) => break drop(tasks.spawn(follow)),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    (Jobs::new(&engine, &subjects, TIMING, &workers), rollouts)
}

struct WorkerLife {
    number: u64,
    engine: Faulty,
    lane: String,
    observed: Observed,
}

impl WorkerLife {
    async fn run(self, draining: watch::Sender<bool>) {
        let mut tasks = JoinSet::new();
        let (jobs, rollouts) = views(&self.engine, &mut tasks).await;
        let (id, group) = (Key::random(), WorkerGroup::new("p", self.lane.as_str()));
        let methods: BTreeSet<String> = Does::ALL.into_iter().map(Does::kind).collect();
        let row = WorkerRow {
            pool: "p".into(),
            lane: self.lane.clone(),
            methods: methods.iter().cloned().collect(),
            ..WorkerRow::default()
        };
        let engine = Engine::Faulty(self.engine.clone());
        let Ok((keeper, lease)) = claim_worker(&engine, TIMING, id, row).await else { return };
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let keeping = keeper.keep(draining.subscribe(), async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let working = async {
            let mut stream = loop {
                let setup = WorkerSetup {
                    id,
                    group: group.clone(),
                    release: "r".into(),
                    slots: SlotOptions::new(3),
                    methods: methods.clone(),
                    free_work: true,
                    is_inside_node: false,
                    lease: lease.clone(),
                    registers: Registers::new(&jobs.engine),
                    outgoing: Arc::new(Outgoing(jobs.clone())),
                    objects: Default::default(),
                };
                match WorkStream::open(&jobs, &rollouts, setup, draining.clone()).await {
                    Ok(stream) => break stream,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            };
            self.work(&mut stream, draining.subscribe()).await;
            stream.close().await;
            stop.send_replace(true);
        };
        tokio::join!(keeping, working);
    }

    /// Runs jobs until the worker drains and has ended them.
    async fn work(&self, stream: &mut WorkStream, mut draining: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        let idle = stream.idle();
        let drained = async {
            drop(draining.wait_for(|draining| *draining).await);
            idle.await;
        };
        tokio::pin!(drained);
        loop {
            tokio::select! {
                work = stream.next() => {
                    let Some(Work::Job(attempt)) = work else { continue };
                    running.spawn(handle(*attempt, self.number, self.engine.clone(), self.observed.clone()));
                }
                Some(_) = running.join_next() => {}
                () = &mut drained => return,
            }
        }
    }
}

/// How long a handler puts off its job, or the next try.
const PUT_OFF: Duration = Duration::from_secs(3);

async fn handle(attempt: Attempt, process: u64, engine: Faulty, observed: Observed) {
    engine.process().running().await;
    let record = attempt.record().clone();
    let run = observed.begin(&record, process);
    let (does, first) = (Does::of(&record.kind), record.attempts == 1);
    let runs_ms = match does {
        Does::Wait => 15_000,
        _ => record.data.get().parse().unwrap_or(0),
    };
    if does == Does::Wait {
        attempt.reporter().report(0.5, None);
    }
    let failure = |retryable| HandlerError { code: "failed".into(), message: "no".into(), retryable };
    let outcome = tokio::select! {
        () = attempt.cancelled() => Err(RunFailure::Stopped),
        () = tokio::time::sleep(Duration::from_millis(runs_ms)) => match does {
            Does::Fail => Err(RunFailure::Failed(failure(true))),
            Does::FailLater => Err(RunFailure::RetryAfter(failure(true), PUT_OFF)),
            Does::Snooze if observed.lock().returned.insert(record.id) => Err(RunFailure::Snoozed(PUT_OFF)),
            Does::Fatal => Err(RunFailure::Failed(failure(false))),
            Does::Return if observed.lock().returned.insert(record.id) => Err(RunFailure::Returned),
            _ => Ok(record.data.clone()),
        },
    };
    engine.process().running().await;
    drop(run);
    if does != Does::Drop || !first {
        attempt.end(outcome).await;
    }
}

/// A node: it submits jobs and finds lost ones.
pub(super) struct SimNode {
    pub(super) engine: Faulty,
    pub(super) jobs: Jobs,
    pub(super) rollouts: Rollouts,
    pub(super) tasks: JoinSet<()>,
}

impl SimNode {
    pub(super) async fn start(engine: Faulty) -> Self {
        let mut tasks = JoinSet::new();
        let (jobs, rollouts) = views(&engine, &mut tasks).await;
        // a node takes its first sample with its lease
        let now = pagewire_cluster::clock::boot();
        let _ = Engine::Faulty(engine.clone()).kv(Bucket::Nodes).sample_clock(1, now, now).await;
        let (own, mut reconciler) = (jobs.clone(), JobReconciler::default().with_rollouts(rollouts.clone()));
        tasks.spawn(async move {
            loop {
                let _ = reconciler.run_once(&own).await;
                tokio::time::sleep(TIMING.lease_renew).await;
            }
        });
        Self { engine, jobs, rollouts, tasks }
    }
}
