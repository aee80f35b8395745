//! Many jobs of one user, and one job of another.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_job_of_a_user_does_not_wait_behind_ten_thousand_of_another() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let flood = || Submission { user: Some("ann".into()), ..submission("flood") };
    let first = jobs.submit(flood(), |_| {}).await.unwrap().record;
    for _ in 1..10_000 {
        submit(&jobs, flood()).await;
    }
    let _worker = Worker::start(&engine, &log).await;
    end(&jobs, first.id).await;
    let before = log.lock().unwrap().len();
    // not all of them are in the shard of the first user
    let others = ["bob", "cid", "dan", "eve"]
        .map(|user| Submission { user: Some(user.into()), ..submission("other") });
    for other in others {
        submit(&jobs, other).await;
    }
    let started = async {
        loop {
            if let Some(at) = log.lock().unwrap().iter().position(|(_, kind)| kind == "other") {
                return at;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let at = tokio::time::timeout(PATIENCE, started).await.expect("one of them starts");
    assert!(at - before < 200, "it started behind {} others", at - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_worker_keeps_no_job_that_another_could_run() {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let full = Worker::start(&engine, &log).await;
    let mut long = Vec::new();
    for user in 0..4 {
        long.push(submit(&jobs, Submission { user: Some(user.to_string()), ..submission("wait") }).await);
    }
    for job in &long {
        becomes(&jobs, *job, |record| record.progress.is_some()).await;
    }
    let other = Worker::start(&engine, &log).await;
    // the first worker has pulls outstanding at most shards
    for user in 0..40 {
        let job = submit(&jobs, Submission { user: Some(user.to_string()), ..submission("echo") }).await;
        let record = end(&jobs, job).await;
        assert_eq!(record.worker.map(|worker| worker.id), Some(other.id));
    }
    for job in long {
        jobs.cancel(job).await.unwrap();
        end(&jobs, job).await;
    }
    drop(full);
}
