//! Jobs that no worker takes, and the limit of waiting jobs per page.

use pagewire_cluster::engine::{Consistency, Faults, Faulty};
use pagewire_cluster::id::{Account, Address, NodeNumber};
use pagewire_cluster::subject::SubjectToken;

use super::*;

fn quota(page: u128, account: Account) -> Quota {
    Quota { account, page: Key::from_bits(page), per_page: 3, per_account: 5 }
}

fn of(page: u128, account: Account) -> Submission {
    Submission { quota: Some(quota(page, account)), ..submission("echo") }
}

fn ann() -> Account {
    Account::User("ann".into())
}

async fn try_submit(jobs: &Jobs, submission: Submission) -> Result<Key, SubmitError> {
    jobs.submit(submission, |_| {}).await.map(|submitted| submitted.record.id)
}

#[tokio::test]
async fn open_jobs_are_bounded_per_page_and_per_user_and_an_end_makes_room() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(try_submit(&jobs, of(1, ann())).await.unwrap());
    }
    assert_eq!(try_submit(&jobs, of(1, ann())).await, Err(SubmitError::PageFull));
    for _ in 0..2 {
        try_submit(&jobs, of(2, ann())).await.unwrap();
    }
    assert_eq!(try_submit(&jobs, of(2, ann())).await, Err(SubmitError::AccountFull));
    try_submit(&jobs, of(1, Account::Connection(Key::from_bits(1)))).await.unwrap();
    assert!(try_submit(&jobs, submission("echo")).await.is_ok(), "what is not counted is not bounded");
    jobs.cancel(first[0]).await.unwrap();
    let room = async { while try_submit(&jobs, of(1, ann())).await.is_err() {} };
    tokio::time::timeout(PATIENCE, room).await.expect("an end makes room");
}

#[tokio::test]
async fn the_bound_holds_in_another_process_and_for_a_submission_that_comes_again() {
    let engine = memory();
    let here = jobs(&engine).await;
    let keyed = |page| Submission {
        idempotency: Some(Idempotency { scope: "ann".into(), key: "k".into() }),
        ..of(page, ann())
    };
    for _ in 0..4 {
        try_submit(&here, keyed(1)).await.unwrap();
    }
    for page in [1, 1, 2, 2] {
        try_submit(&here, of(page, ann())).await.unwrap();
    }
    let there = jobs(&engine).await;
    assert_eq!(try_submit(&there, of(3, ann())).await, Err(SubmitError::AccountFull));
    let again = try_submit(&there, keyed(1)).await;
    assert!(again.is_ok(), "the same job is no further one: {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_one_user_that_submit_at_once_on_two_nodes_get_exactly_the_bound() {
    let engine = memory();
    let nodes = [jobs(&engine).await, jobs(&engine).await];
    let mut tasks = JoinSet::new();
    for page in 0..12 {
        let jobs = nodes[page % 2].clone();
        tasks.spawn(async move { try_submit(&jobs, of(page as u128, ann())).await });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(SubmitError::AccountFull))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_few_open_jobs_is_not_refused_however_many_it_has_had() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let jobs = jobs.clone();
        tasks.spawn(async move {
            for _ in 0..200 {
                let job = try_submit(&jobs, of(1, ann())).await.expect("at most three are open");
                // what a node does when its page is told of the end
                jobs.quotas.is_over(&ann(), job);
            }
        });
    }
    tasks.join_all().await;
}

fn wide(page: u128) -> Submission {
    let quota = Quota { per_page: 16, per_account: 16, ..quota(page, ann()) };
    Submission { quota: Some(quota), ..submission("echo") }
}

/// The ids in the stored row of the user; `None` if there is no row.
async fn stored_row(jobs: &Jobs) -> Option<Vec<Key>> {
    let key = job_key::quota_of_user(&SubjectToken::new("ann"));
    let entry = jobs.records.store.get(&key, Consistency::Latest).await.unwrap()?;
    let row: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    let open = row["open"].as_array().unwrap().iter();
    Some(open.map(|place| place[0].as_str().unwrap().parse().unwrap()).collect())
}

async fn row_becomes(jobs: &Jobs, expected: &[Key]) {
    let becomes = async {
        while stored_row(jobs).await.as_deref() != Some(expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, becomes).await.expect("the row is written");
}

#[tokio::test]
async fn short_jobs_of_a_page_are_not_written_and_a_long_one_is_written_after_a_while() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    for _ in 0..100 {
        let job = try_submit(&jobs, wide(1)).await.expect("none is open");
        jobs.quotas.is_over(&ann(), job);
    }
    let long = try_submit(&jobs, wide(1)).await.unwrap();
    row_becomes(&jobs, &[long]).await;
}

#[tokio::test]
async fn a_process_that_stops_leaves_no_open_job_uncounted() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(try_submit(&jobs, wide(1)).await.unwrap());
    }
    jobs.quotas.write_all().await;
    assert_eq!(stored_row(&jobs).await, Some(open));
}

#[tokio::test]
async fn a_job_that_was_admitted_before_its_row_is_written_counts_in_another_process() {
    let engine = memory();
    let here = jobs(&engine).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(try_submit(&here, wide(1)).await.unwrap());
    }
    row_becomes(&here, &open).await;
    let there = jobs(&engine).await;
    for _ in 4..16 {
        try_submit(&there, wide(2)).await.unwrap();
    }
    assert_eq!(try_submit(&there, wide(2)).await, Err(SubmitError::AccountFull));
    let last = jobs(&engine).await;
    assert_eq!(try_submit(&last, wide(3)).await, Err(SubmitError::AccountFull));
}

#[tokio::test]
async fn jobs_of_one_process_get_exactly_the_limit_however_fast_they_come() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let mut tasks = JoinSet::new();
    for page in 0..40 {
        let jobs = jobs.clone();
        tasks.spawn(async move { try_submit(&jobs, wide(page % 5)).await });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 16, "{outcomes:?}");
}

#[tokio::test]
async fn an_unwritten_job_is_written_when_the_link_to_the_engine_is_back() {
    let memory = Memory::with_timing(&TIMING);
    let link = Faulty::new(memory.clone(), 1, Faults::default());
    let here = jobs(&Engine::Faulty(link.clone())).await;
    let calm = jobs(&Engine::Memory(memory)).await;
    let job = try_submit(&here, wide(1)).await.unwrap();
    link.process().cut_for(TIMING.quota_write * 20);
    let refused = try_submit(&here, of(1, ann())).await;
    assert_eq!(refused, Err(SubmitError::Unavailable), "this one is admitted only by a write");
    row_becomes(&calm, &[job]).await;
}

/// Two nodes submit for one user while their links break and responses are lost. Each admitted job is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_admit_the_limit_and_at_most_a_quarter_whatever_breaks() {
    for seed in 0..4 {
        let memory = Memory::with_timing(&TIMING);
        let mut tasks = JoinSet::new();
        for number in 0..2 {
            let link = Faulty::new(memory.clone(), seed * 100 + number, Faults::all(50));
            let jobs = jobs(&Engine::Faulty(link)).await;
            for _ in 0..16 {
                let jobs = jobs.clone();
                tasks.spawn(async move {
                    loop {
                        match try_submit(&jobs, wide(number.into())).await {
                            Err(SubmitError::Unavailable) => jobs.records.wait_to_retry().await,
                            outcome => return outcome.ok(),
                        }
                    }
                });
            }
        }
        let admitted: Vec<Key> = tasks.join_all().await.into_iter().flatten().collect();
        assert!(admitted.len() <= 16 + Quota::slack(16), "seed {seed}: {}", admitted.len());
        let calm = jobs(&Engine::Memory(memory)).await;
        let written = async {
            loop {
                let row = stored_row(&calm).await.unwrap_or_default();
                if admitted.iter().all(|job| row.contains(job)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.expect("every admitted job is written");
    }
}

#[tokio::test]
async fn a_request_id_of_a_page_leads_to_the_last_job_of_that_id() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let page = Address { key: Key::from_bits(1), node: NodeNumber::new(1).unwrap() };
    let frame = || RawValue::from_string("7".into()).unwrap();
    let request = || Submission { page: Some(page), frame: Some(frame()), ..submission("echo") };
    let first = submit(&jobs, request()).await;
    assert_eq!(jobs.of_page(page.key, "7").await.unwrap(), Some(first));
    let second = submit(&jobs, request()).await;
    assert_ne!(first, second, "the page has used the id again");
    assert_eq!(jobs.of_page(page.key, "7").await.unwrap(), Some(second));
    assert_eq!(jobs.of_page(page.key, "8").await.unwrap(), None);
    assert_eq!(jobs.of_page(Key::from_bits(2), "7").await.unwrap(), None);
}

#[tokio::test]
async fn a_job_that_no_worker_takes_ends_and_leaves_no_hint_behind() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let mut janitor = JobReconciler::new(Duration::from_millis(300));
    let page = Address { key: Key::from_bits(1), node: NodeNumber::new(1).unwrap() };
    let free = submit(&jobs, Submission { page: Some(page), ..submission("echo") }).await;
    let own = submit(&jobs, assigned("echo", "ann")).await;
    let soon = submit(&jobs, Submission { run_at: Some(unix_ms() + 60_000), ..submission("echo") }).await;
    janitor.run_once(&jobs).await.unwrap();
    assert_eq!(
        jobs.records.get(free).await.unwrap().unwrap().record.state,
        JobState::Queued,
        "its time is not over"
    );
    let over = async {
        loop {
            janitor.run_once(&jobs).await.unwrap();
            let open = jobs.records.store.scan("open.", 0, 9).await.unwrap();
            if engine.depth(&lane_routes(&team())).await.unwrap() == 1 && open.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.expect("what is over leaves nothing behind");
    for job in [free, own] {
        let record = jobs.records.get(job).await.unwrap().unwrap().record;
        assert_eq!(record.state, JobState::Dead);
        assert_eq!(record.error.map(|error| error.code).as_deref(), Some("expired"));
    }
    assert_eq!(jobs.records.get(soon).await.unwrap().unwrap().record.state, JobState::Scheduled);
    assert_eq!(jobs.retry(free, None).await.unwrap().state, JobState::Queued, "an operator may run it again");
}
