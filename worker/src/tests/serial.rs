//! Handlers that run the calls of a user one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagewire_cluster::engine::{Consistency, Engine};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, CallError, JobState, Jobs, TurnRow};
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::register::Registers;
use pagewire_cluster::rollout::{BASE, Rollouts};
use pagewire_cluster::wire::WorkerCall;
use pagewire_cluster::worker::{WorkerRow, claim_worker};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::outgoing::Outgoing;
use super::worker::{jobs, new_process, process};
use super::{PATIENCE, TIMING, memory, team};
use crate::handlers::{HandlerInput, HandlerOptions, Handlers, HandlersBuilder, Serial};
use crate::observer::WorkObserver;
use crate::residence::ObjectLimits;
use crate::run::serve;
use crate::slots::SlotOptions;
use crate::stream::{WorkStream, WorkerSetup};

struct Unobserved;

impl WorkObserver for Unobserved {
    fn attempt_ended(&self, _: &str, _: Affinity, _: JobState, _: Duration, _: Duration) {}

    fn call_ended(&self, _: &str, _: Affinity, _: &'static str, _: Duration) {}
}

/// What the handler `report` has seen: how many calls run, the most at the same time, and their order.
#[derive(Default)]
struct Seen {
    running: AtomicUsize,
    most: AtomicUsize,
    order: Mutex<Vec<String>>,
}

/// A handler that runs until it is told to go on, once per call.
fn handlers(serial: Serial, seen: Arc<Seen>, go_on: Arc<tokio::sync::Semaphore>) -> Handlers {
    let report = move |input: HandlerInput| {
        let (seen, go_on) = (seen.clone(), go_on.clone());
        async move {
            seen.order.lock().unwrap().push(input.params.get().to_owned());
            let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most.fetch_max(running, Ordering::SeqCst);
            go_on.acquire().await.unwrap().forget();
            seen.running.fetch_sub(1, Ordering::SeqCst);
            Ok(input.params)
        }
    };
    let echo = |input: HandlerInput| async move { Ok(input.params) };
    HandlersBuilder::default()
        .handler_with("report", HandlerOptions { serial, ..HandlerOptions::default() }, report)
        .handler("echo", echo)
        .build()
}

/// Starts a worker with two slots.
pub(super) async fn start(engine: &Engine, handlers: Handlers) -> JoinSet<()> {
    start_with(engine, handlers, ObjectLimits::default()).await.tasks
}

/// A worker that runs handlers. Dropping it kills it.
pub(super) struct Serving {
    pub(super) tasks: JoinSet<()>,
    /// Orders it to drain.
    pub(super) draining: watch::Sender<bool>,
}

/// Starts a worker with two slots and limits of its objects.
pub(super) async fn start_with(engine: &Engine, handlers: Handlers, objects: ObjectLimits) -> Serving {
    let engine = &new_process(engine);
    let (jobs, follow) = process(engine).await;
    let id = Key::random();
    let methods: Vec<String> = handlers.names().map(str::to_owned).collect();
    let row =
        WorkerRow { pool: "p".into(), lane: BASE.into(), methods: methods.clone(), ..WorkerRow::default() };
    let (keeper, lease) = claim_worker(engine, TIMING, id, row).await.unwrap();
    let draining = watch::Sender::new(false);
    let (drains, ordered) = (draining.subscribe(), draining.subscribe());
    let peers = PeerClient::new(engine, &jobs.subjects, TIMING.deliver);
    let rollouts = Rollouts::new(engine, peers, TIMING.deliver);
    let setup = WorkerSetup {
        id,
        group: team(),
        release: "r".into(),
        slots: SlotOptions::new(2),
        methods: methods.into_iter().collect(),
        free_work: true,
        is_inside_node: false,
        lease,
        registers: Registers::new(&jobs.engine),
        outgoing: Arc::new(Outgoing(jobs.clone())),
        objects,
    };
    let mut stream = WorkStream::open(&jobs, &rollouts, setup, draining.clone()).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(follow);
    tasks.spawn(keeper.keep(drains, std::future::pending()));
    tasks.spawn(async move {
        let (_leave, leaving) = watch::channel(false);
        let idle = stream.idle();
        let mut ordered = ordered;
        let drained = async move {
            let _ = ordered.wait_for(|draining| *draining).await;
            idle.await;
        };
        tokio::select! {
            () = serve(&mut stream, handlers, leaving, Arc::new(Unobserved)) => {}
            () = drained => {}
        }
        stream.close().await;
    });
    Serving { tasks, draining }
}

pub(super) async fn call(
    jobs: Jobs,
    method: &str,
    user: &str,
    number: u32,
    within: Duration,
) -> Result<String, CallError> {
    let call = WorkerCall {
        id: Key::random(),
        method: method.into(),
        params: RawValue::from_string(number.to_string()).unwrap(),
        user: Some(user.into()),
        page: None,
        session: None,
        connection: None,
        lane: None,
        class: None,
        event: None,
        left_ms: None,
    };
    jobs.call(&team(), Some(user), call, within, None).await.map(|value| value.get().to_owned())
}

pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

#[tokio::test]
async fn three_calls_of_a_user_run_one_after_the_other_and_hold_up_no_other_call() {
    let (engine, seen, go_on) =
        (memory(), Arc::new(Seen::default()), Arc::new(tokio::sync::Semaphore::new(0)));
    let jobs = jobs(&engine).await;
    let _worker = start(&engine, handlers(Serial::User, seen.clone(), go_on.clone())).await;
    until("the worker is there", || jobs.workers.roster().list().len() == 1).await;
    let mut calls = JoinSet::new();
    for number in 0..3 {
        calls.spawn(call(jobs.clone(), "report", "ann", number, PATIENCE));
        // the owner is acquired by the first one, and the others come in their order
        let begun = || seen.order.lock().unwrap().len() == 1;
        until("the first one runs", begun).await;
        assert_eq!(call(jobs.clone(), "echo", "ann", 7, PATIENCE).await.as_deref(), Ok("7"));
    }
    // a slot is left, although two calls wait and the worker has two slots
    assert_eq!(call(jobs.clone(), "echo", "bob", 7, PATIENCE).await.as_deref(), Ok("7"));
    let late = call(jobs.clone(), "report", "ann", 9, Duration::from_millis(50)).await;
    assert_eq!(late, Err(CallError::Deadline), "a deadline is respected while a call waits");
    go_on.add_permits(3);
    let outcomes = calls.join_all().await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(*seen.order.lock().unwrap(), ["0", "1", "2"]);
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn calls_of_two_users_and_calls_of_a_handler_that_is_not_serial_run_at_the_same_time() {
    for (serial, users) in [(Serial::User, ["ann", "bob"]), (Serial::None, ["ann", "ann"])] {
        let (engine, seen) = (memory(), Arc::new(Seen::default()));
        let go_on = Arc::new(tokio::sync::Semaphore::new(0));
        let jobs = jobs(&engine).await;
        let _worker = start(&engine, handlers(serial, seen.clone(), go_on.clone())).await;
        until("the worker is there", || jobs.workers.roster().list().len() == 1).await;
        let mut calls = JoinSet::new();
        for user in users {
            calls.spawn(call(jobs.clone(), "report", user, 1, PATIENCE));
        }
        until("both run", || seen.most.load(Ordering::SeqCst) == 2).await;
        go_on.add_permits(2);
        assert!(calls.join_all().await.iter().all(Result::is_ok));
    }
}

/// The caller's view of the workers stays as it was, so that it knows no other worker of the user.
#[tokio::test]
async fn a_call_that_waits_in_line_while_its_user_moves_is_run_by_the_next_worker() {
    let (engine, seen, go_on) =
        (memory(), Arc::new(Seen::default()), Arc::new(tokio::sync::Semaphore::new(0)));
    let (jobs, (caller, follow)) = (jobs(&engine).await, process(&engine).await);
    let mut workers = vec![start(&engine, handlers(Serial::User, seen.clone(), go_on.clone())).await];
    let following = tokio::spawn(follow);
    until("the caller knows the worker", || caller.workers.roster().list().len() == 1).await;
    let mut calls = JoinSet::new();
    calls.spawn(call(caller.clone(), "report", "ann", 0, PATIENCE));
    until("the first one runs", || seen.order.lock().unwrap().len() == 1).await;
    following.abort();
    calls.spawn(call(caller.clone(), "report", "ann", 1, PATIENCE));
    let home = || jobs.workers.roster().choose(&team(), "ann", None);
    let before = home();
    while home() == before {
        workers.push(start(&engine, handlers(Serial::User, seen.clone(), go_on.clone())).await);
        let all = workers.len();
        until("all workers are known", || jobs.workers.roster().list().len() == all).await;
    }
    let key = TurnRow::key("p", "ann");
    let released = async {
        while let Ok(Some(_)) = jobs.records.store.get(&key, Consistency::Latest).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, released).await.expect("the user is released");
    go_on.add_permits(2);
    let outcomes = calls.join_all().await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}
