//! Calls of workers on the embedded engine.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use pagewire_cluster::job::{CallError, OutgoingCall};
use pagewire_cluster::wire::{CallAnswer, WorkerCall};

use super::worker::{Log, Worker, jobs};
use super::*;

const WITHIN: Duration = Duration::from_secs(10);

fn request(method: &str, user: Option<&str>) -> WorkerCall {
    WorkerCall {
        id: Key::random(),
        method: method.into(),
        params: RawValue::NULL.to_owned(),
        user: user.map(str::to_owned),
        page: None,
        session: None,
        connection: None,
        lane: None,
        class: None,
        event: None,
        left_ms: None,
    }
}

/// Returns the worker that replies.
async fn call(jobs: &Jobs, own: Option<&str>) -> Result<Key, CallError> {
    let value = jobs.call(&team(), own, request("who", own), WITHIN, None).await?;
    Ok(serde_json::from_str(value.get()).unwrap())
}

async fn serving(jobs: &Jobs, workers: usize) {
    let mut changes = jobs.workers.changes();
    let all = changes.wait_for(|_| jobs.workers.roster().list().len() == workers);
    tokio::time::timeout(PATIENCE, all).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_worker_a_call_is_answered_at_once() {
    let jobs = jobs(&memory()).await;
    let asked = Instant::now();
    assert_eq!(call(&jobs, None).await, Err(CallError::NoWorker));
    assert_eq!(call(&jobs, Some("ann")).await, Err(CallError::NoWorker));
    assert!(asked.elapsed() < WITHIN / 2, "nothing was waited for");
}

#[tokio::test]
async fn a_user_has_one_worker_for_calls_and_jobs_while_it_lives() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let first = Worker::start(&engine, &log).await;
    serving(&jobs, 1).await;
    assert_eq!(call(&jobs, Some("ann")).await, Ok(first.id));
    let mut workers = vec![];
    for _ in 0..4 {
        workers.push(Worker::start(&engine, &log).await);
    }
    serving(&jobs, 5).await;
    workers.push(first);
    let job = submit(&jobs, assigned("echo", "ann")).await;
    let own = end(&jobs, job).await.worker.unwrap().id;
    for _ in 0..5 {
        assert_eq!(call(&jobs, Some("ann")).await, Ok(own), "one worker for calls and jobs");
    }
    drop(workers.extract_if(.., |worker| worker.id == own).next().unwrap());
    let next = loop {
        // a call that the killed worker received is not sent to another worker: the caller decides
        let request = request("who", Some("ann"));
        match jobs.call(&team(), Some("ann"), request, TIMING.death_confirmation * 3, None).await {
            Ok(value) => break serde_json::from_str::<Key>(value.get()).unwrap(),
            Err(CallError::Deadline) => {}
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(workers.iter().any(|worker| worker.id == next), "a dead worker's user goes on elsewhere");
    assert_eq!(call(&jobs, Some("ann")).await, Ok(next));
}

#[tokio::test]
async fn two_processes_that_ask_first_at_the_same_time_meet_the_same_worker() {
    let (engine, log) = (memory(), Log::default());
    let (one, other) = (jobs(&engine).await, jobs(&engine).await);
    let _workers = [Worker::start(&engine, &log).await, Worker::start(&engine, &log).await];
    serving(&one, 2).await;
    serving(&other, 2).await;
    for user in ["ann", "bob", "*", "a.b", "c d"] {
        let (here, there) = tokio::join!(call(&one, Some(user)), call(&other, Some(user)));
        assert_eq!(here.unwrap(), there.unwrap(), "{user}");
    }
}

#[tokio::test]
async fn a_guess_at_a_users_worker_that_is_wrong_is_put_right_by_the_worker_that_is_asked() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let (first, second) = (Worker::start(&engine, &log).await, Worker::start(&engine, &log).await);
    serving(&jobs, 2).await;
    let own = call(&jobs, Some("ann")).await.unwrap();
    let other = if own == first.id { second.id } else { first.id };
    let turn = turn_key("ann");
    jobs.owners.remember(turn.clone(), other);
    assert_eq!(call(&jobs, Some("ann")).await, Ok(own), "the turn row decides");
    assert_eq!(jobs.owners.get(&turn), Some(own));
}

#[tokio::test]
async fn a_call_to_a_worker_that_drains_and_is_not_seen_to_do_so_is_run_by_the_next_worker() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let workers = [Worker::start(&engine, &log).await, Worker::start(&engine, &log).await];
    serving(&jobs, 2).await;
    let own = call(&jobs, Some("ann")).await.unwrap();
    let (leaving, staying): (Vec<_>, Vec<_>) = workers.into_iter().partition(|worker| worker.id == own);
    let (seen, is_seen) = tokio::sync::oneshot::channel();
    let (draining, caller) = (
        leaving.into_iter().next().unwrap().drain_seen_after(async { is_seen.await.unwrap() }),
        jobs.clone(),
    );
    let draining = tokio::spawn(draining);
    let mut calling = tokio::spawn(async move { call(&caller, Some("ann")).await });
    // a refusal would come at once
    let early = tokio::time::timeout(Duration::from_millis(50), &mut calling).await;
    assert!(early.is_err(), "{early:?}");
    seen.send(()).unwrap();
    assert_eq!(calling.await.unwrap(), Ok(staying[0].id));
    draining.await.unwrap();
}

#[tokio::test]
async fn calls_for_any_worker_pass_by_one_that_drains_before_it_has_left() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let (leaving, staying) = (Worker::start(&engine, &log).await, Worker::start(&engine, &log).await);
    serving(&jobs, 2).await;
    let (leaving, draining) = (leaving.id, tokio::spawn(leaving.drain()));
    let marked = |_: &u64| jobs.workers.roster().row(leaving).is_some_and(|row| row.draining);
    jobs.workers.changes().wait_for(marked).await.unwrap();
    for _ in 0..20 {
        assert_eq!(call(&jobs, None).await, Ok(staying.id));
    }
    draining.await.unwrap();
}

#[tokio::test]
async fn a_worker_whose_slots_are_taken_says_so_and_one_that_is_left_frees_its_slot() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    serving(&jobs, 1).await;
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let jobs = jobs.clone();
        waiting.spawn(async move { jobs.call(&team(), None, request("hang", None), WITHIN, None).await });
    }
    let busy = async {
        while call(&jobs, None).await != Err(CallError::Busy) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, busy).await.expect("all slots are taken");
    waiting.shutdown().await;
    let free = async {
        while call(&jobs, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN / 2, free).await.expect("nobody waits, so nothing runs");
}

#[tokio::test]
async fn a_call_waits_a_moment_for_a_slot() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    serving(&jobs, 1).await;
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let jobs = jobs.clone();
        let within = TIMING.slot_wait / 4;
        waiting.spawn(async move { jobs.call(&team(), None, request("hang", None), within, None).await });
    }
    // whether it arrives before or after they have a slot
    while !waiting.is_empty() {
        assert!(call(&jobs, None).await.is_ok());
        let _ = waiting.try_join_next();
    }
}

#[tokio::test]
async fn a_call_ends_with_its_deadline() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    serving(&jobs, 1).await;
    let late = jobs.call(&team(), None, request("hang", None), Duration::from_millis(50), None).await;
    assert_eq!(late.unwrap_err(), CallError::Deadline);
}

#[tokio::test]
async fn a_call_that_its_worker_drops_at_the_end_of_its_time_has_timed_out_and_lost_no_executor() {
    let jobs = jobs(&memory()).await;
    for (takes, outcome) in [(30, CallError::Deadline), (0, CallError::Lost)] {
        let (work, group) = (request("echo", None), team());
        let mut calling = OutgoingCall::new(&jobs, &group, work, Duration::from_millis(20), None);
        // the thread is busy until the time of both is over
        let dropped = move |_, _| {
            let answer = async move {
                std::thread::sleep(Duration::from_millis(takes));
                CallAnswer::Lost
            };
            answer.boxed()
        };
        assert_eq!(calling.direct(Box::new(dropped)).await.unwrap_err(), outcome);
    }
}

#[tokio::test]
async fn a_call_whose_executor_died_is_answered_at_once() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    serving(&jobs, 1).await;
    for own in [None, Some("ann")] {
        let outcome = jobs.call(&team(), own, request("lost", own), WITHIN, None).await;
        assert_eq!(outcome.map(|value| value.get().to_owned()), Err(CallError::Lost));
    }
}

#[tokio::test]
async fn a_call_whose_answer_fits_into_no_message_fails_at_once_and_names_the_limit() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    serving(&jobs, 1).await;
    for own in [None, Some("ann")] {
        let outcome = jobs.call(&team(), own, request("big", own), WITHIN, None).await;
        let Err(CallError::Failed(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.code, "too_large");
        assert!(error.message.contains("524288 bytes"), "{}", error.message);
    }
}

#[tokio::test]
async fn forty_long_jobs_do_not_hold_up_a_call() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    serving(&jobs, 1).await;
    for number in 0..40 {
        let affinity = if number % 2 == 0 { Affinity::Free } else { Affinity::Assigned };
        submit(&jobs, Submission { affinity, ..assigned("wait", &format!("user {number}")) }).await;
    }
    let full = async {
        while log.lock().unwrap().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("jobs take all slots that they may");
    for own in [None, Some("ann"), Some("user 1")] {
        assert!(call(&jobs, own).await.is_ok(), "{own:?}");
    }
    assert_eq!(log.lock().unwrap().len(), 4, "one of five slots is left to calls");
}
