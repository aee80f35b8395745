//! New jobs that an idle worker takes before they are written.

use pagewire_cluster::engine::{BusEvent, Message, Subscription};
use pagewire_cluster::id::Address;
use pagewire_cluster::job::Submitted;
use pagewire_cluster::wire::{self, NewJobAnswer};
use pagewire_cluster::worker::{WorkerRow, claim_worker};
use tokio::time::timeout;

use super::*;

/// A worker that only the test answers for.
struct ScriptedWorker {
    id: WorkerId,
    offers: Subscription,
    _keeper: JoinSet<()>,
}

impl ScriptedWorker {
    async fn start(engine: &Engine, jobs: &Jobs) -> Self {
        let methods = vec!["echo".to_owned()];
        let row = WorkerRow { pool: "p".into(), lane: BASE.into(), methods, ..WorkerRow::default() };
        let (keeper, lease) = claim_worker(engine, TIMING, Key::random(), row).await.unwrap();
        let offers =
            engine.subscribe(&jobs.subjects.new_jobs("p", BASE), Some("workers"), 1 << 20).await.unwrap();
        let mut tasks = JoinSet::new();
        let unmarked = tokio::sync::watch::channel(false).1;
        tasks.spawn(keeper.keep(unmarked, std::future::pending()));
        let is_seen = async {
            while !jobs.workers.roster().has_other_candidate(&team(), "echo", None) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, is_seen).await.expect("the worker is seen");
        Self { id: lease.worker().unwrap(), offers, _keeper: tasks }
    }

    /// Returns the next job that it is offered.
    async fn offered(&mut self) -> (Record, Message) {
        match timeout(PATIENCE, self.offers.next()).await.expect("an offer") {
            Some(BusEvent::Message(offer)) => (Record::decode(&offer.payload).unwrap(), offer),
            other => panic!("{other:?}"),
        }
    }

    /// Returns whether it was offered nothing so far.
    async fn was_left_alone(&mut self) -> bool {
        timeout(Duration::ZERO, self.offers.next()).await.is_err()
    }
}

/// The only worker of a cluster, and what submits to it.
async fn scripted() -> (Engine, Jobs, ScriptedWorker) {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let worker = ScriptedWorker::start(&engine, &jobs).await;
    (engine, jobs, worker)
}

async fn fresh(jobs: &Jobs, submission: Submission) -> Submitted {
    let submitted = jobs.submit(submission, |_| {}).await.unwrap();
    assert!(submitted.fresh, "{submitted:?}");
    submitted
}

async fn stored(jobs: &Jobs, job: &Submitted) -> Record {
    jobs.records.get(job.record.id).await.unwrap().unwrap().record
}

async fn items(engine: &Engine) -> u64 {
    engine.depth(&lane_routes(&team())).await.unwrap()
}

#[tokio::test]
async fn an_idle_worker_runs_a_new_job_that_has_no_work_item() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let worker = Worker::start(&engine, &log).await;
    let taken = async {
        loop {
            let job = fresh(&jobs, submission("wait")).await;
            if items(&engine).await == 0 {
                return job;
            }
            // the worker has not looked at all of its routes yet
            jobs.cancel(job.record.id).await.unwrap();
            end(&jobs, job.record.id).await;
            tokio::time::sleep(TIMING.idle_offer / 10).await;
        }
    };
    let job = timeout(PATIENCE, taken).await.expect("a worker without work is idle");
    assert_eq!((job.record.state, job.record.attempts), (JobState::Queued, 0), "as it was submitted");
    let running = stored(&jobs, &job).await;
    assert_eq!((running.state, running.attempts), (JobState::Running, 1));
    assert_eq!(
        (running.worker.map(|worker| worker.id), running.release.as_deref()),
        (Some(worker.id), Some("r"))
    );
    jobs.cancel(job.record.id).await.unwrap();
    assert_eq!(end(&jobs, job.record.id).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_job_whose_worker_does_not_answer_exists_once_and_its_submitter_knows_it() {
    let (engine, jobs, mut worker) = scripted().await;
    let lost = async {
        let (new, _) = worker.offered().await;
        jobs.records.create_running(&new, claimant(worker.id)).await.unwrap().expect("it is created");
    };
    let (job, ()) = tokio::join!(fresh(&jobs, submission("echo")), lost);
    let running = stored(&jobs, &job).await;
    assert_eq!((running.state, running.worker), (JobState::Running, Some(worker.id)));
    assert_eq!(items(&engine).await, 0);

    fresh(&jobs, submission("echo")).await;
    assert!(worker.was_left_alone().await, "a lane without an answer is not asked for a while");
    assert_eq!(items(&engine).await, 1);
}

#[tokio::test]
async fn a_worker_that_comes_too_late_does_not_create_the_job_again() {
    let (engine, jobs, mut worker) = scripted().await;
    let (job, (new, _)) = tokio::join!(fresh(&jobs, submission("echo")), worker.offered());
    assert_eq!(
        jobs.records.create_running(&new, claimant(worker.id)).await.map(|created| created.is_some()),
        Ok(false)
    );
    assert_eq!(stored(&jobs, &job).await.state, JobState::Queued);
    assert_eq!(items(&engine).await, 1, "any worker may take it");
}

#[tokio::test]
async fn a_worker_that_declines_is_asked_again_after_a_pause() {
    let (engine, jobs, mut worker) = scripted().await;
    let declines = async {
        let (_, offer) = worker.offered().await;
        let answer = wire::encode(&NewJobAnswer { taken: false });
        engine.publish(Message::new(offer.reply.expect("a reply subject"), answer)).await.unwrap();
    };
    let (first, ()) = tokio::join!(fresh(&jobs, submission("echo")), declines);
    let second = fresh(&jobs, submission("echo")).await;
    assert!(worker.was_left_alone().await);
    assert_eq!(items(&engine).await, 2);
    for job in [first, second] {
        assert_eq!(stored(&jobs, &job).await.state, JobState::Queued);
    }
    let asked_again = async {
        while worker.was_left_alone().await {
            fresh(&jobs, submission("echo")).await;
            tokio::time::sleep(TIMING.idle_offer / 10).await;
        }
    };
    timeout(PATIENCE, asked_again).await.expect("another offer");
}

#[tokio::test]
async fn only_a_job_that_may_start_before_its_submitter_knows_it_is_offered() {
    let (_engine, jobs, mut worker) = scripted().await;
    let page: Address = format!("{}|p01", Key::random()).parse().unwrap();
    let key = Idempotency { scope: "s".into(), key: "k".into() };
    let large = RawValue::from_string(format!("\"{}\"", "x".repeat(8 * 1024))).unwrap();
    for submission in [
        Submission { page: Some(page), ..submission("echo") },
        Submission { idempotency: Some(key), ..submission("echo") },
        Submission { run_in: Some(Duration::from_secs(60)), ..submission("echo") },
        Submission { data: large, ..submission("echo") },
        assigned("echo", "ann"),
        submission("other"),
    ] {
        fresh(&jobs, submission).await;
        assert!(worker.was_left_alone().await);
    }
}
