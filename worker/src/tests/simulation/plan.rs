//! The schedule of a seed.
//!
//! Owns: what happens at which time, and which faults the processes have. Pure. Never: how an event is carried out
//! (`world`).

use std::fmt;

use pagewire_cluster::engine::{Bucket, FaultRng, Faults};
use pagewire_cluster::job::Affinity;

/// Length of the part of a schedule in which things go wrong, in milliseconds.
pub(super) const TURMOIL_MS: u64 = 40_000;

/// Users of the jobs: few, so that their jobs meet.
pub(super) const USERS: u64 = 4;

/// How far ahead a job for later is, in milliseconds: beyond the end of every schedule.
pub(super) const LATER_MS: u64 = 24 * 3_600_000;

/// Latency of the operations of all processes, in milliseconds.
const LATENCY_MS: u16 = 3;

/// The most by which the clock of the cluster is wrong in a process: half of what a renewal of its lease takes.
pub(super) const CLOCK_ERROR_MS: u64 = 1 + LATENCY_MS as u64;

/// A wrong clock is off by so many milliseconds.
const WRONG_MS: i64 = 300_000;

/// What a handler does with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Returns a value.
    Value,
    /// Returns an error that is retried.
    Fail,
    /// Returns an error that is retried after the time that the handler says.
    FailLater,
    /// Returns an error that is not retried.
    Fatal,
    /// Reports progress and waits until it is cancelled, or 15 s.
    Wait,
    /// Drops the first attempt.
    Drop,
    /// Returns the job to its queue, once.
    Return,
    /// Puts the job off, once.
    Snooze,
}

impl Does {
    pub(super) const ALL: [Self; 8] = [
        Self::Value,
        Self::Fail,
        Self::FailLater,
        Self::Fatal,
        Self::Wait,
        Self::Drop,
        Self::Return,
        Self::Snooze,
    ];

    /// Returns the kind of the jobs.
    pub(super) fn kind(self) -> String {
        format!("{self:?}")
    }

    pub(super) fn of(kind: &str) -> Self {
        Self::ALL.into_iter().find(|does| does.kind() == kind).unwrap_or(Self::Value)
    }
}

/// A job to submit.
#[derive(Debug, Clone)]
pub(super) struct JobPlan {
    pub(super) affinity: Affinity,
    pub(super) user: String,
    pub(super) does: Does,
    /// How long its handler runs.
    pub(super) runs_ms: u64,
    pub(super) retries: u32,
    /// Its earliest time, from now on.
    pub(super) ahead_ms: Option<u64>,
    /// Whether a page waits for it.
    pub(super) page: bool,
}

impl JobPlan {
    /// A job that is due now and succeeds.
    pub(super) fn now(affinity: Affinity, user: u64) -> Self {
        let (user, does) = (format!("user {user}"), Does::Value);
        Self { affinity, user, does, runs_ms: 5, retries: 0, ahead_ms: None, page: false }
    }

    fn random(dice: &mut FaultRng) -> Self {
        let affinity = if dice.hits(550) { Affinity::Assigned } else { Affinity::Free };
        let does = match dice.below(20) {
            0..11 => Does::Value,
            11..13 => Does::Fail,
            13 => Does::FailLater,
            14 => Does::Fatal,
            15..17 => Does::Wait,
            17 => Does::Drop,
            18 => Does::Return,
            _ => Does::Snooze,
        };
        let ahead_ms = match dice.below(10) {
            0..7 => None,
            7..9 => Some(dice.below(20_000)),
            _ => Some(LATER_MS + dice.below(1000)),
        };
        let runs_ms = if dice.hits(200) { dice.below(8_000) } else { dice.below(60) };
        let (retries, page) = (dice.below(4) as u32, dice.hits(500));
        Self { does, runs_ms, retries, ahead_ms, page, ..Self::now(affinity, dice.below(USERS)) }
    }
}

/// Something that happens. A number chooses one of the processes or jobs that exist then.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Submit(JobPlan),
    /// A user submits so many jobs for later.
    Flood {
        user: u64,
        jobs: u64,
    },
    Cancel(u64),
    /// An operator runs an ended job again.
    Retry(u64),
    Start {
        canary: bool,
    },
    Kill(u64),
    Suspend(u64, u64),
    /// A worker is suspended for so many milliseconds, or killed, right after its next write of a turn row or of a
    /// record.
    Ambush {
        which: u64,
        turn: bool,
        suspend_ms: Option<u64>,
    },
    /// The worker of a user is suspended between the two writes of a claim, while an earlier job of the user becomes
    /// due.
    LateClaim {
        user: u64,
        earlier_ms: u64,
        suspend_ms: u64,
    },
    /// A worker is suspended between the end of an assigned job and the deletion of its open row, while an operator runs
    /// the job again. The node may be killed right after it has written the record of that.
    LateEnd {
        user: u64,
        suspend_ms: u64,
        crash: bool,
    },
    Drain(u64),
    /// The link of a worker breaks for so many milliseconds.
    Cut(u64, u64),
    /// The node is killed, at once or right after it has written the record of this job, and another one starts.
    CrashNode {
        after_write: Option<JobPlan>,
    },
    /// The share of the canary, in percent.
    Weight(u8),
}

/// A schedule.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Events with their times in milliseconds, in order.
    pub(super) events: Vec<(u64, Event)>,
    /// Faults of each process.
    pub(super) faults: Faults,
    /// Number of workers in the base lane and in the canary at the beginning.
    pub(super) workers: (u64, u64),
    /// Whether some clocks are wrong.
    pub(super) clocks: bool,
    /// Whether the canary is taken back in the end, or gets a worker.
    pub(super) canary_ends: bool,
    pub(super) dice: FaultRng,
}

/// The latency of a process without faults.
pub(super) fn calm() -> Faults {
    Faults { latency_ms: LATENCY_MS, ..Faults::default() }
}

fn faults(dice: &mut FaultRng) -> Faults {
    if dice.hits(300) {
        return calm();
    }
    let mut rate = |most: u16| if dice.hits(500) { dice.below(1 + u64::from(most)) as u16 } else { 0 };
    Faults {
        down: rate(60),
        cut: rate(10),
        lost: rate(50),
        deadline: rate(30),
        broken: rate(20),
        unknown: rate(150),
        severed: rate(60),
        hidden_conflict: rate(300),
        stale: rate(300),
        late: rate(300),
        duplicate: rate(200),
        blind: Some((Bucket::Jobs, rate(100))),
        ..calm()
    }
}

impl Schedule {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = FaultRng::new(seed);
        let faults = faults(&mut dice);
        let workers = (1 + dice.below(2), dice.below(2));
        let (clocks, canary_ends) = (dice.hits(500), dice.hits(700));
        let mut events = Vec::new();
        let at = |dice: &mut FaultRng| dice.below(TURMOIL_MS);
        let jobs = 6 + dice.below(14);
        // some jobs of a schedule come at once
        let burst = dice.below(TURMOIL_MS);
        for _ in 0..jobs {
            let time = if dice.hits(500) { burst } else { at(&mut dice) };
            events.push((time, Event::Submit(JobPlan::random(&mut dice))));
        }
        if dice.hits(20) {
            let user = dice.below(USERS);
            events.push((at(&mut dice) / 2, Event::Flood { user, jobs: 270 }));
        }
        if dice.hits(60) {
            let (user, earlier_ms, suspend_ms) =
                (dice.below(USERS), dice.below(15_000), 18_000 + dice.below(18_000));
            let time = at(&mut dice) / 8;
            events.push((time, Event::Start { canary: false }));
            events.push((time + 500, Event::LateClaim { user, earlier_ms, suspend_ms }));
        }
        for _ in 0..dice.below(9) {
            events.push((at(&mut dice), trouble(&mut dice)));
        }
        if dice.hits(500) {
            let up = dice.below(TURMOIL_MS / 2);
            events.push((up, Event::Weight([20, 50, 100][dice.below(3) as usize])));
            if dice.hits(600) {
                events.push((up + dice.below(TURMOIL_MS / 2), Event::Weight(0)));
            }
        }
        if dice.hits(60) {
            let (user, suspend_ms, crash) = (dice.below(USERS), 100 + dice.below(30_000), dice.hits(300));
            events.push((at(&mut dice) / 2, Event::LateEnd { user, suspend_ms, crash }));
        }
        events.sort_by_key(|(time, _)| *time);
        Self { events, faults, workers, clocks, canary_ends, dice }
    }

    /// Returns how far the wall clock of the next process is ahead, in milliseconds.
    pub(super) fn next_clock(&mut self) -> i64 {
        match self.dice.below(4) {
            0 if self.clocks => WRONG_MS,
            1 if self.clocks => -WRONG_MS,
            _ => 0,
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, faults, workers, clocks, canary_ends, .. } = self;
        writeln!(f, "workers {workers:?}, wrong clocks {clocks}, canary ends {canary_ends}, {faults:?}")?;
        events.iter().try_for_each(|(time, event)| writeln!(f, "{time} ms: {event:?}"))
    }
}

fn trouble(dice: &mut FaultRng) -> Event {
    let which = dice.next_bits();
    match dice.below(20) {
        0..4 => Event::Kill(which),
        4..6 => Event::Suspend(which, dice.below(45_000)),
        6..8 => {
            let suspend_ms = if dice.hits(700) { Some(dice.below(45_000)) } else { None };
            Event::Ambush { which, turn: dice.hits(600), suspend_ms }
        }
        8..10 => Event::Drain(which),
        10..13 => Event::Start { canary: dice.hits(400) },
        13..15 => Event::Cut(which, dice.below(30_000)),
        15..18 => Event::Cancel(which),
        18 => Event::Retry(which),
        _ => Event::CrashNode { after_write: dice.hits(700).then(|| JobPlan::random(dice)) },
    }
}
