//! The protocol by which a worker owns a user and claims one of the user's jobs, with single writes. Pure.
//!
//! Owns: [`TurnProtocol`], which decides the next read or write from the result of the last one. Never: reads or writes
//! (`user_turns` performs them; the simulation in `tests/turns` performs them in any order, with pauses).
//!
//! 1. The record of the job was read at revision *r*.
//! 2. The turn row is written by compare-and-set: this worker, its term, the job and the attempt. If the row names
//!    another attempt that may still be claimed, the record of that job is written first, so that a claim on its way
//!    arrives at an old revision. A job that runs there blocks the turn until it is taken from its worker.
//! 3. The record is written at *r*. It is never read and claimed again at a later revision, because another worker may
//!    have settled it meanwhile.
//!
//! A worker can stop between any two steps. A row without its claim (after step 2) is settled by the next worker, or by
//! this one. A claim without an attempt (after step 3) is taken from its worker: when that worker is dead, or by itself.

use std::mem;
use std::time::Duration;

use pagewire_cluster::engine::{Entry, OperationId, Precondition, Put, WriteError};
use pagewire_cluster::job::StoredJob;
use pagewire_cluster::job::{JobState, Record};
use pagewire_cluster::job::{NamedAttempt, TurnRow};
use pagewire_cluster::subject::job_key;
use pagewire_cluster::worker::WorkerId;

use super::turn::{StepResult, Turn, TurnGoal, TurnOutcome, TurnStep};

/// Maximum number of operations of one run; more are needed only while outcomes stay unknown.
const MAX_STEPS: u32 = 32;

/// The turn row that the next write of the row replaces.
#[derive(Debug, Clone, Copy)]
struct ReplacedRow {
    expect: Precondition,
    /// Term of this worker; `None` when the write takes the user over.
    term: Option<u64>,
    named: Option<NamedAttempt>,
    settled: bool,
}

impl ReplacedRow {
    const ABSENT: Self = Self { expect: Precondition::Absent, term: None, named: None, settled: true };

    fn held(turn: Turn) -> Self {
        let Turn { rev, term, named, settled } = turn;
        Self { expect: Precondition::Rev(rev), term: Some(term), named, settled }
    }

    fn replaces(&self, entry: Option<&Entry>) -> bool {
        match self.expect {
            Precondition::Rev(rev) => entry.is_some_and(|entry| entry.rev == rev),
            _ => entry.is_none(),
        }
    }
}

/// What the protocol waits for.
#[derive(Debug)]
enum Phase {
    Start,
    ReadTurn,
    CheckOwner(WorkerId, ReplacedRow),
    /// `since` is the revision at which the record of the named attempt was read first.
    ReadNamed {
        base: ReplacedRow,
        since: Option<u64>,
    },
    SettleNamed {
        base: ReplacedRow,
        since: u64,
    },
    WriteTurn {
        base: ReplacedRow,
        put: Put,
        sent: bool,
    },
    ResolveTurn {
        base: ReplacedRow,
        put: Put,
    },
    DeleteTurn,
    WriteClaim {
        sent: bool,
    },
    ResolveClaim,
    Over,
}

/// One run of the protocol for one user.
#[derive(Debug)]
pub(crate) struct TurnProtocol {
    key: String,
    me: WorkerId,
    idle_ttl: Duration,
    turn: Option<Turn>,
    goal: TurnGoal,
    /// Id of the write that settles the named attempt.
    settling: OperationId,
    phase: Phase,
    steps: u32,
    /// Whether a row was read.
    found_row: bool,
    /// The owner in the row that was read, if it is another one.
    owner_before: Option<WorkerId>,
    /// Term of this worker, if this run has taken the user over.
    taken: Option<u64>,
}

impl TurnProtocol {
    /// Prepares a run. `turn` is what this worker knows of the row, or `None` to read it. A row that names no attempt
    /// lives for `idle_ttl`.
    pub(crate) fn new(
        key: String,
        me: WorkerId,
        idle_ttl: Duration,
        turn: Option<Turn>,
        goal: TurnGoal,
    ) -> Self {
        let settling = OperationId::random();
        Self {
            key,
            me,
            idle_ttl,
            turn,
            goal,
            settling,
            phase: Phase::Start,
            steps: 0,
            found_row: false,
            owner_before: None,
            taken: None,
        }
    }

    /// Returns what this worker knows of the row now; `None` if it has to be read.
    pub(crate) fn turn(&self) -> Option<Turn> {
        self.turn
    }

    /// Returns the term of this worker if this run has taken the user over.
    pub(crate) fn taken(&self) -> Option<u64> {
        self.taken
    }

    /// Returns whether a row existed when this run began: its owner had not released the user.
    pub(crate) fn found_row(&self) -> bool {
        self.found_row
    }

    /// Returns the owner before this worker, if that one had not released the user.
    pub(crate) fn owner_before(&self) -> Option<WorkerId> {
        self.owner_before
    }

    /// Returns the next operation, given the result of the last one.
    pub(crate) fn next(&mut self, result: StepResult) -> TurnStep {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return self.done(TurnOutcome::Unavailable);
        }
        match (mem::replace(&mut self.phase, Phase::Over), result) {
            (Phase::Start, _) => match self.turn {
                Some(turn) => self.proceed(ReplacedRow::held(turn)),
                None => self.read(self.key.clone(), Phase::ReadTurn),
            },
            (Phase::ReadTurn, StepResult::Read(Ok(entry))) => self.found(entry),
            (Phase::CheckOwner(owner, base), StepResult::Checked(alive)) => match alive {
                Some(true) => self.done(TurnOutcome::Elsewhere(owner)),
                Some(false) => self.proceed(base),
                None => self.done(TurnOutcome::Unavailable),
            },
            (Phase::ReadNamed { base, since }, StepResult::Read(Ok(entry))) => {
                self.settle(base, since, entry)
            }
            (Phase::SettleNamed { base, .. }, StepResult::Written(Ok(_))) => self.replace_turn(base),
            (
                Phase::SettleNamed { base, since },
                StepResult::Written(Err(WriteError::Conflict { .. } | WriteError::Unknown)),
            ) => self.read_named(base, Some(since)),
            (Phase::WriteTurn { base, put, sent }, StepResult::Written(written)) => match written {
                Ok(rev) => self.turn_written(base, rev),
                Err(WriteError::Conflict { .. }) if !sent => self.lost_row(TurnOutcome::Moved),
                Err(WriteError::Conflict { .. } | WriteError::Unknown) => {
                    self.read(self.key.clone(), Phase::ResolveTurn { base, put })
                }
                Err(_) if sent => self.lost_row(TurnOutcome::Unavailable),
                Err(_) => self.done(TurnOutcome::Unavailable),
            },
            (Phase::ResolveTurn { base, put }, StepResult::Read(Ok(entry))) => match entry {
                Some(entry) if entry.op == put.op => self.turn_written(base, entry.rev),
                // the write has not arrived yet: the same write again is the same write, wherever the first one is
                entry if base.replaces(entry.as_ref()) => {
                    let phase = Phase::WriteTurn { base, put: put.clone(), sent: true };
                    self.write(put, phase)
                }
                _ => self.lost_row(TurnOutcome::Moved),
            },
            (Phase::ResolveTurn { .. }, _) => self.lost_row(TurnOutcome::Unavailable),
            (Phase::DeleteTurn, StepResult::Deleted(deleted)) => match deleted {
                Ok(()) => self.lost_row(TurnOutcome::Released),
                Err(WriteError::Conflict { .. }) => self.lost_row(TurnOutcome::Moved),
                Err(_) => self.lost_row(TurnOutcome::Unavailable),
            },
            (Phase::WriteClaim { sent }, StepResult::Written(written)) => self.claim_written(sent, written),
            (Phase::ResolveClaim, StepResult::Read(Ok(entry))) => self.resolve_claim(entry),
            // after that, the row or the job is in the state of the last step that succeeded
            _ => self.done(TurnOutcome::Unavailable),
        }
    }

    fn done(&mut self, outcome: TurnOutcome) -> TurnStep {
        self.phase = Phase::Over;
        TurnStep::Done(outcome)
    }

    /// Ends when the row is not known any more.
    fn lost_row(&mut self, outcome: TurnOutcome) -> TurnStep {
        self.turn = None;
        self.done(outcome)
    }

    fn read(&mut self, key: String, phase: Phase) -> TurnStep {
        self.phase = phase;
        TurnStep::Read(key)
    }

    fn write(&mut self, put: Put, phase: Phase) -> TurnStep {
        self.phase = phase;
        TurnStep::Write(put)
    }

    /// Decides about the row that was read. An earlier incarnation of this worker is dead, because there is one at a
    /// time.
    fn found(&mut self, entry: Option<Entry>) -> TurnStep {
        let Some(entry) = entry else {
            return match self.goal {
                TurnGoal::Release => self.lost_row(TurnOutcome::Released),
                _ => self.proceed(ReplacedRow::ABSENT),
            };
        };
        let taken = ReplacedRow { expect: Precondition::Rev(entry.rev), ..ReplacedRow::ABSENT };
        self.found_row = true;
        let Some(row) = TurnRow::of(&entry) else { return self.proceed(taken) };
        let taken = ReplacedRow { named: row.job, settled: row.job.is_none(), ..taken };
        if row.worker == self.me {
            let term = row.term.unwrap_or(entry.rev);
            let turn = Turn { rev: entry.rev, term, named: row.job, settled: taken.settled };
            self.turn = Some(turn);
            // without a TTL, the row needs no renewal
            if matches!(self.goal, TurnGoal::Own) && turn.named.is_some() {
                return self.done(TurnOutcome::Owned);
            }
            return self.proceed(ReplacedRow::held(turn));
        }
        if matches!(self.goal, TurnGoal::Release) {
            return self.lost_row(TurnOutcome::Released);
        }
        self.owner_before = Some(row.worker);
        if row.worker.id == self.me.id {
            return self.proceed(taken);
        }
        self.phase = Phase::CheckOwner(row.worker, taken);
        TurnStep::Check(row.worker)
    }

    /// Settles the attempt that the row names, unless the claim is one of the same job: its own write settles it.
    fn proceed(&mut self, base: ReplacedRow) -> TurnStep {
        match (&self.goal, base.named) {
            (TurnGoal::Claim(claim), Some(named)) if !base.settled && named.id != claim.record.id => {
                self.read_named(base, None)
            }
            (TurnGoal::Release, Some(_)) if !base.settled => self.read_named(base, None),
            _ => self.replace_turn(base),
        }
    }

    fn read_named(&mut self, base: ReplacedRow, since: Option<u64>) -> TurnStep {
        match base.named {
            Some(named) => self.read(job_key::job(named.id), Phase::ReadNamed { base, since }),
            None => self.replace_turn(base),
        }
    }

    /// Decides whether the named attempt can still be claimed. A claim on its way expects a revision that is not newer
    /// than the first one that was read after the row, so a record that has changed since then is settled.
    fn settle(&mut self, base: ReplacedRow, since: Option<u64>, entry: Option<Entry>) -> TurnStep {
        let Some((op, found)) = entry.and_then(|entry| Some((entry.op, StoredJob::parse(entry)?))) else {
            return self.replace_turn(base);
        };
        if found.record.state == JobState::Running {
            return self.done(TurnOutcome::Blocked(Box::new(found)));
        }
        if !found.record.state.is_waiting()
            || op == self.settling
            || since.is_some_and(|since| since != found.rev)
        {
            return self.replace_turn(base);
        }
        let put = Put { op: self.settling, ..found.record.put(Precondition::Rev(found.rev)) };
        self.write(put, Phase::SettleNamed { base, since: found.rev })
    }

    /// Replaces the row; no write can claim the attempt that it names, or the claim of this run settles it.
    fn replace_turn(&mut self, base: ReplacedRow) -> TurnStep {
        match self.goal {
            TurnGoal::Release => {
                self.phase = Phase::DeleteTurn;
                TurnStep::Delete(self.key.clone(), base.expect)
            }
            _ => self.write_turn(base),
        }
    }

    fn write_turn(&mut self, base: ReplacedRow) -> TurnStep {
        let row = TurnRow { worker: self.me, term: base.term, job: self.names(base) };
        let put = Put::new(self.key.as_str(), row.encode(), base.expect);
        let put = Put { ttl: row.job.is_none().then_some(self.idle_ttl), ..put };
        self.write(put.clone(), Phase::WriteTurn { base, put, sent: false })
    }

    /// Returns the attempt that the row names next.
    fn names(&self, base: ReplacedRow) -> Option<NamedAttempt> {
        let Some(claim) = self.goal.claim() else { return base.named };
        Some(NamedAttempt { id: claim.record.id, attempt: claim.record.attempts })
    }

    fn turn_written(&mut self, base: ReplacedRow, rev: u64) -> TurnStep {
        let named = self.names(base);
        if base.term.is_none() {
            self.taken = Some(rev);
        }
        let settled = self.goal.claim().is_none() && base.settled;
        self.turn = Some(Turn { rev, term: base.term.unwrap_or(rev), named, settled });
        match self.goal.claim() {
            None => self.done(TurnOutcome::Owned),
            Some(claim) => self.write(claim.put.clone(), Phase::WriteClaim { sent: false }),
        }
    }

    fn claim_written(&mut self, sent: bool, written: Result<u64, WriteError>) -> TurnStep {
        let Some(claim) = self.goal.claim() else { return self.done(TurnOutcome::Owned) };
        match written {
            Ok(rev) => {
                let record = claim.record.clone();
                self.done(TurnOutcome::Claimed(Box::new(StoredJob { record, rev })))
            }
            Err(WriteError::Conflict { .. }) if !sent => self.done(TurnOutcome::Moved),
            Err(WriteError::Conflict { .. } | WriteError::Unknown) => {
                self.read(claim.put.key.clone(), Phase::ResolveClaim)
            }
            Err(_) => self.done(TurnOutcome::Unavailable),
        }
    }

    /// Decides about a claim with an unknown outcome. The same write at the same revision may be sent again; a record
    /// at another revision without this claim is lost to it.
    fn resolve_claim(&mut self, entry: Option<Entry>) -> TurnStep {
        let (Some(claim), Some(entry)) = (self.goal.claim(), entry) else {
            return self.done(TurnOutcome::Moved);
        };
        if claim.put.expect == Precondition::Rev(entry.rev) {
            return self.write(claim.put.clone(), Phase::WriteClaim { sent: true });
        }
        let own = entry.op == claim.put.op;
        let attempt = claim.record.attempts;
        let Some(found) = StoredJob::parse(entry) else { return self.done(TurnOutcome::Moved) };
        let Record { state, worker, attempts, .. } = &found.record;
        let visible = *state == JobState::Running && *worker == Some(self.me) && *attempts == attempt;
        self.done(if own || visible { TurnOutcome::Claimed(Box::new(found)) } else { TurnOutcome::Moved })
    }
}
