//! A page on three nodes, its client, and the invariants that hold after every step.

mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

use pagewire_cluster::id::{Address, Key};
use serde_json::Value;
use serde_json::value::RawValue;

use self::rows::{Row, Rows};
use crate::pages::outbox::Budget;
use crate::pages::page::migration::*;
use crate::pages::page::{AttachKind, AttachmentId, DrainOutcome, Membership, Page};
use crate::protocol::{Close, CloseCode, ResumeOutcome, pong};

const BUDGET: Budget = Budget { outbox: 100_000, replay: 1500 };
pub(super) const NODES: usize = 3;

fn number(node: usize) -> NodeNumber {
    NodeNumber::new(node as u16 + 1).unwrap()
}

fn page(generation: u32) -> Page {
    let at = |bits| Address { key: Key::from_bits(bits), node: number(0) };
    let place = Membership::new(at(2), at(3), None);
    Page::new(Key::from_bits(1), place, 0, 1, generation, BUDGET)
}

fn payload(tail: &FrameBody) -> u64 {
    let frame: Value = serde_json::from_str(tail.to_frame().unwrap().get()).unwrap();
    frame["payload"].as_u64().unwrap()
}

/// A resume in progress at a node: the row is won, the other steps follow.
#[derive(Clone)]
struct Resuming {
    node: usize,
    generation: u32,
    seq: u64,
    handed: Option<HandedOver>,
    requested: bool,
}

pub(super) struct World {
    copies: [Option<Arc<Page>>; NODES],
    /// A node may still forward for an earlier ownership of the page after the page has come back to it.
    forwarding: [Vec<Forwarding>; NODES],
    rows: Rows,
    socket: Option<(usize, AttachmentId)>,
    resuming: Option<Resuming>,
    /// The state of the client: the numbers restart with every reset.
    seq: u64,
    seen: Vec<u64>,
    pushed: u64,
    /// The first message after the last reset.
    first: u64,
    /// Messages that may be missing: their sender got a failure, or the client got a reset after them.
    excused: BTreeSet<u64>,
    /// Messages that may arrive out of order.
    late: BTreeSet<u64>,
    /// The client's own frames that the server has processed.
    acted: Vec<u64>,
    unanswered: Vec<u64>,
    next_command: u64,
    sent_count: u64,
}

impl World {
    pub(super) fn new() -> Self {
        let first = Arc::new(page(1));
        let ticket = first.attach(AttachKind::New, |_| pong()).unwrap();
        Self {
            copies: [Some(first), None, None],
            forwarding: Default::default(),
            rows: Rows::new(Row { node: 0, generation: 1, prev: None }),
            socket: Some((0, ticket)),
            resuming: None,
            seq: 0,
            seen: Vec::new(),
            pushed: 0,
            first: 0,
            excused: BTreeSet::new(),
            late: BTreeSet::new(),
            acted: Vec::new(),
            unanswered: Vec::new(),
            next_command: 0,
            sent_count: 0,
        }
    }

    /// A push to the address that the sender has: the row's node, or an old one that forwards.
    pub(super) fn push(&mut self, node: usize) {
        let Some(page) = &self.copies[node] else { return };
        if node != self.rows.now().node && page.is_owned() {
            return; // a sender to this node has not seen the row; like every sender it waits for a reply
        }
        if self.is_forwarding() {
            return;
        }
        if !matches!(page.push(&self.message()), PushOutcome::Missed) {
            self.pushed += 1;
        }
    }

    /// A push to many pages, including this one, by a sender that has not seen the last few versions of the row. The
    /// sender sends it to every node, and each node first sees the versions that the sender has.
    pub(super) fn push_to_all(&mut self, unseen: u64) {
        if self.is_forwarding() {
            return;
        }
        let seen = self.rows.rev().saturating_sub(unseen).max(1);
        let message = self.message();
        let mut taken = Vec::new();
        for node in 0..NODES {
            self.apply_rows(node, seen);
            let Some(page) = &self.copies[node] else { continue };
            // taken by a node that has not seen a later move: the message arrives, but late
            let old_copy = node != self.rows.now().node && page.is_owned();
            if !matches!(page.push_scoped(Some(seen), &message), PushOutcome::Missed) {
                taken.push(node);
                if old_copy {
                    self.late.insert(self.pushed);
                }
            }
        }
        assert!(taken.len() <= 1, "taken by {taken:?}");
        self.pushed += taken.len() as u64;
    }

    fn message(&self) -> FrameBody {
        FrameBody::message(&RawValue::from_string(self.pushed.to_string()).unwrap(), None, None)
    }

    /// Whether a sender waits for the reply that follows the arrival of a forwarded frame.
    fn is_forwarding(&self) -> bool {
        self.forwarding.iter().flatten().any(|forwarding| !forwarding.frames.is_empty())
    }

    /// The client sends a command over its socket.
    pub(super) fn command(&mut self) {
        let Some((node, ticket)) = self.socket else { return };
        let command = self.next_command;
        self.next_command += 1;
        self.unanswered.push(command);
        self.sent_count += 1;
        self.begin_command(node, ticket, command);
    }

    fn begin_command(&mut self, node: usize, ticket: AttachmentId, command: u64) {
        if self.copies[node].as_ref().is_some_and(|page| page.accept(ticket)) {
            self.acted.push(command);
        }
    }

    pub(super) fn read(&mut self, frames: usize, arrives: bool) {
        let Some((node, ticket)) = self.socket else { return };
        let Some(page) = self.copies[node].clone() else { return self.socket = None };
        for _ in 0..frames {
            let mut got = None;
            let taken = page.take(ticket, 1, &mut |head, tail| {
                got = Some(serde_json::from_slice::<Value>(&[head, tail.bytes()].concat()).unwrap());
            });
            if matches!(taken, DrainOutcome::Close(_)) || (got.is_some() && !arrives) {
                return self.socket = None;
            }
            let Some(frame) = got else { return };
            if let Some(seq) = frame["seq"].as_u64() {
                assert_eq!(seq, self.seq + 1, "numbers never skip");
                self.seq = seq;
                self.seen.push(frame["payload"].as_u64().unwrap());
            }
        }
    }

    pub(super) fn acknowledge(&mut self) {
        if let Some((node, ticket)) = self.socket
            && let Some(page) = &self.copies[node]
        {
            page.acknowledge(ticket, self.seq);
        }
    }

    /// Wins the row for a node; an earlier resume in progress loses.
    pub(super) fn resume(&mut self, node: usize) {
        let old = self.rows.now();
        let is_only_copy = old.prev.is_none();
        let (generation, seq) = (old.generation + 1, self.seq);
        self.socket = None;
        let here = self.copies[node].clone().filter(|page| page.is_owned() && node == old.node);
        self.resuming = Some(Resuming { node, generation, seq, handed: None, requested: !is_only_copy });
        match here {
            Some(page) if is_only_copy => {
                page.set_row(page.version().rev + 1, generation, None);
                self.rows.write(Row { node, generation, prev: None });
                self.finish();
            }
            _ => {
                let page = Arc::new(page(generation));
                page.expect_handover();
                // an interrupted move: its early copy leaves, the next one is a reset
                if !is_only_copy && let Some(copy) = self.copies[old.node].take() {
                    copy.leave(None, Close::new(CloseCode::HeldElsewhere, ""));
                    self.forwarding.iter_mut().for_each(Vec::clear);
                    self.excused.extend(0..self.pushed);
                }
                let rev = self.rows.write(Row { node, generation, prev: Some(old.node) });
                page.mark_acquired(rev);
                let old_copy = self.copies[node].replace(page).filter(|old_copy| old_copy.is_owned());
                let frozen =
                    old_copy.and_then(|old_copy| old_copy.freeze(number(node), generation, rev, u64::MAX));
                self.forwarding[node].extend(frozen.map(|(_, forwarding)| forwarding));
            }
        }
    }

    /// The handover request to the old holder; its reply may be lost.
    pub(super) fn request_handover(&mut self, reply_arrives: bool) {
        let Some(resuming) = &mut self.resuming else { return };
        let Some(old) = self.rows.now().prev.filter(|old| *old != resuming.node && !resuming.requested)
        else {
            return;
        };
        resuming.requested = true;
        let frozen = self.copies[old].as_ref().and_then(|page| {
            page.freeze(number(resuming.node), resuming.generation, self.rows.rev(), resuming.seq)
        });
        if let Some((handover, forwarding)) = frozen {
            self.forwarding[old].push(forwarding);
            if let (Handover::Complete(handed), true) = (handover, reply_arrives) {
                resuming.handed = Some(handed);
            }
        }
    }

    /// The new holder gives the page to the client's socket.
    pub(super) fn finish(&mut self) {
        let Some(resuming) = self.resuming.take() else { return };
        let Some(page) = self.copies[resuming.node].clone() else { return };
        let kind = match &resuming.handed {
            Some(handed) if page.install(handed) => AttachKind::Resumed { seq: resuming.seq },
            None if page.version().generation == resuming.generation && self.rows.now().prev.is_none() => {
                AttachKind::Resumed { seq: resuming.seq }
            }
            _ => AttachKind::Elsewhere,
        };
        let mut welcome = None;
        let ticket = page.attach(kind, |w| {
            welcome = Some((w.recovered, w.received));
            pong()
        });
        let (Some(ticket), Some((recovered, received))) = (ticket, welcome) else { return };
        self.socket = Some((resuming.node, ticket));
        self.rows.write(Row { prev: None, ..self.rows.now() });
        if recovered == ResumeOutcome::Recovered {
            self.resend(resuming.node, ticket, received);
        } else {
            (self.seq, self.sent_count) = (0, 0);
            self.seen.clear();
            self.excused.extend(0..self.pushed);
            self.first = self.pushed;
            self.acted.clear();
            self.unanswered.clear();
        }
    }

    /// The client resends, in order, the commands that the server has not counted.
    fn resend(&mut self, node: usize, ticket: AttachmentId, received: u64) {
        let missing = (self.sent_count - received) as usize;
        let commands = self.unanswered[self.unanswered.len() - missing..].to_vec();
        for command in commands {
            self.begin_command(node, ticket, command);
        }
    }

    /// A command is lost in transit, and the socket breaks with it.
    pub(super) fn lose_command(&mut self) {
        if self.socket.take().is_some() {
            self.unanswered.push(self.next_command);
            self.next_command += 1;
            self.sent_count += 1;
        }
    }

    /// Forwarded frames arrive at the new holder.
    pub(super) fn deliver_forwarded(&mut self, from: usize) {
        let row = self.rows.now();
        for forwarding in &mut self.forwarding[from] {
            let to = (0..).find(|node| number(*node) == forwarding.to).unwrap();
            while let Ok(frame) = forwarding.frames.try_recv() {
                match &self.copies[to] {
                    Some(page) => {
                        // taken as its own by a node that has not seen two moves: the message arrives, but late
                        if to != row.node && page.is_owned() {
                            self.late.insert(payload(&frame.tail));
                        }
                        // the sender's reply counts no page
                        if matches!(page.push(&frame.tail), PushOutcome::Missed) {
                            self.excused.insert(payload(&frame.tail));
                        }
                    }
                    None => drop(self.excused.insert(payload(&frame.tail))),
                }
            }
        }
    }

    /// A node sees the newest row: a page that it still counts as its own belongs to another node.
    pub(super) fn apply_newest_row(&mut self, node: usize) {
        self.apply_rows(node, self.rows.rev());
    }

    /// A node sees the versions of the row, one after the other, up to a revision.
    fn apply_rows(&mut self, node: usize, rev: u64) {
        while let Some((rev, row)) = self.rows.see(node, rev) {
            let Some(page) = self.copies[node].as_ref().filter(|_| node != row.node) else { continue };
            page.mark_released(rev, row.generation);
            if row.prev.is_none()
                && let Some((_, forwarding)) = page.freeze(number(row.node), row.generation, rev, u64::MAX)
            {
                self.forwarding[node].push(forwarding);
            }
        }
    }

    fn may_be_late(&self, number: u64) -> bool {
        self.excused.contains(&number) || self.late.contains(&number)
    }

    pub(super) fn crash(&mut self, node: usize) {
        // frames that a node took for a page that it wrongly counts as its own are lost with it, without notice
        let old_copy = self.copies[node].take().filter(|_| node != self.rows.now().node);
        if let Some((_, mut left)) =
            old_copy.and_then(|page| page.freeze(number(node), u32::MAX, u64::MAX, u64::MAX))
        {
            while let Ok(frame) = left.frames.try_recv() {
                self.excused.insert(payload(&frame.tail));
            }
        }
        // frames in transit are lost with the node: their senders get no reply
        for mut forwarding in std::mem::take(&mut self.forwarding[node]) {
            while let Ok(frame) = forwarding.frames.try_recv() {
                self.excused.insert(payload(&frame.tail));
            }
        }
        if self.socket.is_some_and(|(held, _)| held == node) {
            self.socket = None;
        }
        if self.resuming.as_ref().is_some_and(|resuming| resuming.node == node) {
            self.resuming = None;
        }
    }

    /// In the end a client that resumes at the node of its page has every frame.
    pub(super) fn settle(&mut self) {
        (0..NODES).for_each(|node| self.apply_newest_row(node));
        // an old address may lead over several nodes
        (0..NODES * NODES).for_each(|hop| self.deliver_forwarded(hop % NODES));
        let node = self.rows.now().node;
        self.resume(node);
        self.request_handover(true);
        self.finish();
        (0..NODES * NODES).for_each(|hop| self.deliver_forwarded(hop % NODES));
        self.read(1000, true);
        self.check();
        let expected = (self.first..self.pushed).filter(|number| !self.excused.contains(number));
        let missing = expected.into_iter().find(|number| !self.seen.contains(number));
        assert_eq!(missing, None, "never delivered, without a reset: {:?} of {}", self.seen, self.pushed);
    }

    pub(super) fn check(&self) {
        let holds =
            |page: &&Arc<Page>| page.is_owned() && page.version().generation == self.rows.now().generation;
        assert!(
            self.copies.iter().flatten().filter(holds).count() <= 1,
            "two nodes hold the newest generation"
        );
        let mut once = self.seen.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), self.seen.len(), "doubled: {:?}", self.seen);
        // after a reset, messages from before it may arrive late; all others arrive in order and without a gap
        let expected: Vec<u64> =
            self.seen.iter().copied().filter(|number| !self.may_be_late(*number)).collect();
        for pair in expected.windows(2) {
            assert!(pair[0] < pair[1], "reordered: {:?}", self.seen);
            let missing = (pair[0] + 1..pair[1]).find(|number| !self.may_be_late(*number));
            assert_eq!(missing, None, "a gap without a reset: {:?}", self.seen);
        }
        assert!(self.acted.windows(2).all(|pair| pair[1] == pair[0] + 1), "commands {:?}", self.acted);
    }
}
