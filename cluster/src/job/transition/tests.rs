use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::worker::Affinity;

const TIMING: Timing = Timing::PRODUCTION;

fn record(retries: u32) -> Record {
    Record {
        id: Key::from_bits(7),
        kind: "k".into(),
        data: RawValue::NULL.to_owned(),
        state: JobState::Queued,
        attempts: 0,
        losses: 0,
        retries,
        retried: 0,
        progress: None,
        result: None,
        error: None,
        worker: None,
        release: None,
        cancelling: false,
        keyed: false,
        affinity: Affinity::Free,
        pool: "p".into(),
        lane: "l".into(),
        lane_rev: 0,
        routing: None,
        user: None,
        askers: Vec::new(),
        trace: None,
        created: 0,
        due: 0,
        started: None,
        ended: None,
    }
}

fn claimed_by(id: u128) -> RecordEvent {
    RecordEvent::Claim(Claimant { worker: worker(id), release: "r".into(), lane: "l".into() })
}

fn worker(id: u128) -> WorkerId {
    WorkerId { id: Key::from_bits(id), epoch: 1 }
}

fn failure(retryable: bool) -> HandlerError {
    HandlerError { code: "failed".into(), message: "no".into(), retryable }
}

/// Events that may be tried at any moment, valid or not.
fn any_event() -> impl Strategy<Value = RecordEvent> {
    let claim = (1u128..4, 0u32..6).prop_map(|(id, attempt)| Claim { worker: worker(id), attempt });
    prop_oneof![
        4 => (1u128..4).prop_map(claimed_by),
        2 => claim.clone().prop_map(|by| RecordEvent::Succeed(by, RawValue::NULL.to_owned())),
        4 => (claim.clone(), any::<bool>()).prop_map(|(by, again)| RecordEvent::Fail(by, failure(again))),
        2 => (claim.clone(), any::<bool>(), 0u64..90_000).prop_map(|(by, again, ms)| {
            RecordEvent::RetryAfter(by, failure(again), Duration::from_millis(ms))
        }),
        2 => (claim.clone(), 0u64..90_000).prop_map(|(by, ms)| RecordEvent::Snooze(by, Duration::from_millis(ms))),
        1 => claim.clone().prop_map(RecordEvent::StopAcknowledged),
        1 => claim.clone().prop_map(RecordEvent::Release),
        2 => claim.clone().prop_map(RecordEvent::ExecutorLost),
        1 => claim.prop_map(|by| RecordEvent::Progress(by, Progress { progress: 0.5, message: None })),
        2 => (1u128..4).prop_map(|id| RecordEvent::WorkerLost(worker(id))),
        1 => (0u64..9).prop_map(|revision| RecordEvent::MoveToLane(LaneMove { lane: "m".into(), revision })),
        1 => select(vec![
            RecordEvent::Cancel,
            RecordEvent::Retry(None),
            RecordEvent::Retry(Some(LaneMove { lane: "n".into(), revision: 9 })),
            RecordEvent::Expire { wait_ms: 60_000 },
        ]),
    ]
}

proptest! {
    /// Any number of workers, dead and alive, that try any event in any order.
    #[test]
    fn a_job_ends_once_and_only_by_the_claim_that_stands(
        retries in 0u32..4, steps in prop::collection::vec((any_event(), 0u64..400_000), 0..80)
    ) {
        let (mut record, mut now) = (record(retries), 0);
        let (mut claims, mut claim): (u32, Option<Claim>) = (0, None);
        for (event, passed) in steps {
            now += passed;
            let before = record.clone();
            let Ok((next, after)) = apply(&record, event.clone(), now, &TIMING) else { continue };
            prop_assert_eq!(event.effect(&next, now), after, "the record says what follows from {:?}", event);
            match &event {
                RecordEvent::Claim(Claimant { worker, .. }) => {
                    claims += 1;
                    prop_assert!(!before.state.is_terminal() && before.state != JobState::Running);
                    prop_assert!(before.due <= now, "never before its time");
                    claim = Some(Claim { worker: *worker, attempt: next.attempts });
                    prop_assert_eq!(next.attempts, before.attempts + 1);
                }
                RecordEvent::Progress(by, _) | RecordEvent::Succeed(by, _) | RecordEvent::Fail(by, _) | RecordEvent::StopAcknowledged(by)
                | RecordEvent::Release(by) | RecordEvent::ExecutorLost(by) | RecordEvent::Snooze(by, _)
                | RecordEvent::RetryAfter(by, ..) => {
                    prop_assert_eq!(Some(*by), claim, "a claim that was lost has no say");
                    if matches!(event, RecordEvent::Release(_) | RecordEvent::Snooze(..)) { claims -= 1; }
                    if let RecordEvent::Snooze(_, after) | RecordEvent::RetryAfter(_, _, after) = &event
                        && !next.state.is_terminal()
                    {
                        prop_assert_eq!(next.due, now + after.as_millis() as u64, "not before that");
                    }
                    if !matches!(event, RecordEvent::Progress(..) | RecordEvent::Release(_) | RecordEvent::ExecutorLost(_)) {
                        prop_assert!(event.is_visible_in(&next), "recognised in its own result: {:?}", event);
                    }
                }
                RecordEvent::WorkerLost(worker) => prop_assert_eq!(Some(*worker), claim.map(|claim| claim.worker)),
                RecordEvent::Cancel | RecordEvent::AddWaiter(_) => prop_assert!(!before.state.is_terminal()),
                RecordEvent::MoveToLane(_) => {
                    prop_assert!(matches!(before.state, JobState::Scheduled | JobState::Queued));
                }
                RecordEvent::Expire { wait_ms } => {
                    prop_assert!(matches!(before.state, JobState::Scheduled | JobState::Queued));
                    prop_assert!(before.due + wait_ms <= now, "it had its time");
                }
                RecordEvent::Retry(to) => {
                    let stays = LaneMove { lane: before.lane.clone(), revision: before.lane_rev };
                    let to = to.clone().unwrap_or(stays);
                    prop_assert_eq!((&next.lane, next.lane_rev), (&to.lane, to.revision));
                    prop_assert!(before.state.is_terminal() && before.state != JobState::Succeeded);
                    claims = 0;
                }
            }
            prop_assert!(!before.state.is_terminal() || matches!(event, RecordEvent::Retry(_)), "an end is an end");
            if next.state != JobState::Running { claim = None; }
            prop_assert_eq!(next.state.is_terminal(), after == Effect::NotifyEnd);
            prop_assert_eq!(next.state.is_terminal(), next.ended.is_some());
            let waits = matches!(next.state, JobState::Queued | JobState::Scheduled);
            prop_assert_eq!(waits, matches!(after, Effect::Enqueue { .. }), "what waits is offered");
            prop_assert_eq!(next.attempts, claims);
            let again = u32::from(matches!(event, RecordEvent::Retry(_)));
            prop_assert_eq!(next.retried, before.retried + again, "only an operator begins a new run");
            prop_assert!(next.losses <= retries.max(MAX_LOSSES) + 1, "losses are bounded");
            prop_assert!(next.failures() <= retries + 1, "failures are bounded, and no loss is one");
            record = next;
        }
    }

    /// Cancel works in every state that is not an end, for every next step of the worker.
    #[test]
    fn a_cancelled_job_never_runs_again(
        steps in prop::collection::vec(any_event(), 0..20), later in prop::collection::vec(any_event(), 0..20)
    ) {
        let mut record = record(3);
        let mut now = 0;
        let mut step = |record: &mut Record, event| {
            now += TIMING.retry_longest.as_millis() as u64;
            apply(record, event, now, &TIMING).map(|(next, _)| *record = next).is_ok()
        };
        for event in steps {
            step(&mut record, event);
        }
        if !record.state.is_terminal() {
            prop_assert!(step(&mut record, RecordEvent::Cancel));
            for event in later.into_iter().filter(|event| !matches!(event, RecordEvent::Retry(_))) {
                let attempts = record.attempts;
                step(&mut record, event);
                prop_assert!(record.attempts <= attempts);
                prop_assert!(record.state == JobState::Running || record.state.is_terminal());
            }
        }
    }
}

fn run_once(record: &Record, now: u64) -> (Record, Claim) {
    let (running, _) = apply(record, claimed_by(1), now, &TIMING).unwrap();
    let claim = Claim { worker: worker(1), attempt: running.attempts };
    (running, claim)
}

#[test]
fn a_failing_job_is_dead_after_its_retries_and_failed_without_any() {
    for (retries, end) in [(0, JobState::Failed), (2, JobState::Dead)] {
        let (mut record, mut now) = (record(retries), 0);
        loop {
            let (running, claim) = run_once(&record, now);
            (record, _) = apply(&running, RecordEvent::Fail(claim, failure(true)), now, &TIMING).unwrap();
            if record.state.is_terminal() {
                break;
            }
            assert_eq!(record.state, JobState::Scheduled);
            assert_eq!(apply(&record, claimed_by(2), now, &TIMING).unwrap_err(), {
                TransitionError::NotDue(record.due - now)
            });
            now = record.due;
        }
        assert_eq!((record.state, record.attempts), (end, retries + 1));
    }
}

#[test]
fn a_job_that_has_succeeded_has_its_result_and_no_progress() {
    let (running, by) = run_once(&record(0), 1);
    let progress = RecordEvent::Progress(by, Progress { progress: 0.5, message: None });
    let (running, _) = apply(&running, progress, 2, &TIMING).unwrap();
    assert!(running.progress.is_some());
    let (over, _) = apply(&running, RecordEvent::Succeed(by, RawValue::NULL.to_owned()), 3, &TIMING).unwrap();
    assert!(over.progress.is_none() && over.result.is_some());
}

#[test]
fn a_failure_that_repeating_cannot_help_ends_the_job_at_once() {
    let (running, claim) = run_once(&record(5), 0);
    let (ended, after) = apply(&running, RecordEvent::Fail(claim, failure(false)), 0, &TIMING).unwrap();
    assert_eq!((ended.state, after), (JobState::Failed, Effect::NotifyEnd));
}

#[test]
fn a_job_that_kills_its_workers_ends() {
    let mut record = record(0);
    for _ in 0..=MAX_LOSSES {
        let (running, _) = run_once(&record, 0);
        (record, _) = apply(&running, RecordEvent::WorkerLost(worker(1)), 0, &TIMING).unwrap();
    }
    assert_eq!(record.state, JobState::Dead);
}

#[test]
fn a_loss_does_not_count_as_a_failure_of_the_handler() {
    let mut record = record(1);
    for lost in [true, true, false, true, false] {
        let (running, claim) = run_once(&record, record.due);
        let event = match lost {
            true => RecordEvent::ExecutorLost(claim),
            false => RecordEvent::Fail(claim, failure(true)),
        };
        (record, _) = apply(&running, event, running.due, &TIMING).unwrap();
        assert!(!lost || record.state == JobState::Queued, "requeued at once");
    }
    // the first failure was retried, as `retries: 1` asks
    assert_eq!((record.state, record.attempts, record.losses), (JobState::Dead, 5, 3));
    let (again, _) = apply(&record, RecordEvent::Retry(None), record.due, &TIMING).unwrap();
    assert_eq!((again.attempts, again.losses, again.retried), (0, 0, 1));
}

#[test]
fn a_snooze_is_no_attempt_and_a_failure_with_a_delay_is_one() {
    let (running, claim) = run_once(&record(1), 0);
    let minute = Duration::from_secs(60);
    let (snoozed, after) = apply(&running, RecordEvent::Snooze(claim, minute), 5, &TIMING).unwrap();
    assert_eq!((snoozed.state, snoozed.attempts, snoozed.due), (JobState::Scheduled, 0, 60_005));
    assert_eq!((snoozed.error, after), (None, Effect::Enqueue { delay_ms: 60_000 }));
    let later = RecordEvent::RetryAfter(claim, failure(true), minute);
    let (failed, _) = apply(&running, later, 5, &TIMING).unwrap();
    assert_eq!((failed.state, failed.attempts, failed.due), (JobState::Scheduled, 1, 60_005));
    let (running, claim) = run_once(&failed, failed.due);
    let again = RecordEvent::RetryAfter(claim, failure(true), minute);
    assert_eq!(apply(&running, again, failed.due, &TIMING).unwrap().0.state, JobState::Dead, "the last try");
    let fatal = RecordEvent::RetryAfter(claim, failure(false), minute);
    assert_eq!(apply(&running, fatal, failed.due, &TIMING).unwrap().0.state, JobState::Failed);
}

#[test]
fn a_handler_puts_its_job_off_for_at_most_a_year() {
    let (running, claim) = run_once(&record(1), 0);
    for event in [
        RecordEvent::Snooze(claim, Duration::MAX),
        RecordEvent::RetryAfter(claim, failure(true), Duration::MAX),
    ] {
        let (next, _) = apply(&running, event, 0, &TIMING).unwrap();
        assert_eq!(Duration::from_millis(next.due), LONGEST_DELAY);
    }
}

#[test]
fn a_record_of_an_earlier_release_has_no_losses_and_was_not_run_again() {
    let record = Record { losses: 2, retried: 3, ..record(0) };
    let mut stored: serde_json::Value = serde_json::from_slice(&record.encode()).unwrap();
    assert_eq!((&stored["losses"], &stored["retried"]), (&2.into(), &3.into()));
    let fields = stored.as_object_mut().unwrap();
    fields.retain(|name, _| name != "losses" && name != "retried");
    let earlier = Record::decode(stored.to_string().as_bytes()).unwrap();
    assert_eq!((earlier.losses, earlier.retried), (0, 0));
}

#[test]
fn a_job_that_is_running_while_it_is_cancelled_may_still_succeed_but_not_fail() {
    let (running, claim) = run_once(&record(3), 0);
    let (cancelling, after) = apply(&running, RecordEvent::Cancel, 0, &TIMING).unwrap();
    assert_eq!(after, Effect::CancelWorker(worker(1)));
    let end = |event| apply(&cancelling, event, 0, &TIMING).unwrap().0.state;
    assert_eq!(end(RecordEvent::Succeed(claim, RawValue::NULL.to_owned())), JobState::Succeeded);
    assert_eq!(end(RecordEvent::Fail(claim, failure(true))), JobState::Cancelled);
    assert_eq!(end(RecordEvent::StopAcknowledged(claim)), JobState::Cancelled);
    assert_eq!(end(RecordEvent::Snooze(claim, Duration::from_secs(1))), JobState::Cancelled);
    assert_eq!(end(RecordEvent::WorkerLost(worker(1))), JobState::Cancelled);
}

#[test]
fn retries_come_later_and_later_up_to_a_limit() {
    let delays: Vec<u64> = (1..40).map(|attempt| delay_ms(Key::from_bits(99), attempt, &TIMING)).collect();
    let longest = TIMING.retry_longest.as_millis() as u64;
    assert!(delays[0] <= 1000 && delays[0] >= 750);
    assert!(delays.iter().all(|delay| *delay <= longest));
    assert!(delays[30..].iter().all(|delay| *delay >= longest * 3 / 4));
}

#[test]
fn an_event_is_recognised_in_the_record_that_it_led_to_and_in_no_other_workers() {
    let now = |event, record: &Record| apply(record, event, 0, &TIMING).unwrap().0;
    let claim = claimed_by;
    let running = now(claim(1), &record(0));
    assert!(claim(1).is_visible_in(&running) && !claim(2).is_visible_in(&running));
    let by = |id| Claim { worker: worker(id), attempt: 1 };
    let end = |id| RecordEvent::Succeed(by(id), RawValue::NULL.to_owned());
    let over = now(end(1), &running);
    assert!(end(1).is_visible_in(&over) && !end(2).is_visible_in(&over) && !end(1).is_visible_in(&running));
    let snooze = |id| RecordEvent::Snooze(by(id), Duration::from_secs(9));
    let failed = |id| RecordEvent::RetryAfter(by(id), failure(true), Duration::from_secs(9));
    assert!(!snooze(1).is_visible_in(&running) && !snooze(1).is_visible_in(&over));
    assert!(!failed(1).is_visible_in(&running), "nothing has happened yet");
    let (running, _) = run_once(&record(1), 0);
    let moved =
        |record: Record| now(RecordEvent::MoveToLane(LaneMove { lane: "m".into(), revision: 2 }), &record);
    assert!(snooze(1).is_visible_in(&moved(now(snooze(1), &running))), "although another write followed");
    assert!(failed(1).is_visible_in(&moved(now(failed(1), &running))));
    let lost = now(RecordEvent::WorkerLost(worker(1)), &running);
    assert!(
        !snooze(1).is_visible_in(&lost) && !failed(1).is_visible_in(&lost),
        "another process has taken it"
    );
    let cancelled = now(RecordEvent::Cancel, &record(0));
    assert!(RecordEvent::Cancel.is_visible_in(&cancelled) && !RecordEvent::Cancel.is_visible_in(&over));
    assert!(
        RecordEvent::Retry(None).is_visible_in(&now(RecordEvent::Retry(None), &cancelled))
            && !RecordEvent::Retry(None).is_visible_in(&over)
    );
}
