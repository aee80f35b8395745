//! Jobs that no worker takes, and the limit of waiting jobs per page.

use pagewire_cluster::id::{Account, Address, NodeNumber};

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
