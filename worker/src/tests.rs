//! Whole jobs on the embedded engine, with and without faults: workers start, are killed and start again.

mod breaks;
mod calls;
mod claims;
mod drains;
mod effects;
mod ends;
mod fairness;
mod identity;
mod limits;
mod methods;
mod new_jobs;
mod outgoing;
mod quarantine;
mod requests;
mod reruns;
mod residence;
mod serial;
mod simulation;
mod turns;
mod worker;

use std::time::Duration;

use pagewire_cluster::clock::unix_ms;
use pagewire_cluster::engine::{Engine, Memory};
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{
    Affinity, Claim, Claimant, Idempotency, JobReconciler, JobState, Jobs, Quota, Record, RecordEvent,
    Submission, SubmitError, TransitionError, TransitionFailure, TurnRow, apply, lane_routes,
};
use pagewire_cluster::rollout::BASE;
use pagewire_cluster::subject::job_key;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::{WorkerGroup, WorkerId};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use self::worker::{Log, Worker, jobs};

const TIMING: Timing = Timing::TEST;
const PATIENCE: Duration = Duration::from_secs(30);

fn team() -> WorkerGroup {
    WorkerGroup::new("p", BASE)
}

fn turn_key(user: &str) -> String {
    TurnRow::key("p", user)
}

fn claimant(worker: WorkerId) -> Claimant {
    Claimant { worker, release: "r".into(), lane: BASE.into() }
}

fn submission(kind: &str) -> Submission {
    Submission {
        kind: kind.into(),
        data: RawValue::from_string("[1, 2]".into()).unwrap(),
        team: team(),
        lane_rev: 0,
        routing: None,
        affinity: Affinity::Free,
        user: None,
        page: None,
        session: None,
        connection: None,
        frame: None,
        run_at: None,
        run_in: None,
        retries: 0,
        idempotency: None,
        quota: None,
        trace: None,
    }
}

fn assigned(kind: &str, user: &str) -> Submission {
    Submission { affinity: Affinity::Assigned, user: Some(user.into()), ..submission(kind) }
}

async fn submit(jobs: &Jobs, submission: Submission) -> Key {
    jobs.submit(submission, |_| {}).await.unwrap().record.id
}

/// Waits for the one end of a job.
async fn end(jobs: &Jobs, job: Key) -> Record {
    let record = jobs.notifier.wait(job, PATIENCE).await.unwrap().unwrap();
    assert!(record.state.is_terminal(), "{record:?}");
    record
}

async fn becomes(jobs: &Jobs, job: Key, what: impl Fn(&Record) -> bool) -> Record {
    let look = async {
        loop {
            if let Ok(Some(stored)) = jobs.records.get(job).await
                && what(&stored.record)
            {
                return stored.record;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the job comes that far")
}

/// Runs the reconciler as a node does, until dropped.
fn janitor(jobs: &Jobs) -> JoinSet<()> {
    let (jobs, mut tasks) = (jobs.clone(), JoinSet::new());
    tasks.spawn(async move {
        let mut janitor = JobReconciler::default();
        loop {
            let _ = janitor.run_once(&jobs).await;
            tokio::time::sleep(TIMING.lease_renew).await;
        }
    });
    tasks
}

fn memory() -> Engine {
    Engine::Memory(Memory::with_timing(&TIMING))
}

#[tokio::test]
async fn a_job_runs_where_there_is_a_worker_and_waits_where_there_is_none() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let job = submit(&jobs, submission("echo")).await;
    assert_eq!(jobs.records.get(job).await.unwrap().unwrap().record.state, JobState::Queued);
    let worker = Worker::start(&engine, &log).await;
    let record = end(&jobs, job).await;
    assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1));
    assert_eq!(record.result.map(|value| value.get().to_owned()).as_deref(), Some("[1, 2]"));
    assert_eq!(record.worker.map(|worker| worker.id), Some(worker.id));
}

#[tokio::test]
async fn a_job_outlives_its_worker() {
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let (engine, log) = (memory(), Log::default());
        let jobs = jobs(&engine).await;
        let _janitor = janitor(&jobs);
        let first = Worker::start(&engine, &log).await;
        let job = submit(&jobs, Submission { affinity, ..assigned("hang once", "ann") }).await;
        becomes(&jobs, job, |record| record.state == JobState::Running).await;
        drop(first);
        let second = Worker::start(&engine, &log).await;
        let record = end(&jobs, job).await;
        assert_eq!((record.state, record.attempts), (JobState::Succeeded, 2));
        assert_eq!(record.worker.map(|worker| worker.id), Some(second.id));
    }
}

#[tokio::test]
async fn a_failing_job_is_tried_again_and_then_dead() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let job = submit(&jobs, Submission { affinity, retries: 2, ..submission("fail") }).await;
        let record = end(&jobs, job).await;
        assert_eq!((record.state, record.attempts), (JobState::Dead, 3));
        jobs.retry(job, None).await.unwrap();
        becomes(&jobs, job, |record| record.state == JobState::Dead && record.attempts == 3).await;
    }
    assert_eq!(log.lock().unwrap().len(), 12, "each attempt once");
}

#[tokio::test]
async fn a_job_whose_executor_died_starts_again_although_it_has_no_retries_and_is_dead_after_too_many() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let once = submit(&jobs, Submission { affinity, ..assigned("lost once", "ann") }).await;
        let record = end(&jobs, once).await;
        assert_eq!((record.state, record.attempts, record.losses), (JobState::Succeeded, 2, 1));
        let always = submit(&jobs, Submission { affinity, ..assigned("lost", "ann") }).await;
        let record = end(&jobs, always).await;
        assert_eq!((record.state, record.losses), (JobState::Dead, pagewire_cluster::job::MAX_LOSSES + 1));
        assert_eq!(record.error.map(|error| error.code).as_deref(), Some("lost"));
    }
}

#[tokio::test]
async fn a_job_can_be_cancelled_in_every_state() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let waiting = submit(&jobs, submission("wait")).await;
    assert_eq!(jobs.cancel(waiting).await.unwrap().state, JobState::Cancelled);
    let _worker = Worker::start(&engine, &log).await;
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let running = submit(&jobs, Submission { affinity, ..submission("wait") }).await;
        becomes(&jobs, running, |record| record.progress.is_some()).await;
        jobs.cancel(running).await.unwrap();
        assert_eq!(end(&jobs, running).await.state, JobState::Cancelled);
        let over = jobs.cancel(running).await;
        assert!(matches!(over, Err(TransitionFailure::Refused(TransitionError::OutOfPlace, _))));
    }
    assert_eq!(log.lock().unwrap().len(), 2, "what was cancelled while it waited never ran");
}

#[tokio::test]
async fn a_scheduled_job_runs_at_its_time() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let run_at = unix_ms() + 400;
        let job = submit(&jobs, Submission { affinity, run_at: Some(run_at), ..submission("echo") }).await;
        assert_eq!(jobs.records.get(job).await.unwrap().unwrap().record.state, JobState::Scheduled);
        let record = end(&jobs, job).await;
        let late = record.started.unwrap() - run_at;
        assert!(late < 250, "{late} ms late");
    }
}

#[tokio::test]
async fn the_same_idempotency_key_is_one_job() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let keyed = |kind, scope: &str| Submission {
        idempotency: Some(Idempotency { scope: scope.into(), key: "k".into() }),
        ..submission(kind)
    };
    let first = jobs.submit(keyed("echo", "ann"), |_| {}).await.unwrap();
    let again = jobs.submit(keyed("echo", "ann"), |_| {}).await.unwrap();
    assert!(first.fresh && !again.fresh);
    assert_eq!(first.record.id, again.record.id);
    assert_eq!(jobs.submit(keyed("fail", "ann"), |_| {}).await.unwrap_err(), SubmitError::Conflict);
    assert!(
        jobs.submit(keyed("fail", "bob"), |_| {}).await.unwrap().fresh,
        "another caller's key is another key"
    );
    let _worker = Worker::start(&engine, &log).await;
    end(&jobs, first.record.id).await;
    assert!(!jobs.submit(keyed("echo", "ann"), |_| {}).await.unwrap().fresh, "even after its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jobs_of_a_user_run_in_order_and_the_user_moves_once_when_a_worker_joins() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let users = ["ann", "*", "a.b", "", "bob", "eve"];
    let kinds: Vec<String> =
        users.iter().flat_map(|user| (0..20).map(move |round| format!("{user}/{round:02}"))).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let mut workers = vec![Worker::with_methods(&engine, &log, &kinds).await];
    let mut all = Vec::new();
    for round in 0..20 {
        for user in users {
            all.push(submit(&jobs, assigned(&format!("{user}/{round:02}"), user)).await);
        }
        if round == 5 {
            workers.push(Worker::with_methods(&engine, &log, &kinds).await);
        }
    }
    for job in all {
        assert_eq!(end(&jobs, job).await.state, JobState::Succeeded);
    }
    let log = log.lock().unwrap();
    for user in users {
        let own: Vec<_> = log.iter().filter(|(_, kind)| kind.starts_with(&format!("{user}/"))).collect();
        assert!(own.is_sorted_by_key(|(_, kind)| kind) && own.len() == 20, "{own:?}");
        let moves = own.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
        assert!(moves <= 1, "{own:?}");
    }
}

#[tokio::test]
async fn a_worker_that_leaves_loses_nothing_and_its_users_go_on_elsewhere() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let first = Worker::start(&engine, &log).await;
    end(&jobs, submit(&jobs, assigned("echo", "ann")).await).await;
    let second = Worker::start(&engine, &log).await;
    first.drain().await;
    for submission in [submission("echo"), assigned("echo", "ann")] {
        let record = end(&jobs, submit(&jobs, submission).await).await;
        assert_eq!(record.worker.map(|worker| worker.id), Some(second.id));
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_job_has_no_say_any_more() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let worker = Worker::start(&engine, &log).await;
    let job = submit(&jobs, submission("wait")).await;
    let running = becomes(&jobs, job, |record| record.state == JobState::Running).await;
    let stale = Claim { worker: running.worker.unwrap(), attempt: 1 };
    let stored = jobs.records.get(job).await.unwrap().unwrap();
    jobs.records.change(stored, RecordEvent::WorkerLost(stale.worker)).await.unwrap();
    let stored = jobs.records.get(job).await.unwrap().unwrap();
    let late = jobs.records.change(stored, RecordEvent::Succeed(stale, RawValue::NULL.to_owned())).await;
    assert!(matches!(late, Err(TransitionFailure::Refused(TransitionError::Stale, _))));
    drop(worker);
}

#[tokio::test]
async fn a_job_that_was_never_offered_is_found() {
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let (engine, log) = (memory(), Log::default());
        let jobs = jobs(&engine).await;
        let _worker = Worker::start(&engine, &log).await;
        // the submitting process was killed between the record and the work item or row
        let job = Key::random();
        let offered = jobs.submit(Submission { affinity, ..assigned("echo", "ann") }, |_| {}).await.unwrap();
        let record = Record { id: job, state: JobState::Queued, ..offered.record };
        let put = jobs.records.put(&record, pagewire_cluster::engine::Precondition::Absent);
        jobs.records.store.put(put).await.unwrap();
        let _janitor = janitor(&jobs);
        assert_eq!(end(&jobs, job).await.state, JobState::Succeeded);
    }
}

#[tokio::test]
async fn what_a_hint_carries_counts_only_while_the_record_stands() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let job = submit(&jobs, submission("echo")).await;
    jobs.cancel(job).await.unwrap();
    // a second work item; the first one shows the earlier state
    jobs.retry(job, None).await.unwrap();
    let _worker = Worker::start(&engine, &log).await;
    let record = end(&jobs, job).await;
    assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1));
    let settled = async {
        while engine.depth(&lane_routes(&team())).await != Ok(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("both hints are settled");
    assert_eq!(log.lock().unwrap().len(), 1, "one of them ran it");
}

#[tokio::test]
async fn a_job_that_is_too_large_for_its_hint_runs_like_any_other() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    let data = RawValue::from_string(format!("\"{}\"", "x".repeat(50_000))).unwrap();
    let job = submit(&jobs, Submission { data: data.clone(), ..submission("echo") }).await;
    let record = end(&jobs, job).await;
    assert_eq!(record.result.map(|value| value.get().len()), Some(data.get().len()));
}

#[tokio::test]
async fn any_number_of_jobs_for_tomorrow_hold_up_no_job_that_is_due() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let tomorrow = Some(unix_ms() + 24 * 3_600_000);
    for _ in 0..270 {
        submit(&jobs, Submission { run_at: tomorrow, ..assigned("echo", "ann") }).await;
    }
    let _worker = Worker::start(&engine, &log).await;
    let job = submit(&jobs, assigned("echo", "ann")).await;
    assert_eq!(end(&jobs, job).await.state, JobState::Succeeded);
    assert_eq!(log.lock().unwrap().len(), 1, "the others wait");
}

#[tokio::test]
async fn the_turn_rows_of_a_worker_that_was_killed_are_deleted() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let worker = Worker::start(&engine, &log).await;
    for user in ["ann", "bob"] {
        end(&jobs, submit(&jobs, assigned("echo", user)).await).await;
    }
    let rows = async || jobs.records.store.list(job_key::TURNS).await.unwrap().len();
    assert_eq!(rows().await, 2);
    let _janitor = janitor(&jobs);
    drop(worker);
    let gone = async {
        while rows().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the rows are deleted");
}

#[tokio::test]
async fn a_job_that_waits_for_its_next_try_stands_aside() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let failing = submit(&jobs, Submission { retries: 9, ..assigned("fail", "ann") }).await;
    let behind = submit(&jobs, assigned("echo", "ann")).await;
    let _worker = Worker::start(&engine, &log).await;
    end(&jobs, behind).await;
    let failing = jobs.records.get(failing).await.unwrap().unwrap().record;
    assert!(!failing.state.is_terminal() && failing.attempts >= 1, "{failing:?}");
    let log = log.lock().unwrap();
    assert_eq!(log[0].1, "fail", "first attempts run in order");
}
