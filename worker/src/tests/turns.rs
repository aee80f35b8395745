//! Seeded simulation of the turn protocol: workers that pause, are replaced and go on, and writes that arrive late.
//!
//! Each step performs one read or write of one worker on the faulty engine. A worker that is taken for dead may go on
//! with its protocol (it was suspended), so that two workers act as the owner of one user. After each step at most one
//! job of the user runs, and in the end every job has ended.
//!
//! `PAGEWIRE_SIM_SEED` is the first seed and `PAGEWIRE_SIM_RUNS` the number of seeds.

use std::collections::HashMap;

use pagewire_cluster::engine::{Bucket, Consistency, FaultRng, Faults, Faulty, Precondition, Put};
use pagewire_cluster::job::StoredJob;
use pagewire_cluster::job::{Claim, TurnRow, delete_turn_if_over};
use pagewire_cluster::subject::{Subjects, job_key};
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::{WorkerId, Workers};

use super::breaks::number;
use super::*;
use crate::turn::{ClaimWrite, StepResult, Turn, TurnGoal, TurnOutcome, TurnStep};
use crate::turn_protocol::TurnProtocol;

const WORKERS: usize = 3;
const JOBS: u128 = 4;
/// Number of steps of a schedule with faults; afterwards one worker without faults ends what is open.
const STEPS: u64 = 250;
/// A failed job may run again at once, because the simulation has no time.
const TIMING: Timing = Timing { retry_first: Duration::ZERO, ..Timing::TEST };

/// What can go wrong in a schedule.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    /// Writes fail, arrive late or lose their reply, and reads fail.
    faults: bool,
    /// Workers are taken for dead, and go on or start again.
    replacements: bool,
    /// The driver breaks the rule that an attempt which a turn row names is settled by a write: it only reads.
    settled_by_read: bool,
}

const ALL: Conditions = Conditions { faults: true, replacements: true, settled_by_read: false };

#[derive(Debug)]
enum Doing {
    Nothing,
    Protocol { protocol: Box<TurnProtocol>, result: StepResult, claim: Option<String> },
    Attempt(Box<StoredJob>),
}

struct SimWorker {
    jobs: Jobs,
    me: WorkerId,
    turn: Option<Turn>,
    doing: Doing,
    paused_until: u64,
}

/// How often the situations occurred that the protocol is for.
#[derive(Debug, Default)]
struct Seen {
    settling_writes: u64,
    /// Claims of a worker that had been replaced, refused by the record.
    late_claims: u64,
    takeovers: u64,
}

struct World {
    dice: FaultRng,
    calm: Jobs,
    workers: Vec<SimWorker>,
    /// The living incarnation of each worker.
    living: HashMap<Key, u64>,
    conditions: Conditions,
    now: u64,
    seen: Seen,
}

fn over(engine: &Engine) -> Jobs {
    let subjects = Subjects::new("c");
    Jobs::new(engine, &subjects, TIMING, &Workers::new(engine, &subjects, TIMING))
}

fn job(number: u128) -> Key {
    Key::from_bits(number + 1)
}

impl World {
    async fn new(seed: u64, conditions: Conditions) -> Self {
        let memory = Memory::with_timing(&TIMING);
        let mut dice = FaultRng::new(seed);
        let mut rate = |step: u16, steps| step * dice.below(steps) as u16;
        let (unknown, down, blind) = (rate(60, 8), rate(40, 6), rate(20, 6));
        let blind = Some((Bucket::Jobs, blind));
        let faults = Faults { unknown, down, hidden_conflict: 200, blind, ..Faults::default() };
        let faults = match conditions {
            Conditions { faults: false, .. } => Faults::default(),
            // rates at which a claim often arrives late and the read that would resolve it often fails
            Conditions { replacements: false, .. } => Faults { unknown: 400, down: 250, ..Faults::default() },
            _ => faults,
        };
        let mut living = HashMap::new();
        let workers = (0..WORKERS as u64).map(|number| {
            let me = WorkerId { id: Key::from_bits(100 + u128::from(number)), epoch: 1 };
            living.insert(me.id, me.epoch);
            let engine = Engine::Faulty(Faulty::new(memory.clone(), seed * 10 + number, faults));
            SimWorker { jobs: over(&engine), me, turn: None, doing: Doing::Nothing, paused_until: 0 }
        });
        let workers = workers.collect();
        let calm = over(&Engine::Memory(memory));
        let first = calm.submit(assigned("k", "ann"), |_| {}).await.unwrap().record;
        calm.cancel(first.id).await.unwrap();
        for number in 0..JOBS {
            let record = Record { id: job(number), retries: 50, ..first.clone() };
            calm.records.store.put(calm.records.put(&record, Precondition::Absent)).await.unwrap();
        }
        Self { dice, calm, workers, living, conditions, now: 0, seen: Seen::default() }
    }

    async fn run(&mut self) -> Result<(), String> {
        for now in 0..STEPS {
            self.now = now;
            let at = self.dice.below(WORKERS as u64) as usize;
            match self.dice.below(100) {
                0..4 if !self.conditions.replacements => {}
                0..2 => self.replace(at),
                2..4 => {
                    self.end_life(at);
                    self.restart(at);
                }
                4..7 => self.workers[at].paused_until = now + self.dice.below(80),
                7..10 => self.node_writes().await,
                10..12 => self.release(at).await,
                _ if self.workers[at].paused_until > now => {}
                _ => self.step(at).await,
            }
            self.check().await?;
        }
        self.finish().await
    }

    /// At most one job of the user runs.
    async fn check(&self) -> Result<(), String> {
        let mut jobs = self.calm.records.scan(0, 100).await.unwrap();
        jobs.retain(|stored| stored.record.state == JobState::Running);
        let running: Vec<_> = jobs.iter().map(|stored| (stored.record.id, stored.record.worker)).collect();
        if running.len() > 1 { Err(format!("step {}: {running:?} run at once", self.now)) } else { Ok(()) }
    }

    /// The other workers take this one for dead; it may go on with what it does.
    fn replace(&mut self, at: usize) {
        self.end_life(at);
        self.workers[at].paused_until = self.now + self.dice.below(60);
    }

    fn end_life(&mut self, at: usize) {
        self.living.remove(&self.workers[at].me.id);
    }

    /// A new incarnation, which knows nothing.
    fn restart(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        worker.me.epoch += 1;
        self.living.insert(worker.me.id, worker.me.epoch);
        (worker.turn, worker.doing) = (None, Doing::Nothing);
    }

    /// A node cancels or retries a job, or cleans up the turn row although its owner may be alive.
    async fn node_writes(&mut self) {
        let id = job(self.dice.below(JOBS as u64).into());
        let event = match self.dice.below(4) {
            0 | 1 => RecordEvent::Cancel,
            2 => RecordEvent::Retry(None),
            _ => {
                let row = self.calm.records.store.get(&turn_key("ann"), Consistency::Latest).await.unwrap();
                let Some(row) = row else { return };
                return delete_turn_if_over(&self.calm, row).await.unwrap();
            }
        };
        let stored = self.calm.records.get(id).await.unwrap().unwrap();
        let _ = self.calm.records.change(stored, event).await;
    }

    /// What a worker does with a user that moves to another worker, or that has no work: releases the user, or lets the
    /// row expire.
    async fn release(&mut self, at: usize) {
        let moves = self.dice.below(2) == 0;
        let worker = &mut self.workers[at];
        let idle = matches!(worker.doing, Doing::Nothing) && worker.paused_until <= self.now;
        let Some(turn) = worker.turn.filter(|_| idle) else { return };
        let expect = Precondition::Rev(turn.rev);
        worker.turn = None;
        if moves {
            let (idle_ttl, goal) = (TIMING.affinity_ttl, TurnGoal::Release);
            let protocol = TurnProtocol::new(turn_key("ann"), worker.me, idle_ttl, Some(turn), goal);
            let result = StepResult::Start;
            worker.doing = Doing::Protocol { protocol: Box::new(protocol), result, claim: None };
        } else if turn.settled {
            let row = TurnRow { worker: worker.me, term: Some(turn.term), job: None };
            let put = Put::new(turn_key("ann"), row.encode(), expect);
            let written = worker.jobs.records.store.put(put).await;
            worker.turn = written.ok().map(|rev| Turn { rev, named: None, ..turn });
        }
    }

    async fn step(&mut self, at: usize) {
        let replaced = self.living.get(&self.workers[at].me.id) != Some(&self.workers[at].me.epoch);
        match std::mem::replace(&mut self.workers[at].doing, Doing::Nothing) {
            Doing::Nothing if replaced => self.restart(at),
            Doing::Nothing => self.begin(at).await,
            Doing::Protocol { protocol, result, claim } => {
                self.go_on(at, protocol, result, claim, replaced).await;
            }
            Doing::Attempt(claimed) => self.end(at, claimed).await,
        }
    }

    /// Reads a job and begins to claim it, or to own the user for a call.
    async fn begin(&mut self, at: usize) {
        let (chosen, call) = (self.dice.below(JOBS as u64), self.dice.below(10) == 0);
        let worker = &mut self.workers[at];
        let Ok(Some(read)) = worker.jobs.records.get(job(chosen.into())).await else { return };
        let event = RecordEvent::Claim(claimant(worker.me));
        let goal = match apply(&read.record, event, unix_ms(), &TIMING) {
            _ if call => TurnGoal::Own,
            Ok((record, _)) => {
                let put = worker.jobs.records.put(&record, Precondition::Rev(read.rev));
                TurnGoal::Claim(Box::new(ClaimWrite { put, record }))
            }
            Err(TransitionError::Running(_)) => return self.take(at, read).await,
            Err(_) => return,
        };
        let key = goal.claim().map(|claim| claim.put.key.clone());
        let protocol = TurnProtocol::new(turn_key("ann"), worker.me, TIMING.affinity_ttl, worker.turn, goal);
        let result = StepResult::Start;
        worker.doing = Doing::Protocol { protocol: Box::new(protocol), result, claim: key };
    }

    /// What `Claims::mark_lost` does: a job is taken from a dead worker, and a claim without an attempt is given
    /// back.
    async fn take(&mut self, at: usize, stored: StoredJob) {
        let worker = &self.workers[at];
        let Some(holder) = stored.record.worker else { return };
        let event = match self.living.get(&holder.id) == Some(&holder.epoch) {
            true if holder == worker.me => {
                RecordEvent::Release(Claim { worker: holder, attempt: stored.record.attempts })
            }
            true => return,
            false => RecordEvent::WorkerLost(holder),
        };
        let _ = worker.jobs.records.change(stored, event).await;
    }

    /// Performs the next operation of a protocol. A record other than the one to claim is that of the attempt which
    /// the turn row names.
    async fn go_on(
        &mut self,
        at: usize,
        mut protocol: Box<TurnProtocol>,
        result: StepResult,
        claim: Option<String>,
        replaced: bool,
    ) {
        let store = &self.workers[at].jobs.records.store;
        let named = |key: &String| key.starts_with(job_key::JOBS) && Some(key) != claim.as_ref();
        let result = match protocol.next(result) {
            TurnStep::Read(key) => StepResult::Read(store.get(&key, Consistency::Latest).await),
            TurnStep::Write(put) if named(&put.key) => {
                self.seen.settling_writes += 1;
                match self.conditions.settled_by_read {
                    true => StepResult::Written(Ok(1)),
                    false => StepResult::Written(store.put(put).await),
                }
            }
            TurnStep::Write(put) => StepResult::Written(store.put(put).await),
            TurnStep::Delete(key, expect) => StepResult::Deleted(store.delete(&key, expect).await),
            TurnStep::Check(owner) => {
                let lives = self.living.get(&owner.id) == Some(&owner.epoch);
                self.seen.takeovers += u64::from(!lives);
                StepResult::Checked(Some(lives))
            }
            TurnStep::Done(outcome) => {
                self.workers[at].turn = protocol.turn();
                return self.done(at, outcome, replaced).await;
            }
        };
        self.workers[at].doing = Doing::Protocol { protocol, result, claim };
    }

    async fn done(&mut self, at: usize, outcome: TurnOutcome, replaced: bool) {
        match outcome {
            TurnOutcome::Claimed(claimed) => self.workers[at].doing = Doing::Attempt(claimed),
            TurnOutcome::Blocked(named) => self.take(at, *named).await,
            TurnOutcome::Moved => self.seen.late_claims += u64::from(replaced),
            TurnOutcome::Owned
            | TurnOutcome::Released
            | TurnOutcome::Elsewhere(_)
            | TurnOutcome::Unavailable => {}
        }
    }

    /// Ends an attempt, goes on with it, or drops it without an end.
    async fn end(&mut self, at: usize, claimed: Box<StoredJob>) {
        let worker = &mut self.workers[at];
        let claim = Claim { worker: worker.me, attempt: claimed.record.attempts };
        let failure = HandlerError { code: "failed".into(), message: "no".into(), retryable: true };
        let event = match self.dice.below(10) {
            0..3 => RecordEvent::Succeed(claim, RawValue::NULL.to_owned()),
            3..5 => RecordEvent::Fail(claim, failure),
            5 => RecordEvent::Release(claim),
            6 => return,
            _ => {
                worker.doing = Doing::Attempt(claimed);
                return;
            }
        };
        match worker.jobs.records.change((*claimed).clone(), event).await {
            Err(TransitionFailure::Unavailable) => worker.doing = Doing::Attempt(claimed),
            // the end is written, or another worker has the job
            _ => {
                let named = |turn: &Turn| turn.named.is_some_and(|named| named.id == claimed.record.id);
                if let Some(turn) = worker.turn.as_mut().filter(|turn| named(turn)) {
                    turn.settled = true;
                }
            }
        }
    }

    /// One new worker without faults ends all jobs, while the writes of the others still arrive.
    async fn finish(&mut self) -> Result<(), String> {
        for at in 0..WORKERS {
            self.end_life(at);
        }
        let me = WorkerId { id: Key::from_bits(999), epoch: 1 };
        self.living.insert(me.id, me.epoch);
        let (jobs, doing) = (self.calm.clone(), Doing::Nothing);
        self.workers.push(SimWorker { jobs, me, turn: None, doing, paused_until: 0 });
        for now in STEPS..STEPS + 3_000 {
            self.now = now;
            if now % 3 == 0 && now < STEPS + 200 {
                let late = self.dice.below(WORKERS as u64) as usize;
                let _ = self.workers[late].jobs.records.get(job(0)).await;
            }
            self.step(WORKERS).await;
            self.check().await?;
            let jobs = self.calm.records.scan(0, 100).await.unwrap();
            if jobs.iter().all(|stored| stored.record.state.is_terminal()) {
                return Ok(());
            }
        }
        Err("a job is open in the end".into())
    }
}

async fn simulate(seed: u64, conditions: Conditions) -> (Result<(), String>, Seen) {
    let mut world = World::new(seed, conditions).await;
    let outcome = world.run().await;
    (outcome, world.seen)
}

/// Returns the first fault that the simulation finds.
async fn first_fault(conditions: Conditions) -> Option<String> {
    for seed in 0..2_000 {
        if let (Err(fault), _) = simulate(seed, conditions).await {
            return Some(format!("seed {seed}, {fault}"));
        }
    }
    None
}

#[tokio::test]
async fn at_most_one_job_of_a_user_runs_whichever_worker_pauses_and_whichever_write_is_late() {
    let (first, runs) = (number("PAGEWIRE_SIM_SEED", 0), number("PAGEWIRE_SIM_RUNS", 200));
    let mut all = Seen::default();
    for seed in first..first + runs {
        let (outcome, seen) = simulate(seed, ALL).await;
        assert_eq!(outcome, Ok(()), "seed {seed}");
        all.settling_writes += seen.settling_writes;
        all.late_claims += seen.late_claims;
        all.takeovers += seen.takeovers;
    }
    assert!(
        all.settling_writes > runs / 10 && all.late_claims > runs / 10 && all.takeovers > runs,
        "{all:?}"
    );
}

/// Without faults of the engine, a claim is late only because its worker paused after it had written the turn row.
#[tokio::test]
async fn without_settling_a_worker_that_paused_before_its_claim_runs_a_second_job() {
    let fault = first_fault(Conditions { faults: false, settled_by_read: true, ..ALL }).await;
    assert!(fault.as_ref().is_some_and(|fault| fault.contains("run at once")), "{fault:?}");
}

/// Without replacements, a claim is late only because its write arrived after the read that was to resolve it.
#[tokio::test]
async fn without_settling_a_claim_that_arrives_late_runs_a_second_job() {
    let fault = first_fault(Conditions { replacements: false, settled_by_read: true, ..ALL }).await;
    assert!(fault.as_ref().is_some_and(|fault| fault.contains("run at once")), "{fault:?}");
}
