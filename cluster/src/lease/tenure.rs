//! Who holds a number, and until when it may act. Pure.
//!
//! A claim is a compare-and-set on the row of the number; its revision is the epoch. A renewal is a
//! compare-and-set on the last revision. A holder acts until `fence` after *sending* its last acknowledged write;
//! the row lives for `ttl` > `fence` after the engine stored it, which is later than the sending.

use std::time::Duration;

use crate::engine::Expect;
use crate::id::{Holder, NodeNumber};

/// A row as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The number.
    pub number: NodeNumber,
    /// The row's revision.
    pub rev: u64,
    /// The holder's configured name.
    pub name: String,
}

/// Which number a process wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// This one or wait; `None`: the lowest free.
    pub number: Option<NodeNumber>,
    /// The process's configured name, empty for none.
    pub name: String,
}

/// A compare-and-set to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// On the row of this number.
    pub number: NodeNumber,
    /// What must stand there.
    pub expect: Expect,
    /// The epoch to write; `None` in a claim.
    pub epoch: Option<u64>,
    /// When it was sent, on the sender's clock.
    pub sent: Duration,
}

/// What to do to get a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Send this.
    Claim(Write),
    /// The same name holds it: ask its epoch first; claim at this revision if nobody answers.
    Ask(Listed),
    /// It is taken.
    Wait,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged at this revision.
    Written(u64),
    /// Somebody else's row stands there, or none.
    Refused,
    /// Not known, or not sent.
    Unknown,
}

/// One process's hold on a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// The number and this life.
    pub holder: Holder,
    /// The row's last revision known to be ours.
    pub rev: u64,
    /// When this process must have stopped acting.
    pub fenced_at: Duration,
}

/// How to get a number, given the rows that stand.
pub fn plan(wish: &Wish, rows: &[Listed], sent: Duration) -> Plan {
    let claim = |number, expect| Write { number, expect, epoch: None, sent };
    let namesake = |row: &&Listed| !wish.name.is_empty() && row.name == wish.name;
    let Some(number) = wish.number else {
        if let Some(row) = rows.iter().find(namesake) {
            return Plan::Ask(row.clone());
        }
        let taken = |number: &NodeNumber| rows.iter().any(|row| row.number == *number);
        let free = (1..=u16::MAX).filter_map(NodeNumber::new).find(|number| !taken(number));
        return free.map_or(Plan::Wait, |number| Plan::Claim(claim(number, Expect::Absent)));
    };
    match rows.iter().find(|row| row.number == number) {
        None => Plan::Claim(claim(number, Expect::Absent)),
        Some(row) if namesake(&row) => Plan::Ask(row.clone()),
        Some(_) => Plan::Wait,
    }
}

impl Tenure {
    /// The hold that an acknowledged claim gives.
    pub fn begin(claim: Write, rev: u64, fence: Duration) -> Self {
        let holder = Holder { node: claim.number, epoch: rev };
        Self { holder, rev, fenced_at: claim.sent + fence }
    }

    /// The next renewal.
    pub fn renewal(&self, sent: Duration) -> Write {
        let Holder { node: number, epoch } = self.holder;
        Write { number, expect: Expect::Rev(self.rev), epoch: Some(epoch), sent }
    }

    /// After a renewal: the hold goes on, with a later fence if it was acknowledged; `None` when it is lost.
    pub fn renewed(self, renewal: Write, outcome: Outcome, fence: Duration) -> Option<Self> {
        match outcome {
            Outcome::Written(rev) => {
                Some(Self { rev, fenced_at: self.fenced_at.max(renewal.sent + fence), ..self })
            }
            Outcome::Unknown => Some(self),
            Outcome::Refused => None,
        }
    }

    /// Whether it may act now.
    pub fn holds(&self, now: Duration) -> bool {
        now < self.fenced_at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::timing::Timing;

    fn number(number: u16) -> NodeNumber {
        NodeNumber::new(number).unwrap()
    }

    fn listed(n: u16, name: &str) -> Listed {
        Listed { number: number(n), rev: u64::from(n) * 10, name: name.into() }
    }

    #[test]
    fn the_lowest_free_number_is_claimed() {
        let rows = [listed(1, ""), listed(2, ""), listed(4, "")];
        let Plan::Claim(write) = plan(&Wish::default(), &rows, Duration::ZERO) else { panic!("a claim") };
        assert_eq!((write.number, write.expect), (number(3), Expect::Absent));
    }

    #[test]
    fn a_name_asks_for_the_number_that_it_had() {
        let rows = [listed(1, ""), listed(2, "edge-b")];
        let wish = Wish { number: None, name: "edge-b".into() };
        assert_eq!(plan(&wish, &rows, Duration::ZERO), Plan::Ask(listed(2, "edge-b")));
    }

    #[test]
    fn a_fixed_number_is_waited_for_unless_the_same_name_holds_it() {
        let rows = [listed(2, "edge-b")];
        let wish = |name: &str| Wish { number: Some(number(2)), name: name.into() };
        assert_eq!(plan(&wish("edge-a"), &rows, Duration::ZERO), Plan::Wait);
        assert_eq!(plan(&wish("edge-b"), &rows, Duration::ZERO), Plan::Ask(listed(2, "edge-b")));
        assert_eq!(plan(&wish(""), &[listed(2, "")], Duration::ZERO), Plan::Wait, "no name is nobody's name");
    }

    /// The engine's side: one row per number, expiring `ttl` after the engine stored it.
    #[derive(Default)]
    struct Rows {
        rows: std::collections::HashMap<NodeNumber, (u64, Duration)>,
        last_rev: u64,
    }

    impl Rows {
        fn apply(&mut self, write: Write, now: Duration, ttl: Duration) -> Outcome {
            self.rows.retain(|_, (_, expires)| *expires > now);
            let actual = self.rows.get(&write.number).map(|(rev, _)| *rev);
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => actual.is_none(),
                Expect::Rev(rev) => actual == Some(rev),
            };
            if !holds {
                return Outcome::Refused;
            }
            self.last_rev += 1;
            self.rows.insert(write.number, (self.last_rev, now + ttl));
            Outcome::Written(self.last_rev)
        }

        fn list(&mut self, now: Duration) -> Vec<Listed> {
            self.rows.retain(|_, (_, expires)| *expires > now);
            let row = |(&number, &(rev, _)): (&NodeNumber, _)| Listed { number, rev, name: String::new() };
            self.rows.iter().map(row).collect()
        }
    }

    /// One process: its hold, a claim or renewal on its way to the engine, an answer on its way back.
    #[derive(Default)]
    struct Process {
        tenure: Option<Tenure>,
        travelling: Option<Write>,
        answered: Option<(Write, Outcome)>,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        /// Each step lets time pass and then one process send, the engine apply, or the answer arrive or get lost:
        /// delays of any length, suspension included, because a stopped process simply takes no step.
        #[test]
        fn two_processes_never_hold_one_number_at_the_same_time(
            steps in prop::collection::vec((0u64..9000, 0usize..3, 0u8..4), 1..200)
        ) {
            let timing = Timing::REAL;
            let mut now = Duration::ZERO;
            let mut rows = Rows::default();
            let mut processes: Vec<Process> = (0..3).map(|_| Process::default()).collect();
            for (pause, who, step) in steps {
                now += Duration::from_millis(pause);
                let process = &mut processes[who];
                match step {
                    0 if process.travelling.is_none() && process.answered.is_none() => {
                        process.travelling = match process.tenure.filter(|tenure| tenure.holds(now)) {
                            Some(tenure) => Some(tenure.renewal(now)),
                            None => match plan(&Wish::default(), &rows.list(now), now) {
                                Plan::Claim(write) => Some(write),
                                _ => None,
                            },
                        };
                    }
                    1 => if let Some(write) = process.travelling.take() {
                        process.answered = Some((write, rows.apply(write, now, timing.lease_ttl)));
                    },
                    2 => if let Some((write, outcome)) = process.answered.take() {
                        process.tenure = match (process.tenure, write.epoch, outcome) {
                            (_, None, Outcome::Written(rev)) => Some(Tenure::begin(write, rev, timing.lease_fence)),
                            (tenure, None, _) => tenure,
                            (Some(tenure), Some(_), outcome) => tenure.renewed(write, outcome, timing.lease_fence),
                            (None, Some(_), _) => None,
                        };
                    },
                    _ => process.answered = None, // the answer is lost
                }
                let mut held: Vec<_> = processes.iter().filter_map(|process| process.tenure)
                    .filter(|tenure| tenure.holds(now)).map(|tenure| tenure.holder.node).collect();
                let total = held.len();
                held.sort_unstable();
                held.dedup();
                prop_assert_eq!(held.len(), total);
            }
        }
    }
}
