//! Kinds of work that kill their executors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pagewire_cluster::job::{CallError, JobState, KindEvent, Quarantines};

use super::serial::{call, start, until};
use super::worker::jobs;
use super::{PATIENCE, end, memory, submission, submit};
use crate::handlers::{HandlerInput, HandlerOptions, HandlersBuilder, RunFailure};

#[tokio::test]
async fn a_kind_that_killed_three_executors_alone_is_refused_until_an_operator_lifts_it() {
    let (engine, kills) = (memory(), Arc::new(AtomicBool::new(true)));
    let jobs = jobs(&engine).await;
    let killing = kills.clone();
    let deadly = move |input: HandlerInput| {
        let kills = killing.load(Ordering::SeqCst);
        let died = RunFailure::Lost { alone: input.alone, log: "out of memory".into() };
        async move { if kills { Err(died) } else { Ok(input.params) } }
    };
    let handlers = HandlersBuilder::default()
        .runtime("deadly", HandlerOptions::default(), deadly)
        .handler("echo", |input| async move { Ok(input.params) })
        .build();
    let _worker = start(&engine, handlers).await;
    until("the worker is there", || jobs.workers.roster().list().len() == 1).await;

    // the first death is a suspicion, because other work ran in the executor; three more are alone
    let quarantines = Quarantines::new(&engine);
    assert_eq!(call(jobs.clone(), "deadly", "ann", 1, PATIENCE).await, Err(CallError::Lost));
    let known = quarantines.of("p").await.unwrap();
    assert!(known.is_suspect("deadly") && known.refused("deadly").is_none());
    let job = submit(&jobs, submission("deadly")).await;
    let record = end(&jobs, job).await;
    let code = record.error.map(|error| error.code);
    assert_eq!((record.state, record.losses, code.as_deref()), (JobState::Failed, 3, Some("quarantined")));
    let refused = quarantines.of("p").await.unwrap().refused("deadly").cloned().unwrap();
    assert_eq!((refused.deaths, refused.log.as_str(), refused.release.as_str()), (3, "out of memory", "r"));
    match call(jobs.clone(), "deadly", "ann", 1, PATIENCE).await {
        Err(CallError::Failed(error)) => assert_eq!(error.code, "quarantined"),
        other => panic!("{other:?}"),
    }
    assert_eq!(call(jobs.clone(), "echo", "ann", 7, PATIENCE).await.as_deref(), Ok("7"), "others run");

    kills.store(false, Ordering::SeqCst);
    assert_eq!(quarantines.apply("p", "deadly", &KindEvent::Lifted).await, Ok(true));
    let runs = async { while call(jobs.clone(), "deadly", "ann", 2, PATIENCE).await.is_err() {} };
    tokio::time::timeout(PATIENCE, runs).await.expect("a lifted kind runs");
    jobs.retry(job, None).await.unwrap();
    assert_eq!(end(&jobs, job).await.state, JobState::Succeeded);
}

#[tokio::test]
async fn a_suspected_kind_that_ends_alone_is_no_suspect_any_more() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let first = AtomicBool::new(true);
    let unlucky = move |input: HandlerInput| {
        let died = first.swap(false, Ordering::SeqCst);
        async move {
            match died {
                true => Err(RunFailure::Lost { alone: false, log: String::new() }),
                false => Ok(input.params),
            }
        }
    };
    let handlers = HandlersBuilder::default().runtime("unlucky", HandlerOptions::default(), unlucky).build();
    let _worker = start(&engine, handlers).await;
    let job = submit(&jobs, submission("unlucky")).await;
    let record = end(&jobs, job).await;
    assert_eq!((record.state, record.losses), (JobState::Succeeded, 1));
    assert!(!Quarantines::new(&engine).of("p").await.unwrap().is_suspect("unlucky"));
}
