//! Pure rules of a lease: which process holds a number, and until when it may act.
//!
//! A claim is a compare-and-set on the row of the number; its revision is the epoch. A renewal is a
//! compare-and-set on the last revision. A holder acts until `fence` after *sending* its last acknowledged
//! write. The row expires `ttl` after the engine stored it. `ttl` > `fence`, and the engine stores after the
//! holder sends, so the holder stops before the row expires.

use std::time::Duration;

use crate::engine::Precondition;
use crate::id::{Holder, NodeNumber};

/// A lease row as listed from the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The node number.
    pub number: NodeNumber,
    /// The row's revision.
    pub rev: u64,
    /// The holder's configured name.
    pub name: String,
}

/// The number that a process wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimRequest {
    /// This number, or wait until it is free. `None`: the lowest free number.
    pub number: Option<NodeNumber>,
    /// The process's configured name; empty for none.
    pub name: String,
}

/// A compare-and-set to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseWrite {
    /// The number; the write is to its row.
    pub number: NodeNumber,
    /// The expected state of the row.
    pub expect: Precondition,
    /// The epoch to write; `None` in a claim.
    pub epoch: Option<u64>,
    /// The time of sending, on the sender's clock.
    pub sent: Duration,
}

/// The next step to get a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Send this claim.
    Claim(LeaseWrite),
    /// A process with the same name holds the number. Send a liveness request to its epoch, and claim at this
    /// revision if there is no responder.
    Probe(Listed),
    /// The number is taken; wait.
    Wait,
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseWriteOutcome {
    /// Acknowledged at this revision.
    Written(u64),
    /// The row is absent or belongs to another process; nothing was written.
    Refused,
    /// The outcome is unknown, or the write was not sent.
    Unknown,
}

/// A lease that one process holds on a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    /// The number and this epoch.
    pub holder: Holder,
    /// The last known revision of the row that this process wrote.
    pub rev: u64,
    /// The time by which this process must have stopped acting.
    pub fenced_at: Duration,
}

/// Plans how to get a number, given the existing rows.
pub fn plan(request: &ClaimRequest, rows: &[Listed], sent: Duration) -> Plan {
    let claim = |number, expect| LeaseWrite { number, expect, epoch: None, sent };
    let namesake = |row: &&Listed| !request.name.is_empty() && row.name == request.name;
    let Some(number) = request.number else {
        if let Some(row) = rows.iter().find(namesake) {
            return Plan::Probe(row.clone());
        }
        let taken = |number: &NodeNumber| rows.iter().any(|row| row.number == *number);
        let free = (1..=u16::MAX).filter_map(NodeNumber::new).find(|number| !taken(number));
        return free.map_or(Plan::Wait, |number| Plan::Claim(claim(number, Precondition::Absent)));
    };
    match rows.iter().find(|row| row.number == number) {
        None => Plan::Claim(claim(number, Precondition::Absent)),
        Some(row) if namesake(&row) => Plan::Probe(row.clone()),
        Some(_) => Plan::Wait,
    }
}

impl HeldLease {
    /// Returns the lease that an acknowledged claim gives.
    pub fn begin(claim: LeaseWrite, rev: u64, fence: Duration) -> Self {
        let holder = Holder { node: claim.number, epoch: rev };
        Self { holder, rev, fenced_at: claim.sent + fence }
    }

    /// Returns the next renewal.
    pub fn renewal(&self, sent: Duration) -> LeaseWrite {
        let Holder { node: number, epoch } = self.holder;
        LeaseWrite { number, expect: Precondition::Rev(self.rev), epoch: Some(epoch), sent }
    }

    /// Applies the outcome of a renewal. An acknowledged renewal moves the fence forward, an unknown one
    /// leaves the lease as it is. Returns `None` when the lease is lost.
    pub fn renewed(self, renewal: LeaseWrite, outcome: LeaseWriteOutcome, fence: Duration) -> Option<Self> {
        match outcome {
            LeaseWriteOutcome::Written(rev) => {
                Some(Self { rev, fenced_at: self.fenced_at.max(renewal.sent + fence), ..self })
            }
            LeaseWriteOutcome::Unknown => Some(self),
            LeaseWriteOutcome::Refused => None,
        }
    }

    /// Returns whether the holder may act at `now`.
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
        let Plan::Claim(write) = plan(&ClaimRequest::default(), &rows, Duration::ZERO) else {
            panic!("a claim")
        };
        assert_eq!((write.number, write.expect), (number(3), Precondition::Absent));
    }

    #[test]
    fn a_name_asks_for_the_number_that_it_had() {
        let rows = [listed(1, ""), listed(2, "edge-b")];
        let request = ClaimRequest { number: None, name: "edge-b".into() };
        assert_eq!(plan(&request, &rows, Duration::ZERO), Plan::Probe(listed(2, "edge-b")));
    }

    #[test]
    fn a_fixed_number_is_waited_for_unless_the_same_name_holds_it() {
        let rows = [listed(2, "edge-b")];
        let request = |name: &str| ClaimRequest { number: Some(number(2)), name: name.into() };
        assert_eq!(plan(&request("edge-a"), &rows, Duration::ZERO), Plan::Wait);
        assert_eq!(plan(&request("edge-b"), &rows, Duration::ZERO), Plan::Probe(listed(2, "edge-b")));
        assert_eq!(
            plan(&request(""), &[listed(2, "")], Duration::ZERO),
            Plan::Wait,
            "nodes without a name have no name in common"
        );
    }

    /// A model of the engine: one row per number, which expires `ttl` after the engine stored it.
    #[derive(Default)]
    struct Rows {
        rows: std::collections::HashMap<NodeNumber, (u64, Duration)>,
        last_rev: u64,
    }

    impl Rows {
        fn apply(&mut self, write: LeaseWrite, now: Duration, ttl: Duration) -> LeaseWriteOutcome {
            self.rows.retain(|_, (_, expires)| *expires > now);
            let actual = self.rows.get(&write.number).map(|(rev, _)| *rev);
            let holds = match write.expect {
                Precondition::Any => true,
                Precondition::Absent => actual.is_none(),
                Precondition::Rev(rev) => actual == Some(rev),
            };
            if !holds {
                return LeaseWriteOutcome::Refused;
            }
            self.last_rev += 1;
            self.rows.insert(write.number, (self.last_rev, now + ttl));
            LeaseWriteOutcome::Written(self.last_rev)
        }

        fn list(&mut self, now: Duration) -> Vec<Listed> {
            self.rows.retain(|_, (_, expires)| *expires > now);
            let row = |(&number, &(rev, _)): (&NodeNumber, _)| Listed { number, rev, name: String::new() };
            self.rows.iter().map(row).collect()
        }
    }

    /// A model of one process: its lease, a claim or renewal in transit to the engine, a reply in transit
    /// back.
    #[derive(Default)]
    struct Process {
        lease: Option<HeldLease>,
        travelling: Option<LeaseWrite>,
        pending_reply: Option<(LeaseWrite, LeaseWriteOutcome)>,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        /// In each step time passes, and then one process sends, the engine applies, or the reply arrives or
        /// is lost. Delays have any length. Suspension is included, because a stopped process takes no step.
        #[test]
        fn two_processes_never_hold_one_number_at_the_same_time(
            steps in prop::collection::vec((0u64..9000, 0usize..3, 0u8..4), 1..200)
        ) {
            let timing = Timing::PRODUCTION;
            let mut now = Duration::ZERO;
            let mut rows = Rows::default();
            let mut processes: Vec<Process> = (0..3).map(|_| Process::default()).collect();
            for (pause, who, step) in steps {
                now += Duration::from_millis(pause);
                let process = &mut processes[who];
                match step {
                    0 if process.travelling.is_none() && process.pending_reply.is_none() => {
                        process.travelling = match process.lease.filter(|lease| lease.holds(now)) {
                            Some(lease) => Some(lease.renewal(now)),
                            None => match plan(&ClaimRequest::default(), &rows.list(now), now) {
                                Plan::Claim(write) => Some(write),
                                _ => None,
                            },
                        };
                    }
                    1 => if let Some(write) = process.travelling.take() {
                        process.pending_reply = Some((write, rows.apply(write, now, timing.lease_ttl)));
                    },
                    2 => if let Some((write, outcome)) = process.pending_reply.take() {
                        process.lease = match (process.lease, write.epoch, outcome) {
                            (_, None, LeaseWriteOutcome::Written(rev)) => Some(HeldLease::begin(write, rev, timing.lease_fence)),
                            (lease, None, _) => lease,
                            (Some(lease), Some(_), outcome) => lease.renewed(write, outcome, timing.lease_fence),
                            (None, Some(_), _) => None,
                        };
                    },
                    _ => process.pending_reply = None, // the reply is lost
                }
                let mut held: Vec<_> = processes.iter().filter_map(|process| process.lease)
                    .filter(|lease| lease.holds(now)).map(|lease| lease.holder.node).collect();
                let total = held.len();
                held.sort_unstable();
                held.dedup();
                prop_assert_eq!(held.len(), total);
            }
        }
    }
}
