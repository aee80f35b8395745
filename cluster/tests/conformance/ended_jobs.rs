//! Tests of the time for which the records of ended jobs are kept: it is a TTL of the engine.

use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::Engine;
use pagewire_cluster::id::{Address, Key, NodeNumber};
use pagewire_cluster::job::{
    Affinity, Claim, Claimant, Idempotency, JobState, Jobs, RecordEvent, Retention, Submission,
    TransitionFailure,
};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::{WorkerGroup, WorkerId, Workers};
use serde_json::value::RawValue;

use crate::cluster::{Cluster, TIMING, eventually};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(600);

/// The jobs of a process that keeps those that have succeeded for a second.
async fn brief(engine: &Engine) -> Jobs {
    let subjects = Subjects::new("c");
    let workers = Workers::new(engine, &subjects, TIMING);
    tokio::spawn(workers.follow().await.expect("follows"));
    Jobs::keeping(engine, &subjects, TIMING, Retention { succeeded: SECOND, failed: LONG }, &workers)
}

fn submission(kind: &str) -> Submission {
    Submission {
        kind: kind.into(),
        data: RawValue::NULL.to_owned(),
        team: WorkerGroup::new("p", "l"),
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
        lane_rev: 0,
        routing: None,
        trace: None,
    }
}

async fn submit(jobs: &Jobs, submission: Submission) -> Key {
    jobs.submit(submission, |_| {}).await.expect("is submitted").record.id
}

/// Ends a job as its worker would.
async fn run(jobs: &Jobs, job: Key, succeeds: bool) {
    let worker = WorkerId { id: Key::from_bits(7), epoch: 1 };
    let stored = jobs.records.get(job).await.expect("reads").expect("stands");
    let claimed = jobs
        .records
        .change(stored, RecordEvent::Claim(Claimant { worker, release: "r".into(), lane: "l".into() }))
        .await
        .expect("is claimed");
    let claim = Claim { worker, attempt: 1 };
    let event = match succeeds {
        true => RecordEvent::Succeed(claim, RawValue::NULL.to_owned()),
        false => RecordEvent::Fail(claim, HandlerError::new(ErrorCode::Lost, "no")),
    };
    let ended = jobs.records.change(claimed.stored, event).await.expect("ends");
    assert!(ended.stored.record.state.is_terminal());
}

async fn is_gone(jobs: &Jobs, job: Key) {
    let what = "the record expires";
    eventually(what, async || jobs.records.get(job).await.expect("reads").is_none()).await;
}

fn page() -> Address {
    Address { key: Key::from_bits(1), node: NodeNumber::new(1).expect("a number") }
}

pub(crate) async fn ended_jobs_are_kept_by_their_state(cluster: &Cluster) {
    let jobs = brief(&cluster.process().await).await;
    let keyed = || Submission {
        idempotency: Some(Idempotency { scope: "ann".into(), key: "k".into() }),
        ..submission("keyed")
    };
    let frame = RawValue::from_string("\"f\"".into()).expect("is done");
    let asked = Submission { page: Some(page()), frame: Some(frame), ..submission("asked") };
    let [good, bad, waiting] = [submission("good"), submission("bad"), submission("waiting")];
    let (good, bad, waiting) =
        (submit(&jobs, good).await, submit(&jobs, bad).await, submit(&jobs, waiting).await);
    let (asked, key) = (submit(&jobs, asked).await, submit(&jobs, keyed()).await);
    for (job, succeeds) in [(asked, true), (key, true), (bad, false), (good, true)] {
        run(&jobs, job, succeeds).await;
    }
    is_gone(&jobs, good).await;
    for kept in [asked, bad, waiting, key] {
        assert!(jobs.records.get(kept).await.expect("is done").is_some(), "{kept} is gone too");
    }
    let again = jobs.submit(keyed(), |_| {}).await.expect("is done");
    assert_eq!((again.fresh, again.record.id), (false, key), "the same job, long after its end");
    is_gone(&jobs, asked).await;
    assert_eq!(jobs.of_page(page().key, "\"f\"").await.expect("is done"), None, "nothing is known of it");
    assert!(matches!(jobs.cancel(asked).await, Err(TransitionFailure::Gone)));
    assert!(matches!(jobs.retry(asked, None).await, Err(TransitionFailure::Gone)));
    assert_eq!(jobs.retry(bad, None).await.expect("is done").state, JobState::Queued);
    assert_eq!(
        jobs.records.get(waiting).await.expect("is done").expect("is done").record.state,
        JobState::Queued
    );
}
