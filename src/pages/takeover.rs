//! How this node takes a page that another node or an earlier incarnation of this node held. Pure.
//!
//! Owns: the next row of such a page, and which old holder hands its frames over. Never: a write or a request.

use std::sync::Arc;

use pagewire_cluster::engine::Precondition;
use pagewire_cluster::id::{Address, Holder};
use pagewire_cluster::registry::PageRow;

use super::page::Membership;
use super::request::OpenRequest;
use super::token::PageClaims;

/// The plan to take a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Takeover {
    /// The expected present row.
    pub(super) expect: Precondition,
    /// The generation of the next row.
    pub(super) generation: u32,
    /// The living node that has the frames that the client missed.
    pub(super) old: Option<Holder>,
    /// Another living node may have a copy of the page.
    pub(super) has_copies: bool,
    /// The session, connection, user, topics and lanes of the page.
    pub(super) place: Membership,
    /// When the page was first opened, in milliseconds since the Unix epoch.
    pub(super) opened: u64,
}

impl Takeover {
    /// Plans to take the page of these claims for the client of `open`. `is_alive`: whether a holder is alive, as far as
    /// this node sees. `now`: milliseconds since the Unix epoch.
    pub(super) fn plan(
        found: Option<(&PageRow, u64)>,
        claims: &PageClaims,
        holder: Holder,
        open: &OpenRequest,
        is_alive: impl Fn(Holder) -> bool,
        now: u64,
    ) -> Self {
        let is_other = |old: &Holder| *old != holder && is_alive(*old);
        let user = |owner: Option<&str>| owner.map(Arc::from).or_else(|| open.user.clone());
        let Some((row, rev)) = found else {
            let at = |key| Address { key, node: holder.node };
            let (session, connection) = (at(claims.session), at(claims.connection));
            let user = user(claims.user.as_deref());
            let resident = open.hello.resident.clone().map(Arc::new);
            let place = Membership { resident, ..Membership::new(session, connection, user) };
            let (expect, generation) = (Precondition::Absent, claims.generation + 1);
            return Self { expect, generation, old: None, has_copies: false, place, opened: now };
        };
        let (old, generation) = handover_source(row, holder, claims);
        // an interrupted move has left frames of the page on two nodes, and they cannot be put in order again
        let has_copies = [Some(holder_of(row)), row.prev].iter().flatten().any(is_other);
        let place = Membership::of_row(row, user(row.user.as_deref()));
        let (expect, old) = (Precondition::Rev(rev), old.filter(is_other));
        Self { expect, generation, old, has_copies, place, opened: row.opened }
    }
}

fn holder_of(row: &PageRow) -> Holder {
    Holder { node: row.node, epoch: row.epoch }
}

/// The holder that has the frames that the client missed, and the generation of the next row. A row of this node that
/// still names the old holder is an earlier attempt with a lost result: it produced no page, and no client has its
/// token.
fn handover_source(row: &PageRow, holder: Holder, claims: &PageClaims) -> (Option<Holder>, u32) {
    let (old, repeated) = match row.prev {
        None => (Some(holder_of(row)), false),
        Some(prev) if holder_of(row) == holder => (Some(prev), claims.generation + 1 == row.generation),
        Some(_) => (None, false),
    };
    (old, if repeated { row.generation } else { row.generation + 1 })
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::{Key, NodeNumber};

    use super::*;
    use crate::protocol::Hello;

    fn node(number: u16) -> Holder {
        Holder { node: NodeNumber::new(number).unwrap(), epoch: 7 }
    }

    fn claims(generation: u32) -> PageClaims {
        let key = Key::from_bits;
        PageClaims { page: key(1), session: key(2), connection: key(3), user: None, generation, issued: 0 }
    }

    fn row(holder: Holder, prev: Option<Holder>, user: Option<&str>) -> PageRow {
        let at = |bits| Address { key: Key::from_bits(bits), node: node(9).node };
        PageRow {
            node: holder.node,
            epoch: holder.epoch,
            generation: 4,
            prev,
            session: at(2),
            connection: at(3),
            user: user.map(str::to_owned),
            pins: Default::default(),
            resident: None,
            placed: 0,
            topics: vec!["news".to_owned()],
            lane: "stable".to_owned(),
            release: "1".to_owned(),
            opened: 5,
            agent: String::new(),
        }
    }

    fn plan(found: Option<PageRow>, generation: u32, dead: Option<Holder>) -> Takeover {
        let found = found.as_ref().map(|row| (row, 11));
        let (hello, user) = (Hello::default(), Some(Arc::from("bob")));
        let open = OpenRequest { hello, user, agent: String::new(), is_placed: false };
        Takeover::plan(found, &claims(generation), node(1), &open, |holder| Some(holder) != dead, 99)
    }

    #[test]
    fn a_page_without_a_row_comes_back_from_its_token() {
        let plan = plan(None, 4, None);
        assert_eq!((plan.expect, plan.generation, plan.old), (Precondition::Absent, 5, None));
        assert_eq!((plan.place.session.node, plan.opened), (node(1).node, 99));
        assert_eq!(plan.place.user.as_deref(), Some("bob"));
    }

    #[test]
    fn a_living_holder_is_asked_and_a_dead_one_is_not() {
        let alive = plan(Some(row(node(2), None, Some("ann"))), 4, None);
        assert_eq!((alive.expect, alive.generation, alive.old), (Precondition::Rev(11), 5, Some(node(2))));
        assert!(alive.has_copies);
        assert_eq!(alive.place.user.as_deref(), Some("ann"), "the row decides");
        let dead = plan(Some(row(node(2), None, None)), 4, Some(node(2)));
        assert_eq!((dead.old, dead.has_copies), (None, false));
    }

    #[test]
    fn an_own_attempt_with_a_lost_result_is_repeated_in_its_generation() {
        let repeated = plan(Some(row(node(1), Some(node(2)), None)), 3, None);
        assert_eq!((repeated.generation, repeated.old), (4, Some(node(2))));
        let later = plan(Some(row(node(1), Some(node(2)), None)), 4, None);
        assert_eq!((later.generation, later.old), (5, Some(node(2))));
    }

    #[test]
    fn a_move_that_another_node_began_is_not_continued() {
        let plan = plan(Some(row(node(2), Some(node(3)), None)), 4, None);
        assert_eq!((plan.generation, plan.old, plan.has_copies), (5, None, true));
    }
}
