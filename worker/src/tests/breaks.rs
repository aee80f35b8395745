//! Jobs while links break, replies are lost and workers are killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pagewire_cluster::engine::{BusEvent, Faults, Faulty, Message};
use pagewire_cluster::id::{Address, NodeNumber};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::wire::{self, JobUpdate, PeerRequest, PushCounts};

use super::worker::{Log, Worker, jobs};
use super::*;

/// Every process has a link of its own that breaks, writes with lost replies, and work items that are delivered twice;
/// the workers are killed and start again. Every job ends exactly once, and no successful result is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_once_whatever_breaks() {
    let first = number("PAGEWIRE_SIM_SEED", 0);
    for seed in first..first + number("PAGEWIRE_SIM_RUNS", 2) {
        let memory = Memory::with_timing(&TIMING);
        let engines = memory.clone();
        let process =
            move |number| Engine::Faulty(Faulty::new(engines.clone(), seed * 100 + number, Faults::all(20)));
        let log = Log::default();
        let calm = jobs(&Engine::Memory(memory.clone())).await;
        let jobs = jobs(&process(0)).await;
        let _janitor = janitor(&jobs);
        let mut workers =
            vec![Worker::start(&process(1), &log).await, Worker::start(&process(2), &log).await];
        let mut submitted = Vec::new();
        for n in 0..12 {
            let kind = ["echo", "fail", "hang once"][n % 3];
            let affinity = if n % 2 == 0 { Affinity::Free } else { Affinity::Assigned };
            let submission = Submission { affinity, retries: 1, ..assigned(kind, "ann") };
            if let Ok(submitted_now) = jobs.submit(submission, |_| {}).await {
                submitted.push((kind, submitted_now.record.id));
            }
        }
        // a blocked job is freed when its worker is killed
        let mut deaths = JoinSet::new();
        deaths.spawn(async move {
            for number in 10.. {
                tokio::time::sleep(TIMING.lease_ttl).await;
                workers.remove(0);
                workers.push(Worker::start(&process(number), &log).await);
            }
        });
        for (kind, job) in submitted {
            let record = end(&calm, job).await;
            let expected = if kind == "fail" { JobState::Dead } else { JobState::Succeeded };
            assert_eq!(record.state, expected, "seed {seed}: {record:?}");
        }
    }
}

/// The ends that a page received, counted per job.
type Told = Arc<Mutex<BTreeMap<Key, u32>>>;

/// A node that has one page.
async fn node(engine: &Engine) -> (Address, Told) {
    let page = Address { key: Key::random(), node: NodeNumber::new(1).unwrap() };
    let told = Told::default();
    let mut inbox = engine.subscribe(&Subjects::new("c").page(page.node), None, 1 << 20).await.unwrap();
    let (engine, ends) = (engine.clone(), told.clone());
    tokio::spawn(async move {
        while let Some(received) = inbox.next().await {
            let BusEvent::Message(message) = received else { continue };
            let Some(PeerRequest::Job(note)) = wire::decode_request(&message.payload) else { continue };
            if let JobUpdate::Ended(_) = note.news {
                *ends.lock().unwrap().entry(note.job).or_default() += 1;
            }
            let answer = wire::encode_response(Some(PushCounts { reached: 1, held: 0 }));
            let _ = engine.publish(Message::new(message.reply.unwrap(), answer)).await;
        }
    });
    (page, told)
}

pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The link of a worker breaks right after a write, so that neither its reply nor the read that would resolve the
/// outcome arrives. No worker is killed: a job that stays open was forgotten by a living worker.
async fn a_worker_forgets_nothing(seed: u64) {
    let memory = Memory::with_timing(&TIMING);
    let calm = Engine::Memory(memory.clone());
    let (jobs, log) = (jobs(&calm).await, Log::default());
    let (page, told) = node(&calm).await;
    let faults = Faults { severed: 150, unknown: 50, lost: 20, deadline: 20, ..Faults::default() };
    let process = |number| Engine::Faulty(Faulty::new(memory.clone(), seed * 100 + number, faults));
    let _workers = [Worker::start(&process(1), &log).await, Worker::start(&process(2), &log).await];
    let _janitor = janitor(&jobs);
    let mut all = Vec::new();
    for n in 0..24 {
        let affinity = if n % 2 == 0 { Affinity::Free } else { Affinity::Assigned };
        let submission = assigned(["echo", "fail"][n / 2 % 2], ["ann", "bob"][n / 4 % 2]);
        all.push(submit(&jobs, Submission { affinity, page: Some(page), ..submission }).await);
    }
    for job in &all {
        let record = jobs.notifier.wait(*job, PATIENCE).await.unwrap().unwrap();
        assert!(record.state.is_terminal(), "seed {seed}: {record:?}");
    }
    let everything = async {
        while all.iter().any(|job| !told.lock().unwrap().contains_key(job)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let everything = tokio::time::timeout(PATIENCE / 2, everything).await;
    assert!(everything.is_ok(), "seed {seed}: the page was told of {} jobs", told.lock().unwrap().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_leaves_no_job_claimed_and_no_page_untold() {
    let first = number("PAGEWIRE_SIM_SEED", 0);
    for seed in first..first + number("PAGEWIRE_SIM_RUNS", 3) {
        a_worker_forgets_nothing(seed).await;
    }
}

/// Runs without a reconciler, which would find the jobs much later.
#[tokio::test]
async fn a_job_whose_hint_is_lost_is_offered_again_by_its_submitter() {
    let memory = Memory::with_timing(&TIMING);
    let calm = Engine::Memory(memory.clone());
    let (calm_jobs, log) = (jobs(&calm).await, Log::default());
    let _worker = Worker::start(&calm, &log).await;
    let faults = Faults { down: 300, unknown: 200, severed: 100, ..Faults::default() };
    let jobs = jobs(&Engine::Faulty(Faulty::new(memory, 7, faults))).await;
    let mut accepted = 0;
    for n in 0.. {
        let affinity = if n % 2 == 0 { Affinity::Free } else { Affinity::Assigned };
        let submission = Submission { affinity, ..assigned("echo", &n.to_string()) };
        let Ok(submitted) = jobs.submit(submission, |_| {}).await else { continue };
        assert_eq!(end(&calm_jobs, submitted.record.id).await.state, JobState::Succeeded);
        accepted += 1;
        if accepted == 20 {
            return;
        }
    }
}

#[tokio::test]
async fn a_user_behind_any_number_of_others_is_found_without_a_wake_up() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let _worker = Worker::start(&engine, &log).await;
    for n in 0..2000 {
        let run_at = Some(unix_ms() + 3_600_000);
        submit(&jobs, Submission { run_at, ..assigned("echo", &n.to_string()) }).await;
    }
    // the rows that `submit` writes, from a process that is killed before it wakes a worker
    let forgotten = Key::random();
    let other = jobs.submit(assigned("echo", "other"), |_| {}).await.unwrap().record;
    let record = Record { id: forgotten, user: Some("ann".into()), state: JobState::Queued, ..other };
    let rev = jobs
        .records
        .store
        .put(jobs.records.put(&record, pagewire_cluster::engine::Precondition::Absent))
        .await
        .unwrap();
    jobs.dispatcher.rows.put(&pagewire_cluster::job::StoredJob { record, rev }).await.unwrap();
    assert_eq!(end(&jobs, forgotten).await.state, JobState::Succeeded);
}
