//! Workers for the tests, with handlers named by the kinds of jobs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use pagewire_cluster::engine::Engine;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Jobs;
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::register::Registers;
use pagewire_cluster::rollout::{BASE, Rollouts};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::wire::{CallAnswer, HandlerError, WorkerCall};
use pagewire_cluster::worker::{WorkerRow, Workers, claim_worker};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::outgoing::Outgoing;
use super::{PATIENCE, TIMING, team};
use crate::effects::Supervisor;
use crate::handlers::RunFailure;
use crate::residence::ObjectLimits;
use crate::slots::SlotOptions;
use crate::stream::{WorkStream, WorkerSetup};
use crate::work::Work;

/// The view of the cluster of one process.
pub(super) async fn jobs(engine: &Engine) -> Jobs {
    let (jobs, follow) = process(engine).await;
    tokio::spawn(follow);
    jobs
}

/// Returns the engine of another process, because a process has a limited number of watches.
pub(super) fn new_process(engine: &Engine) -> Engine {
    match engine {
        Engine::Memory(memory) => Engine::Memory(memory.new_process_handle()),
        engine => engine.clone(),
    }
}

pub(super) async fn process(engine: &Engine) -> (Jobs, impl Future<Output = ()> + use<>) {
    let subjects = Subjects::new("c");
    let workers = Workers::new(engine, &subjects, TIMING);
    let follow = loop {
        if let Ok(follow) = workers.follow().await {
            break follow;
        }
    };
    (Jobs::new(engine, &subjects, TIMING, &workers), follow)
}

/// The calls and kinds of jobs of these tests.
const METHODS: [&str; 12] = [
    "who",
    "big",
    "hang",
    "echo",
    "fail",
    "wait",
    "drop once",
    "hang once",
    "lost",
    "lost once",
    "flood",
    "other",
];

/// Runs of handlers, in order: worker and job kind.
pub(super) type Log = Arc<Mutex<Vec<(Key, String)>>>;

/// A worker with handlers named by the kinds of jobs. Dropping it kills it without a shutdown.
pub(super) struct Worker {
    pub(super) id: Key,
    draining: watch::Sender<bool>,
    /// Writes into the row of the worker that it drains.
    mark: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    leave: watch::Sender<bool>,
    work: Option<tokio::task::JoinHandle<WorkStream>>,
    pub(super) supervisor: Arc<Supervisor>,
    pub(super) keeper: tokio::task::JoinHandle<()>,
    follow: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// Starts a worker with all handlers of these tests.
    pub(super) async fn start(engine: &Engine, log: &Log) -> Self {
        Self::with_methods(engine, log, &METHODS).await
    }

    /// Starts a worker with some of the handlers.
    pub(super) async fn with_methods(engine: &Engine, log: &Log, methods: &[&str]) -> Self {
        let methods: BTreeSet<String> = methods.iter().map(|&method| method.to_owned()).collect();
        let engine = &new_process(engine);
        let (jobs, follow) = process(engine).await;
        let follow = tokio::spawn(follow);
        let peers = PeerClient::new(engine, &jobs.subjects, TIMING.deliver);
        let rollouts = Rollouts::new(engine, peers, TIMING.deliver);
        let id = Key::random();
        let row = WorkerRow {
            pool: "p".into(),
            lane: BASE.into(),
            methods: methods.iter().cloned().collect(),
            ..WorkerRow::default()
        };
        let (keeper, lease) = claim_worker(engine, TIMING, id, row).await.unwrap();
        let draining = watch::Sender::new(false);
        let (mark, marked) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let (leave, mut leaving) = watch::channel(false);
        let intake = loop {
            let setup = WorkerSetup {
                id,
                group: team(),
                release: "r".into(),
                slots: SlotOptions::new(5),
                methods: methods.clone(),
                free_work: true,
                is_inside_node: false,
                lease: lease.clone(),
                registers: Registers::new(&jobs.engine),
                outgoing: Arc::new(Outgoing(jobs.clone())),
                objects: ObjectLimits::default(),
            };
            let opened = WorkStream::open(&jobs, &rollouts, setup, draining.clone()).await;
            if let Ok(intake) = opened {
                break intake;
            }
        };
        let supervisor = intake.supervisor();
        let keeper = tokio::spawn(keeper.keep(marked, async move {
            let _ = leaving.wait_for(|leave| *leave).await;
        }));
        let work = Some(tokio::spawn(work(intake, id, log.clone(), stopped)));
        Self { id, draining, mark, stop, leave, work, supervisor, keeper, follow }
    }

    /// Takes a user over, by a call.
    pub(super) async fn acquire(&self, jobs: &Jobs, user: &str) {
        let call = WorkerCall {
            id: Key::random(),
            method: "who".into(),
            params: RawValue::NULL.to_owned(),
            user: Some(user.into()),
            page: None,
            session: None,
            connection: None,
            lane: None,
            class: None,
            event: None,
            left_ms: None,
        };
        let me = format!("\"{}\"", self.id);
        let own = async {
            loop {
                let reply = jobs.call(&team(), Some(user), call.clone(), TIMING.call, None).await;
                match reply.is_ok_and(|value| value.get() == me) {
                    true => return,
                    false => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, own).await.expect("the worker owns the user");
    }

    /// Finishes the running work and shuts down.
    pub(super) async fn drain(self) {
        self.drain_seen_after(std::future::ready(())).await;
    }

    /// Finishes the running work and shuts down. Every process, its own one too, sees that after `seen`.
    pub(super) async fn drain_seen_after(mut self, seen: impl Future<Output = ()>) {
        self.draining.send_replace(true);
        let work = self.work.take().unwrap();
        self.stop.send_replace(true);
        let marking = async {
            seen.await;
            self.mark.send_replace(true);
        };
        tokio::join!(async { work.await.unwrap().close().await }, marking);
        self.leave.send_replace(true);
        (&mut self.keeper).await.unwrap();
    }

    /// Shuts down while work arrives that is not received any more.
    pub(super) async fn drain_without_reading(mut self, arrive: impl Future<Output = ()>) {
        self.stop.send_replace(true);
        let intake = self.work.take().unwrap().await.unwrap();
        arrive.await;
        self.draining.send_replace(true);
        self.mark.send_replace(true);
        intake.close().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.keeper.abort();
        self.follow.abort();
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}

async fn work(mut intake: WorkStream, id: Key, log: Log, mut stopped: watch::Receiver<bool>) -> WorkStream {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            Some(work) = intake.next() => drop(running.spawn(run(work, id, log.clone()))),
            Some(_) = running.join_next() => {}
            _ = stopped.wait_for(|stop| *stop), if running.is_empty() => return intake,
        }
    }
}

fn lost() -> RunFailure {
    RunFailure::Lost { alone: false, log: String::new() }
}

async fn run(work: Work, id: Key, log: Log) {
    let attempt = match work {
        Work::Job(attempt) => attempt,
        Work::Call(asked) => {
            let me = RawValue::from_string(format!("\"{id}\"")).unwrap();
            if asked.call.method == "lost" {
                return asked.answer(CallAnswer::Lost).await;
            }
            if asked.call.method == "hang" {
                return asked.abandoned().await;
            }
            if asked.call.method == "big" {
                let value = RawValue::from_string(format!("\"{}\"", "x".repeat(600 * 1024))).unwrap();
                return asked.answer(CallAnswer::Value(value)).await;
            }
            return asked.answer(CallAnswer::Value(me)).await;
        }
    };
    let kind = attempt.record().kind.clone();
    log.lock().unwrap().push((id, kind.clone()));
    let cancelled = attempt.cancelled();
    let result = match kind.as_str() {
        "fail" => {
            let error = HandlerError { code: "failed".into(), message: "no".into(), retryable: true };
            Err(RunFailure::Failed(error))
        }
        "wait" => {
            attempt.reporter().report(0.5, None);
            cancelled.await;
            Err(RunFailure::Stopped)
        }
        "lost once" if attempt.record().attempts == 1 => Err(lost()),
        "lost" => Err(lost()),
        "drop once" if attempt.record().attempts == 1 => return,
        "hang once" if attempt.record().attempts == 1 => std::future::pending().await,
        _ => Ok(attempt.record().data.clone()),
    };
    attempt.end(result).await;
}
