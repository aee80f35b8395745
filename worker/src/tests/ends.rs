//! Handlers that put off their job, or the next try of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagewire_cluster::clock::unix_ms;
use pagewire_cluster::job::{Affinity, CallError, JobState, Submission};
use pagewire_cluster::wire::HandlerError;

use super::serial::{call, start, until};
use super::worker::jobs;
use super::{PATIENCE, assigned, becomes, end, memory, submission, submit};
use crate::handlers::{
    HandlerInput, HandlerOptions, Handlers, HandlersBuilder, RunFailure, WorkUnit, failed,
};

const LATER: Duration = Duration::from_millis(600);

/// The attempt and its time, of each run of the handlers below.
type Runs = Arc<Mutex<Vec<(u32, u64)>>>;

/// Returns handlers that put off their first run, or fail at it, and then return their argument.
fn handlers(runs: &Runs) -> Handlers {
    let first = |runs: &Runs, input: &HandlerInput| {
        let WorkUnit::Job { attempt, .. } = input.unit else { return true };
        let mut runs = runs.lock().unwrap();
        runs.push((attempt, unix_ms()));
        runs.len() == 1
    };
    let (snoozes, fails) = (runs.clone(), runs.clone());
    let snooze = move |input: HandlerInput| {
        let first = first(&snoozes, &input);
        async move { if first { Err(RunFailure::Snoozed(LATER)) } else { Ok(input.params) } }
    };
    let later = move |input: HandlerInput| {
        let first = first(&fails, &input);
        async move { if first { Err(RunFailure::RetryAfter(failed("busy"), LATER)) } else { Ok(input.params) } }
    };
    let options = HandlerOptions::default();
    HandlersBuilder::default()
        .runtime("snooze", options, snooze)
        .runtime("later", options, later)
        .handler("loud", |_| async { Err(failed("x".repeat(600 * 1024))) })
        .handler("echo", |input| async move { Ok(input.params) })
        .build()
}

#[tokio::test]
async fn a_job_that_is_put_off_runs_again_at_its_time_and_has_had_one_attempt() {
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let (engine, runs) = (memory(), Runs::default());
        let jobs = jobs(&engine).await;
        let _worker = start(&engine, handlers(&runs)).await;
        let job = submit(&jobs, Submission { affinity, ..assigned("snooze", "ann") }).await;
        let record = end(&jobs, job).await;
        assert_eq!((record.state, record.attempts), (JobState::Succeeded, 1));
        let runs = runs.lock().unwrap();
        assert_eq!(runs.iter().map(|run| run.0).collect::<Vec<_>>(), [1, 1]);
        assert!(runs[1].1 - runs[0].1 >= LATER.as_millis() as u64, "{runs:?}");
    }
}

#[tokio::test]
async fn a_failure_with_a_delay_is_tried_again_after_it_and_counts() {
    let (engine, runs) = (memory(), Runs::default());
    let jobs = jobs(&engine).await;
    let _worker = start(&engine, handlers(&runs)).await;
    let job = submit(&jobs, Submission { retries: 1, ..assigned("later", "ann") }).await;
    let record = end(&jobs, job).await;
    assert_eq!((record.state, record.attempts), (JobState::Succeeded, 2));
    let seen = runs.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|run| run.0).collect::<Vec<_>>(), [1, 2]);
    assert!(seen[1].1 - seen[0].1 >= LATER.as_millis() as u64, "{seen:?}");
    runs.lock().unwrap().clear();
    let once = end(&jobs, submit(&jobs, submission("later")).await).await;
    let message = once.error.map(|error| error.message);
    assert_eq!(
        (once.state, message.as_deref()),
        (JobState::Failed, Some("busy")),
        "it may not be tried again"
    );
}

#[tokio::test]
async fn a_job_whose_end_does_not_fit_into_its_record_ends_with_an_error_that_does() {
    let (engine, runs) = (memory(), Runs::default());
    let jobs = jobs(&engine).await;
    let _worker = start(&engine, handlers(&runs)).await;
    for affinity in [Affinity::Free, Affinity::Assigned] {
        let job = submit(&jobs, Submission { affinity, retries: 3, ..assigned("loud", "ann") }).await;
        let record = end(&jobs, job).await;
        assert_eq!((record.state, record.attempts), (JobState::Failed, 1));
        let error = record.error.unwrap();
        assert_eq!(error.code, "too_large");
        assert!(error.message.contains("524288 bytes"), "{}", error.message);
    }
}

#[tokio::test]
async fn a_job_that_is_put_off_holds_up_no_other_job_of_its_user() {
    let (engine, runs) = (memory(), Runs::default());
    let jobs = jobs(&engine).await;
    let first = submit(&jobs, assigned("snooze", "ann")).await;
    let behind = submit(&jobs, assigned("echo", "ann")).await;
    let _worker = start(&engine, handlers(&runs)).await;
    let behind = end(&jobs, behind).await;
    let first = end(&jobs, first).await;
    assert!(first.ended > behind.ended, "{first:?} {behind:?}");
    assert!(runs.lock().unwrap()[0].1 <= behind.started.unwrap(), "first attempts run in order");
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_is_put_off_never_runs_again() {
    let (engine, runs) = (memory(), Runs::default());
    let jobs = jobs(&engine).await;
    let _worker = start(&engine, handlers(&runs)).await;
    let job = submit(&jobs, submission("snooze")).await;
    becomes(&jobs, job, |record| record.state == JobState::Scheduled).await;
    assert_eq!(jobs.cancel(job).await.unwrap().state, JobState::Cancelled);
    assert_eq!(runs.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_cannot_be_put_off_and_fails() {
    let (engine, runs) = (memory(), Runs::default());
    let jobs = jobs(&engine).await;
    let _worker = start(&engine, handlers(&runs)).await;
    until("the worker is there", || jobs.workers.roster().list().len() == 1).await;
    let snoozed =
        HandlerError { code: "failed".into(), message: "a call cannot be put off".into(), retryable: false };
    let outcome = call(jobs.clone(), "snooze", "ann", 1, PATIENCE).await;
    assert_eq!(outcome, Err(CallError::Failed(snoozed)));
    let outcome = call(jobs.clone(), "later", "ann", 1, PATIENCE).await;
    assert_eq!(outcome, Err(CallError::Failed(failed("busy"))));
}
