//! Ended jobs, and how long their records are kept.

use super::*;
use crate::id::{Address, NodeNumber};
use crate::subject::Subjects;
use crate::worker::Workers;

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(600);

/// The jobs of a process that keeps those that have succeeded for a second.
async fn brief(engine: &Engine) -> Jobs {
    let subjects = Subjects::new("c");
    let workers = Workers::new(engine, &subjects, TIMING);
    let follow = workers.follow().await.unwrap();
    tokio::spawn(follow);
    Jobs::keeping(engine, &subjects, TIMING, Retention { succeeded: SECOND, failed: LONG }, &workers)
}

/// Ends a job as its worker would.
async fn run(jobs: &Jobs, job: Key, succeeds: bool) {
    let worker = crate::worker::WorkerId { id: Key::from_bits(7), epoch: 1 };
    let stored = jobs.records.get(job).await.unwrap().unwrap();
    let claimed = jobs.records.change(stored, RecordEvent::Claim(worker, "r".into())).await.unwrap();
    let claim = Claim { worker, attempt: 1 };
    let event = match succeeds {
        true => RecordEvent::Succeed(claim, RawValue::NULL.to_owned()),
        false => RecordEvent::Fail(claim, crate::wire::HandlerError::new(crate::code::ErrorCode::Lost, "no")),
    };
    let ended = jobs.records.change(claimed.stored, event).await.unwrap();
    assert!(ended.stored.record.state.is_terminal());
}

async fn is_gone(jobs: &Jobs, job: Key) {
    let gone = async {
        while jobs.records.get(job).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the record expires");
}

fn page() -> Address {
    Address { key: Key::from_bits(1), node: NodeNumber::new(1).unwrap() }
}

/// Runs jobs of every sort on an engine, and checks which are kept.
pub(super) async fn ended_jobs_are_kept_by_their_state(engine: &Engine) {
    let jobs = brief(engine).await;
    let keyed = || Submission {
        idempotency: Some(Idempotency { scope: "ann".into(), key: "k".into() }),
        ..submission("keyed")
    };
    let frame = RawValue::from_string("\"f\"".into()).unwrap();
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
        assert!(jobs.records.get(kept).await.unwrap().is_some(), "{kept} is gone too");
    }
    let again = jobs.submit(keyed(), |_| {}).await.unwrap();
    assert_eq!((again.fresh, again.record.id), (false, key), "the same job, long after its end");
    is_gone(&jobs, asked).await;
    assert_eq!(jobs.of_page(page().key, "\"f\"").await.unwrap(), Some(asked), "its row outlives it");
    assert!(matches!(jobs.cancel(asked).await, Err(TransitionFailure::Gone)));
    assert!(matches!(jobs.retry(asked).await, Err(TransitionFailure::Gone)));
    assert_eq!(jobs.retry(bad).await.unwrap().state, JobState::Queued);
    assert_eq!(jobs.records.get(waiting).await.unwrap().unwrap().record.state, JobState::Queued);
}

#[tokio::test]
async fn ended_jobs_are_kept_by_their_state_on_the_embedded_engine() {
    ended_jobs_are_kept_by_their_state(&memory()).await;
}

#[test]
fn the_longest_reason_decides_how_long_a_job_is_kept() {
    let kept = Retention { succeeded: SECOND, failed: LONG };
    let record = Record::decode(
        format!(
            r#"{{"id":"{}","kind":"k","data":1,"state":"succeeded","attempts":1,"retries":0,"affinity":"free","pool":"p",
            "lane":"l","created":1,"due":1}}"#,
            Key::from_bits(1)
        )
        .as_bytes(),
    )
    .unwrap();
    let asker = Waiter { page: page(), frame: RawValue::NULL.to_owned() };
    let keyed = Record { keyed: true, ..record.clone() };
    let asked = Record { askers: vec![asker.clone()], ..record.clone() };
    let failed = Record { state: JobState::Failed, askers: vec![asker], ..record.clone() };
    let running = Record { state: JobState::Running, ..keyed.clone() };
    let of = |record: &Record| kept.of(record, &TIMING);
    assert_eq!(of(&record), Some(SECOND));
    assert_eq!([of(&keyed), of(&asked)], [Some(TIMING.job_index), Some(TIMING.told_job)]);
    assert_eq!([of(&failed), of(&running)], [Some(LONG), None]);
}
