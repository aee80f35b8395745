//! What becomes of jobs that a worker has when it begins to drain.

use pagewire_cluster::job::JobState;

use super::worker::{Log, Worker, jobs};
use super::*;

async fn runs(jobs: &Jobs, job: Key) {
    becomes(jobs, job, |record| record.state == JobState::Running).await;
}

#[tokio::test]
async fn a_work_item_that_waits_for_a_slot_of_a_worker_that_drains_goes_to_another_worker() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let first = Worker::start(&engine, &log).await;
    let mut running = Vec::new();
    for _ in 0..4 {
        let job = submit(&jobs, submission("wait")).await;
        runs(&jobs, job).await;
        running.push(job);
    }
    let waiting = submit(&jobs, submission("echo")).await;
    // the first worker has its work item meanwhile, and no slot for it
    tokio::time::sleep(Duration::from_millis(50)).await;
    let others = async {
        jobs.cancel(running[0]).await.unwrap();
        end(&jobs, running[0]).await;
        let second = Worker::start(&engine, &log).await;
        let record = end(&jobs, waiting).await;
        assert_eq!((record.worker.unwrap().id, record.attempts), (second.id, 1));
        for job in &running[1..] {
            jobs.cancel(*job).await.unwrap();
        }
    };
    tokio::join!(first.drain(), others);
}

#[tokio::test]
async fn a_job_that_is_claimed_and_not_received_by_a_worker_that_drains_is_given_back() {
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let (engine, log) = (memory(), Log::default());
        let jobs = jobs(&engine).await;
        let worker = Worker::start(&engine, &log).await;
        worker.acquire(&jobs, "ann").await;
        let mut job = None;
        let arrive = async {
            let arrived = submit(&jobs, Submission { affinity, ..assigned("echo", "ann") }).await;
            runs(&jobs, arrived).await;
            job = Some(arrived);
        };
        worker.drain_without_reading(arrive).await;
        let stored = jobs.records.get(job.unwrap()).await.unwrap().unwrap();
        assert_eq!((stored.record.state, stored.record.attempts), (JobState::Queued, 0), "{affinity:?}");
        let other = Worker::start(&engine, &log).await;
        let record = end(&jobs, job.unwrap()).await;
        assert_eq!(record.worker.unwrap().id, other.id);
    }
}
