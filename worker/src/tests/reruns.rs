//! Assigned jobs that an operator runs again while the worker that ended them has not deleted their open rows.

use pagewire_cluster::engine::{Faults, Faulty};

use super::worker::{Log, Worker, jobs};
use super::*;

/// A worker that is suspended between the end of a job and the deletion of the job's open row.
struct LateEnd {
    jobs: Jobs,
    job: Key,
    engine: Faulty,
    _worker: Worker,
}

impl LateEnd {
    async fn begin() -> Self {
        let memory = Memory::with_timing(&TIMING);
        let jobs = jobs(&Engine::Memory(memory.clone())).await;
        let engine = Faulty::new(memory.new_process_handle(), 0, Faults::default());
        let worker = Worker::start(&Engine::Faulty(engine.clone()), &Log::default()).await;
        let claimed = engine.process().suspend_after(job_key::JOBS);
        let job = submit(&jobs, assigned("fail", "ann")).await;
        claimed.await.unwrap();
        let ended = engine.process().suspend_after(job_key::JOBS);
        engine.process().resume();
        ended.await.unwrap();
        assert_eq!(becomes(&jobs, job, |_| true).await.state, JobState::Failed);
        Self { jobs, job, engine, _worker: worker }
    }

    /// The worker wakes. Waits until the job has run once more, and until its row is deleted.
    async fn wake(self) {
        assert_eq!(becomes(&self.jobs, self.job, |_| true).await.state, JobState::Queued);
        self.engine.process().resume();
        assert_eq!(end(&self.jobs, self.job).await.state, JobState::Failed);
        let row_deleted = async {
            while !self.jobs.records.store.list("open.").await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, row_deleted).await.expect("the row of the second run is deleted");
    }
}

/// Without a reconciler: the row that the second run needs is the one that the retry writes.
#[tokio::test]
async fn a_job_that_is_run_again_before_the_deletion_of_its_row_begins() {
    let late = LateEnd::begin().await;
    late.jobs.retry(late.job, None).await.unwrap();
    late.wake().await;
}

#[tokio::test]
async fn a_job_whose_node_died_while_it_ran_the_job_again_begins_although_its_old_row_still_exists() {
    let late = LateEnd::begin().await;
    let stored = late.jobs.records.get(late.job).await.unwrap().unwrap();
    late.jobs.records.change(stored, RecordEvent::Retry(None)).await.unwrap();
    let offered = async {
        let mut reconciler = JobReconciler::default();
        while reconciler.run_once(&late.jobs).await.unwrap() == 0 {
            tokio::time::sleep(TIMING.lease_renew).await;
        }
    };
    tokio::time::timeout(PATIENCE, offered).await.expect("the reconciler writes a row for the second run");
    late.wake().await;
}
