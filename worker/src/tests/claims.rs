//! Claims that exist without an attempt.

use pagewire_cluster::engine::{Consistency, Precondition, Put};
use pagewire_cluster::job::{NamedAttempt, TurnRow};
use pagewire_cluster::worker::WorkerId;

use super::worker::{Log, Worker, jobs};
use super::*;

async fn incarnation(jobs: &Jobs, worker: &Worker) -> WorkerId {
    let life = async {
        loop {
            if let Some(life) = jobs.workers.roster().current_epoch(worker.id) {
                return life;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, life).await.unwrap()
}

/// A job that a living worker claims without running it: the reply to its claim was lost, and its work item with it.
async fn forgotten(jobs: &Jobs, worker: &Worker, affinity: Affinity) -> Key {
    let (job, life) = (Key::random(), incarnation(jobs, worker).await);
    let waiting =
        jobs.submit(Submission { affinity, ..assigned("echo", "ann") }, |_| {}).await.unwrap().record;
    let (record, _) =
        apply(&Record { id: job, ..waiting }, RecordEvent::Claim(claimant(life)), unix_ms(), &TIMING)
            .unwrap();
    jobs.records.store.put(jobs.records.put(&record, Precondition::Absent)).await.unwrap();
    job
}

#[tokio::test]
async fn a_living_owner_that_does_not_know_of_its_users_runs_their_jobs_or_releases_them() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let (owner, other) = (Worker::start(&engine, &log).await, Worker::start(&engine, &log).await);
    let (life, _) = (incarnation(&jobs, &owner).await, incarnation(&jobs, &other).await);
    // some of the users are assigned to the other worker
    for user in 0..8 {
        let row = TurnRow { worker: life, term: None, job: None };
        let key = turn_key(&user.to_string());
        jobs.records.store.put(Put::new(key, row.encode(), Precondition::Absent)).await.unwrap();
    }
    for user in 0..8 {
        let record = end(&jobs, submit(&jobs, assigned("echo", &user.to_string())).await).await;
        let assigned = jobs.workers.roster().choose(&team(), &user.to_string(), None);
        assert_eq!(record.worker.map(|worker| worker.id), assigned);
    }
}

#[tokio::test]
async fn an_attempt_that_a_dead_owner_named_without_claiming_it_runs_elsewhere() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let named = jobs.submit(assigned("echo", "ann"), |_| {}).await.unwrap().record;
    // the named job waits for a time, so that the next owner settles it and runs the other one
    jobs.cancel(named.id).await.unwrap();
    let record =
        Record { id: Key::random(), due: unix_ms() + 3_600_000, state: JobState::Scheduled, ..named };
    let rev = jobs.records.store.put(jobs.records.put(&record, Precondition::Absent)).await.unwrap();
    let dead = WorkerId { id: Key::random(), epoch: 1 };
    let row = TurnRow { worker: dead, term: Some(7), job: Some(NamedAttempt { id: record.id, attempt: 1 }) };
    let key = turn_key("ann");
    let before =
        jobs.records.store.put(Put::new(key.as_str(), row.encode(), Precondition::Absent)).await.unwrap();
    let worker = Worker::start(&engine, &log).await;
    let ended = end(&jobs, submit(&jobs, assigned("echo", "ann")).await).await;
    assert_eq!(ended.worker.map(|worker| worker.id), Some(worker.id));
    let settled = jobs.records.get(record.id).await.unwrap().unwrap();
    assert!(settled.rev > rev, "a late claim of the dead worker finds another revision");
    assert_eq!(settled.record.state, JobState::Scheduled);
    let entry = jobs.records.store.get(&key, Consistency::Latest).await.unwrap().unwrap();
    let taken = TurnRow::of(&entry).unwrap();
    assert!(taken.term.is_none_or(|term| term > before), "terms only grow: {taken:?}");
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
    let record = jobs.records.get(job).await.unwrap().unwrap().record;
    assert_eq!((record.state, record.attempts), (JobState::Running, 1));
    jobs.cancel(job).await.unwrap();
    assert_eq!(end(&jobs, job).await.state, JobState::Cancelled);
    assert_eq!(log.lock().unwrap().len(), 1);
}
