//! The events of a job and the transitions that they cause. Pure.
//!
//! An event is the only way to change a record; the caller writes the outcome by compare-and-set and runs the
//! [`Effect`]. Attempts are counted at the claim. A claim names worker, epoch and attempt, so that events of a worker
//! that has lost the job for any reason are refused.

use std::time::Duration;

use serde_json::value::RawValue;

use super::record::{JobState, MAX_ASKERS, Record, Waiter};
use crate::code::ErrorCode;
use crate::id::Key;
use crate::rollout::LaneMove;
use crate::timing::{LONGEST_DELAY, Timing};
use crate::wire::{HandlerError, Progress};
use crate::worker::WorkerId;

/// How often a job may lose its executor or worker, even with fewer retries: a job that kills them ends after that.
pub const MAX_LOSSES: u32 = 3;

/// The right to one attempt of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Worker that holds the claim.
    pub worker: WorkerId,
    /// Attempt number, from 1.
    pub attempt: u32,
}

/// A worker that claims a job.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// This incarnation of the worker.
    pub worker: WorkerId,
    /// Release of the worker.
    pub release: String,
    /// Lane of the worker, in which the job runs.
    pub lane: String,
}

/// An event of a job.
#[derive(Debug, Clone)]
pub enum RecordEvent {
    /// A worker claims the job.
    Claim(Claimant),
    /// The job, which waits, moves to another lane by this revision of its pool's rollout.
    MoveToLane(LaneMove),
    /// The handler reports progress.
    Progress(Claim, Progress),
    /// The handler returned a value.
    Succeed(Claim, Box<RawValue>),
    /// The handler returned an error. An error that is not retryable ends the job at once, even if it has retries left.
    Fail(Claim, HandlerError),
    /// The same, and the job is tried again after this time instead of the usual one.
    RetryAfter(Claim, HandlerError, Duration),
    /// The handler puts the job off for this time: the claim does not count as an attempt.
    Snooze(Claim, Duration),
    /// The worker stopped the job on request.
    StopAcknowledged(Claim),
    /// The worker returns the job without running it: the claim does not count as an attempt.
    Release(Claim),
    /// The executor that ran the claim died under its living worker.
    ExecutorLost(Claim),
    /// That incarnation of a worker is dead.
    WorkerLost(WorkerId),
    /// Cancel requested.
    Cancel,
    /// An operator requests another run, in this lane; `None` for the lane of the record.
    Retry(Option<LaneMove>),
    /// One more page waits for the job.
    AddWaiter(Waiter),
    /// No worker has taken the job for this long after it was due.
    Expire {
        /// Waiting time in milliseconds.
        wait_ms: u64,
    },
}

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransitionError {
    /// The job is not due yet; the value is the remaining time in milliseconds.
    NotDue(u64),
    /// A worker runs the job already.
    Running(WorkerId),
    /// The event does not apply: the job has ended, has not ended yet, or does not run; or too many pages wait for it.
    OutOfPlace,
    /// The claim is not the current one.
    Stale,
}

/// The effect that follows from a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// No effect.
    Nothing,
    /// The job waits for a worker: enqueue it once it is due.
    Enqueue {
        /// Remaining time until the job is due, in milliseconds.
        delay_ms: u64,
    },
    /// Notify the worker that the job is cancelled.
    CancelWorker(WorkerId),
    /// The job has ended: notify the pages that wait and the watchers.
    NotifyEnd,
}

impl RecordEvent {
    /// Returns the claim that the event is an event of.
    const fn claim(&self) -> Option<Claim> {
        match self {
            Self::Progress(by, _)
            | Self::Succeed(by, _)
            | Self::Fail(by, _)
            | Self::RetryAfter(by, ..)
            | Self::Snooze(by, _)
            | Self::StopAcknowledged(by)
            | Self::Release(by)
            | Self::ExecutorLost(by) => Some(*by),
            _ => None,
        }
    }

    /// Returns whether a record shows that this event has happened, even if other writes followed. Only valid for an
    /// event that was sent before without a reply.
    pub fn is_visible_in(&self, record: &Record) -> bool {
        let ended_by = |by: &Claim| {
            record.state.is_terminal() && record.worker == Some(by.worker) && record.attempts == by.attempt
        };
        // only the holder of a claim takes back its attempt, or leaves its error in a job that waits
        let snoozed_by = |by: &Claim| {
            let cancelled = record.state == JobState::Cancelled && record.worker == Some(by.worker);
            record.attempts + 1 == by.attempt && (record.state.is_waiting() || cancelled)
        };
        let waits_after = |by: &Claim, error: &HandlerError| {
            record.state.is_waiting() && record.attempts == by.attempt && record.error.as_ref() == Some(error)
        };
        match self {
            Self::Claim(by) => record.state == JobState::Running && record.worker == Some(by.worker),
            Self::MoveToLane(to) => record.lane == to.lane && record.lane_rev >= to.revision,
            Self::Succeed(by, _) | Self::StopAcknowledged(by) | Self::ExecutorLost(by) => ended_by(by),
            Self::Fail(by, error) | Self::RetryAfter(by, error, _) => ended_by(by) || waits_after(by, error),
            Self::Snooze(by, _) => snoozed_by(by),
            Self::Cancel => record.state == JobState::Cancelled,
            Self::Retry(_) => !record.state.is_terminal(),
            Self::AddWaiter(asker) => record.askers.iter().any(|known| known.is(asker)),
            Self::Progress(..) | Self::Release(_) | Self::WorkerLost(_) | Self::Expire { .. } => false,
        }
    }

    /// Returns the effect of this event, derived from the record that it produced when that record is read later.
    pub fn effect(&self, record: &Record, now: u64) -> Effect {
        match (self, record.state) {
            (Self::Claim(..) | Self::Progress(..) | Self::AddWaiter(_), _) => Effect::Nothing,
            (_, JobState::Scheduled | JobState::Queued) => {
                Effect::Enqueue { delay_ms: record.due.saturating_sub(now) }
            }
            (Self::Cancel, JobState::Running) => record.worker.map_or(Effect::Nothing, Effect::CancelWorker),
            (_, JobState::Running) => Effect::Nothing,
            _ => Effect::NotifyEnd,
        }
    }
}

/// Returns the record after an event, and the effect to run.
pub fn apply(
    record: &Record,
    event: RecordEvent,
    now: u64,
    timing: &Timing,
) -> Result<(Record, Effect), TransitionError> {
    let mut next = record.clone();
    if let Some(by) = event.claim() {
        check_claim(&next, by)?;
    }
    let after = match event {
        RecordEvent::Claim(by) => claim(&mut next, by, now)?,
        RecordEvent::MoveToLane(to) => move_to_lane(&mut next, to, now)?,
        RecordEvent::Progress(_, progress) => {
            next.progress = Some(progress);
            Effect::Nothing
        }
        RecordEvent::Succeed(_, value) => {
            next.result = Some(value);
            next.error = None;
            // its room is for the result
            next.progress = None;
            end(&mut next, JobState::Succeeded, now)
        }
        RecordEvent::Fail(_, failure) => {
            let delay_ms = delay_ms(next.id, next.failures(), timing);
            fail(&mut next, failure, delay_ms, now)
        }
        RecordEvent::RetryAfter(_, failure, after) => fail(&mut next, failure, put_off_ms(after), now),
        RecordEvent::Snooze(_, after) => take_back(&mut next, now + put_off_ms(after), now),
        RecordEvent::StopAcknowledged(_) => end(&mut next, JobState::Cancelled, now),
        RecordEvent::Release(_) => take_back(&mut next, now, now),
        RecordEvent::ExecutorLost(_) => lose(&mut next, now),
        RecordEvent::WorkerLost(worker) => match next.state {
            JobState::Running if next.worker == Some(worker) => lose(&mut next, now),
            _ => return Err(TransitionError::Stale),
        },
        RecordEvent::Cancel => cancel(&mut next, now)?,
        RecordEvent::Retry(to) => retry(&mut next, to, now)?,
        RecordEvent::AddWaiter(asker) => {
            if next.state.is_terminal() || next.askers.len() >= MAX_ASKERS {
                return Err(TransitionError::OutOfPlace);
            }
            next.askers.push(asker);
            Effect::Nothing
        }
        RecordEvent::Expire { wait_ms } => expire(&mut next, wait_ms, now)?,
    };
    Ok((next, after))
}

fn check_claim(record: &Record, by: Claim) -> Result<(), TransitionError> {
    let stands = record.state == JobState::Running
        && record.worker == Some(by.worker)
        && record.attempts == by.attempt;
    if stands { Ok(()) } else { Err(TransitionError::Stale) }
}

fn claim(record: &mut Record, by: Claimant, now: u64) -> Result<Effect, TransitionError> {
    match (record.state, record.worker) {
        // a queued job was due when it was written: clocks that differ by milliseconds must not put it off
        (JobState::Scheduled, _) if record.due > now => {
            return Err(TransitionError::NotDue(record.due - now));
        }
        (JobState::Scheduled | JobState::Queued, _) => {}
        (JobState::Running, Some(worker)) => return Err(TransitionError::Running(worker)),
        _ => return Err(TransitionError::OutOfPlace),
    }
    record.state = JobState::Running;
    record.attempts += 1;
    record.worker = Some(by.worker);
    record.release = Some(by.release);
    record.lane = by.lane;
    record.started = Some(now);
    record.progress = None;
    Ok(Effect::Nothing)
}

fn move_to_lane(record: &mut Record, to: LaneMove, now: u64) -> Result<Effect, TransitionError> {
    if !record.state.is_waiting() {
        return Err(TransitionError::OutOfPlace);
    }
    (record.lane, record.lane_rev) = (to.lane, to.revision);
    Ok(Effect::Enqueue { delay_ms: record.due.saturating_sub(now) })
}

fn fail(record: &mut Record, failure: HandlerError, delay_ms: u64, now: u64) -> Effect {
    let retryable = failure.retryable;
    record.error = Some(failure);
    if record.cancelling {
        end(record, JobState::Cancelled, now)
    } else if !retryable || record.retries == 0 {
        end(record, JobState::Failed, now)
    } else if record.failures() > record.retries {
        end(record, JobState::Dead, now)
    } else {
        requeue(record, now + delay_ms, now)
    }
}

/// Requeues a job whose claim does not count as an attempt.
fn take_back(record: &mut Record, due: u64, now: u64) -> Effect {
    record.attempts -= 1;
    match record.cancelling {
        true => end(record, JobState::Cancelled, now),
        false => requeue(record, due, now),
    }
}

/// Requeues a job whose handler was interrupted by a death: the handler has not failed.
fn lose(record: &mut Record, now: u64) -> Effect {
    record.losses += 1;
    if record.cancelling {
        end(record, JobState::Cancelled, now)
    } else if record.losses > record.retries.max(MAX_LOSSES) {
        let message = "its executors died while they ran it";
        record.error = Some(HandlerError::new(ErrorCode::Lost, message));
        end(record, JobState::Dead, now)
    } else {
        requeue(record, now, now)
    }
}

fn cancel(record: &mut Record, now: u64) -> Result<Effect, TransitionError> {
    match (record.state, record.worker) {
        (JobState::Scheduled | JobState::Queued, _) => Ok(end(record, JobState::Cancelled, now)),
        (JobState::Running, Some(worker)) => {
            record.cancelling = true;
            Ok(Effect::CancelWorker(worker))
        }
        _ => Err(TransitionError::OutOfPlace),
    }
}

fn expire(record: &mut Record, wait_ms: u64, now: u64) -> Result<Effect, TransitionError> {
    if !record.state.is_waiting() {
        return Err(TransitionError::OutOfPlace);
    }
    match record.due.saturating_add(wait_ms).saturating_sub(now) {
        0 => {
            let message = "no worker took it in time";
            record.error = Some(HandlerError::new(ErrorCode::Expired, message));
            Ok(end(record, JobState::Dead, now))
        }
        left => Err(TransitionError::NotDue(left)),
    }
}

fn retry(record: &mut Record, to: Option<LaneMove>, now: u64) -> Result<Effect, TransitionError> {
    if !matches!(record.state, JobState::Failed | JobState::Cancelled | JobState::Dead) {
        return Err(TransitionError::OutOfPlace);
    }
    if let Some(to) = to {
        (record.lane, record.lane_rev) = (to.lane, to.revision);
    }
    record.retried = record.retried.saturating_add(1);
    record.attempts = 0;
    record.losses = 0;
    record.error = None;
    record.ended = None;
    record.cancelling = false;
    Ok(requeue(record, now, now))
}

fn requeue(record: &mut Record, due: u64, now: u64) -> Effect {
    record.state = if due > now { JobState::Scheduled } else { JobState::Queued };
    record.due = due;
    record.worker = None;
    record.progress = None;
    Effect::Enqueue { delay_ms: due.saturating_sub(now) }
}

fn end(record: &mut Record, state: JobState, now: u64) -> Effect {
    record.state = state;
    record.ended = Some(now);
    record.cancelling = false;
    Effect::NotifyEnd
}

/// Returns the delay that a handler asks for, in milliseconds and at most a year.
fn put_off_ms(after: Duration) -> u64 {
    after.min(LONGEST_DELAY).as_millis() as u64
}

/// Returns the delay before the next attempt, in milliseconds: doubled with every attempt up to a limit, less up to a
/// quarter, so that jobs that failed together are not retried together. Depends only on the job and the attempt.
fn delay_ms(job: Key, attempt: u32, timing: &Timing) -> u64 {
    let doubled = timing.retry_first.saturating_mul(1 << attempt.saturating_sub(1).min(20));
    let full = doubled.min(timing.retry_longest).as_millis() as u64;
    let spread = (job.bits() as u64 ^ u64::from(attempt)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    full - ((full / 4 * spread) >> 32)
}

#[cfg(test)]
mod tests;
