//! Claims that exist without an attempt.

use super::worker::{Log, Worker, jobs};
use super::*;
use crate::engine::Precondition;

/// A job that a living worker claims without running it: the reply to its claim was lost, and its work item with it.
async fn forgotten(jobs: &Jobs, worker: &Worker, affinity: Affinity) -> Key {
    let job = Key::random();
    let life = async {
        loop {
            if let Some(life) = jobs.workers.roster().current_epoch(worker.id) {
                return life;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let life = tokio::time::timeout(PATIENCE, life).await.unwrap();
    let waiting =
        jobs.submit(Submission { affinity, ..assigned("echo", "ann") }, |_| {}).await.unwrap().record;
    let (record, _) =
        apply(&Record { id: job, ..waiting }, RecordEvent::Claim(life, "r".into()), unix_ms(), &TIMING)
            .unwrap();
    jobs.store.put(jobs.put(&record, Precondition::Absent)).await.unwrap();
    job
}

#[tokio::test]
async fn a_claim_that_its_living_worker_does_not_know_of_is_given_back() {
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let (engine, log) = (memory(), Log::default());
        let jobs = jobs(&engine).await;
        let worker = Worker::start(&engine, &log).await;
        let job = forgotten(&jobs, &worker, affinity).await;
        let _janitor = janitor(&jobs);
        let record = end(&jobs, job).await;
        assert_eq!(
            (record.state, record.attempts),
            (JobState::Succeeded, 1),
            "what was never begun does not count"
        );
    }
}

#[tokio::test]
async fn cancelling_a_job_that_its_worker_does_not_know_of_ends_it_at_once() {
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let (engine, log) = (memory(), Log::default());
        let jobs = jobs(&engine).await;
        let worker = Worker::start(&engine, &log).await;
        let job = forgotten(&jobs, &worker, affinity).await;
        jobs.cancel(job).await.unwrap();
        assert_eq!(end(&jobs, job).await.state, JobState::Cancelled);
    }
}

#[tokio::test]
async fn an_attempt_that_comes_to_nothing_counts_as_lost() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    let job = submit(&jobs, submission("drop once")).await;
    let _janitor = janitor(&jobs);
    let record = end(&jobs, job).await;
    assert_eq!((record.state, record.attempts), (JobState::Succeeded, 2));
}

#[tokio::test]
async fn a_job_that_runs_is_left_alone_however_often_its_worker_is_asked() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    let _janitor = janitor(&jobs);
    let job = submit(&jobs, submission("wait")).await;
    becomes(&jobs, job, |record| record.state == JobState::Running).await;
    // its work item is redelivered and its worker receives several claims queries meanwhile
    tokio::time::sleep(TIMING.redelivery * 3).await;
    let record = jobs.get(job).await.unwrap().unwrap().record;
    assert_eq!((record.state, record.attempts), (JobState::Running, 1));
    jobs.cancel(job).await.unwrap();
    assert_eq!(end(&jobs, job).await.state, JobState::Cancelled);
    assert_eq!(log.lock().unwrap().len(), 1);
}
