//! The leases of nodes: one of the node numbers per process.
//!
//! Owns: which number a node claims, and the ring in which nodes monitor each other. Never: the use of the number.

use super::death::{evict_silent, is_silent};
use super::keeper::{LeaseContent, LeaseKeeper, LeaseKind};
use super::proto::{Incompatible, Proto};
use super::row::{NodeNote, NodeRow};
use super::{Lease, NodeLease};
use crate::engine::{Bucket, Consistency, Engine, Entry, Precondition, Unavailable};
use crate::id::{Holder, NodeNumber};
use crate::subject::{Subjects, leaf, node_key};
use crate::timing::Timing;

/// A node's lease row as listed from the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    number: NodeNumber,
    rev: u64,
    epoch: u64,
    name: String,
}

/// The number that a process wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimRequest {
    /// This number, or wait until it is free. `None`: the lowest free number.
    pub number: Option<NodeNumber>,
    /// The process's configured name; empty for none.
    pub name: String,
}

/// The next step to get a number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// The number is free.
    Claim(NodeNumber),
    /// A process with the same name holds the number. Send a liveness request to its epoch, and claim at this revision
    /// if there is no responder.
    Probe(Listed),
    /// The number is taken; wait.
    Wait,
}

/// Plans how to get a number, given the existing rows.
fn plan(request: &ClaimRequest, rows: &[Listed]) -> Plan {
    let namesake = |row: &&Listed| !request.name.is_empty() && row.name == request.name;
    let Some(number) = request.number else {
        if let Some(row) = rows.iter().find(namesake) {
            return Plan::Probe(row.clone());
        }
        let taken = |number: &NodeNumber| rows.iter().any(|row| row.number == *number);
        let free = (1..=u16::MAX).filter_map(NodeNumber::new).find(|number| !taken(number));
        return free.map_or(Plan::Wait, Plan::Claim);
    };
    match rows.iter().find(|row| row.number == number) {
        None => Plan::Claim(number),
        Some(row) if namesake(&row) => Plan::Probe(row.clone()),
        Some(_) => Plan::Wait,
    }
}

/// The leases of nodes. A node that has lapsed claims a new epoch, because other nodes may have answered for it since.
pub struct NodeNumbers {
    engine: Engine,
    subjects: Subjects,
    timing: Timing,
    request: ClaimRequest,
    row: NodeRow,
}

/// Claims a node number. Waits without limit until one can be claimed.
///
/// # Errors
///
/// [`Incompatible`] when a living process of the cluster has no wire version in common with this one.
pub async fn claim_node(
    engine: &Engine,
    subjects: &Subjects,
    timing: Timing,
    request: ClaimRequest,
    row: NodeRow,
) -> Result<(LeaseKeeper<NodeNumbers>, NodeLease), Incompatible> {
    let row = NodeRow { name: request.name.clone(), ..row };
    let numbers = NodeNumbers { engine: engine.clone(), subjects: subjects.clone(), timing, request, row };
    let (keeper, lease): (_, Lease<Holder>) = LeaseKeeper::claim(engine, timing, numbers).await?;
    if let Some(holder) = lease.holder() {
        tracing::info!(node = %holder.node, epoch = holder.epoch, "node number claimed");
    }
    Ok((keeper, lease))
}

impl LeaseKind for NodeNumbers {
    type Slot = NodeNumber;
    type Holder = Holder;
    type Note = NodeNote;
    const RESUMES: bool = false;

    fn proto(&self) -> Proto {
        self.row.proto
    }

    fn key(&self, number: NodeNumber) -> String {
        node_key::lease(number)
    }

    fn holder(&self, node: NodeNumber, epoch: u64) -> Holder {
        Holder { node, epoch }
    }

    fn encode(&self, epoch: Option<u64>, offset_ms: Option<i64>) -> LeaseContent {
        NodeRow { epoch, offset_ms, ..self.row.clone() }.encode().into()
    }

    fn set_note(&mut self, note: NodeNote) {
        self.row.note = note;
    }

    async fn choose(
        &self,
        rows: &[Entry],
        last: Option<NodeNumber>,
    ) -> Result<Option<(NodeNumber, Precondition)>, Unavailable> {
        let rows: Vec<Listed> = rows.iter().filter_map(listed).collect();
        // the number that it had, so that addresses stay valid
        let last = last.filter(|last| rows.iter().all(|row| row.number != *last));
        let request = ClaimRequest { number: last.or(self.request.number), ..self.request.clone() };
        let decision = match plan(&request, &rows) {
            Plan::Probe(row) if self.is_dead(&row).await => {
                return Ok(Some((row.number, Precondition::Rev(row.rev))));
            }
            // a running process with the same name keeps its number
            Plan::Probe(_) => plan(&ClaimRequest { name: String::new(), ..request }, &rows),
            decision => decision,
        };
        Ok(match decision {
            Plan::Claim(number) => Some((number, Precondition::Absent)),
            Plan::Probe(_) | Plan::Wait => None,
        })
    }
}

impl NodeNumbers {
    /// Returns whether the epoch of a listed row has no responder. A row that has changed since is refused by the claim
    /// at its revision.
    async fn is_dead(&self, row: &Listed) -> bool {
        let subject = self.subjects.node(row.number, row.epoch, leaf::ALIVE);
        is_silent(&self.engine, &subject, self.timing.deliver).await
    }
}

fn listed(entry: &Entry) -> Option<Listed> {
    let number = entry.key.strip_prefix(node_key::LEASES)?.parse().ok()?;
    let row = NodeRow::decode(&entry.meta).unwrap_or_default();
    Some(Listed { number, rev: entry.rev, epoch: row.epoch_at(entry.rev), name: row.name })
}

/// Deletes the lease of a node when its process has ended. Returns whether the lease was deleted.
///
/// # Errors
///
/// [`Unavailable`] when the engine is unavailable or the outcome of the delete is unknown.
pub async fn evict_dead_node(
    engine: &Engine,
    subjects: &Subjects,
    timing: Timing,
    node: NodeNumber,
) -> Result<bool, Unavailable> {
    let key = node_key::lease(node);
    let entry = engine.kv(Bucket::Nodes).get(&key, Consistency::Latest).await?;
    let Some(entry) = entry else { return Ok(false) };
    let Some(row) = NodeRow::decode(&entry.meta) else { return Ok(false) };
    let subject = subjects.node(node, row.epoch_at(entry.rev), leaf::ALIVE);
    evict_silent(engine, timing, &subject, &key, entry.rev).await
}

/// Returns the nodes that hold a lease, for a process that has no view of them.
///
/// # Errors
///
/// [`Unavailable`] when the engine is unavailable.
pub async fn living_nodes(engine: &Engine) -> Result<Vec<Holder>, Unavailable> {
    let entries = engine.kv(Bucket::Nodes).list(node_key::LEASES).await?;
    let holder = |entry: Entry| {
        let node = entry.key.strip_prefix(node_key::LEASES)?.parse().ok()?;
        Some(Holder { node, epoch: NodeRow::decode(&entry.meta)?.epoch_at(entry.rev) })
    };
    Ok(entries.into_iter().filter_map(holder).collect())
}

/// Returns the node that this node monitors: the next living number after its own, around the ring.
pub fn next_in_ring(own: NodeNumber, living: &[NodeNumber]) -> Option<NodeNumber> {
    let after = living.iter().copied().filter(|number| *number > own).min();
    after.or_else(|| living.iter().copied().min()).filter(|number| *number != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u16) -> NodeNumber {
        NodeNumber::new(number).unwrap()
    }

    fn listed(n: u16, name: &str) -> Listed {
        Listed { number: number(n), rev: u64::from(n) * 10, epoch: 1, name: name.into() }
    }

    #[test]
    fn every_node_is_watched_by_exactly_one_other() {
        let numbers = [1, 4, 9].map(number);
        let watched: Vec<_> = numbers.iter().filter_map(|own| next_in_ring(*own, &numbers)).collect();
        assert_eq!(watched, [numbers[1], numbers[2], numbers[0]]);
        assert_eq!(next_in_ring(numbers[0], &numbers[..1]), None);
    }

    #[test]
    fn the_lowest_free_number_is_claimed() {
        let rows = [listed(1, ""), listed(2, ""), listed(4, "")];
        assert_eq!(plan(&ClaimRequest::default(), &rows), Plan::Claim(number(3)));
    }

    #[test]
    fn a_name_asks_for_the_number_that_it_had() {
        let rows = [listed(1, ""), listed(2, "edge-b")];
        let request = ClaimRequest { number: None, name: "edge-b".into() };
        assert_eq!(plan(&request, &rows), Plan::Probe(listed(2, "edge-b")));
    }

    #[test]
    fn a_fixed_number_is_waited_for_unless_the_same_name_holds_it() {
        let rows = [listed(2, "edge-b")];
        let request = |name: &str| ClaimRequest { number: Some(number(2)), name: name.into() };
        assert_eq!(plan(&request("edge-a"), &rows), Plan::Wait);
        assert_eq!(plan(&request("edge-b"), &rows), Plan::Probe(listed(2, "edge-b")));
        assert_eq!(
            plan(&request(""), &[listed(2, "")]),
            Plan::Wait,
            "nodes without a name have no name in common"
        );
    }
}
