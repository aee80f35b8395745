//! Workers of one lane with different handlers.

use pagewire_cluster::job::CallError;
use pagewire_cluster::wire::WorkerCall;
use pagewire_cluster::worker::{Affinity, NoCandidate};

use super::worker::{Log, Worker, jobs};
use super::*;

async fn serving(jobs: &Jobs, workers: usize) {
    let mut changes = jobs.workers.changes();
    let all = changes.wait_for(|_| jobs.workers.roster().list().len() == workers);
    tokio::time::timeout(PATIENCE, all).await.unwrap().unwrap();
}

/// Returns the worker that answers a call.
async fn call(jobs: &Jobs, method: &str, own: Option<&str>) -> Result<Key, CallError> {
    let call = WorkerCall {
        id: Key::random(),
        method: method.into(),
        params: RawValue::NULL.to_owned(),
        user: own.map(str::to_owned),
        page: None,
        session: None,
        connection: None,
        lane: None,
        class: None,
        event: None,
        left_ms: None,
    };
    let value = jobs.call(&team(), own, call, PATIENCE, None).await?;
    Ok(serde_json::from_str(value.get()).unwrap())
}

#[tokio::test]
async fn each_call_is_answered_by_a_worker_that_has_its_method() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let a = Worker::with_methods(&engine, &log, &["a", "both"]).await;
    let b = Worker::with_methods(&engine, &log, &["b", "both"]).await;
    serving(&jobs, 2).await;
    let mut of_both = Vec::new();
    for n in 0..40 {
        let user = format!("user {n}");
        for own in [None, Some(user.as_str())] {
            assert_eq!(call(&jobs, "a", own).await, Ok(a.id));
            assert_eq!(call(&jobs, "b", own).await, Ok(b.id));
        }
        let worker = call(&jobs, "both", Some(&user)).await.unwrap();
        assert_eq!(call(&jobs, "both", Some(&user)).await, Ok(worker), "a user has one worker");
        of_both.push(worker);
    }
    assert!(of_both.contains(&a.id) && of_both.contains(&b.id));
    assert_eq!(call(&jobs, "c", None).await, Err(CallError::NoWorker));
    assert_eq!(call(&jobs, "c", Some("ann")).await, Err(CallError::NoWorker));
    let gap = jobs.workers.roster().find_gap(&team(), Affinity::Free, Some("c"));
    assert_eq!(gap, Some(NoCandidate::Handler));
}

#[tokio::test]
async fn each_job_runs_once_at_a_worker_with_its_handler_and_in_the_order_of_its_user() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let a = Worker::with_methods(&engine, &log, &["a"]).await;
    let b = Worker::with_methods(&engine, &log, &["b"]).await;
    serving(&jobs, 2).await;
    let mut submitted = Vec::new();
    for n in 0..120 {
        let kind = ["a", "b", "b", "a", "a"][n % 5];
        let submission = match n % 3 {
            0 => submission(kind),
            _ => assigned(kind, &format!("user {}", n % 7)),
        };
        let user = submission.user.clone();
        submitted.push((kind, user, submit(&jobs, submission).await));
    }
    let mut started: std::collections::BTreeMap<String, u64> = Default::default();
    for (kind, user, job) in submitted {
        let record = end(&jobs, job).await;
        assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1), "{record:?}");
        let worker = if kind == "a" { a.id } else { b.id };
        assert_eq!(record.worker.map(|worker| worker.id), Some(worker));
        if let Some(user) = user {
            let before = started.insert(user, record.started.unwrap());
            assert!(before <= record.started, "the jobs of a user run in their order");
        }
    }
}

#[tokio::test]
async fn a_job_without_a_handler_waits_for_one_and_holds_up_no_other_job() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _a = Worker::with_methods(&engine, &log, &["a"]).await;
    serving(&jobs, 1).await;
    let waiting = [submit(&jobs, submission("b")).await, submit(&jobs, assigned("b", "ann")).await];
    let behind = end(&jobs, submit(&jobs, assigned("a", "ann")).await).await;
    assert_eq!(behind.state, JobState::Succeeded);
    for job in waiting {
        let record = jobs.records.get(job).await.unwrap().unwrap().record;
        assert_eq!((record.state, record.attempts), (JobState::Queued, 0));
    }
    let b = Worker::with_methods(&engine, &log, &["b"]).await;
    for job in waiting {
        let record = end(&jobs, job).await;
        assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1));
        assert_eq!(record.worker.map(|worker| worker.id), Some(b.id));
    }
}
