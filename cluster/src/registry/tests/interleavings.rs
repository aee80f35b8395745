//! The rule of idle rows while several nodes write at the same time: every write of every operation is a step of its
//! own, nodes receive rows late and each at its own pace, a node may be killed between any two writes, and a write may
//! have an unknown outcome and happen later.

mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use self::node::{Node, Outcome, both};
use super::{LONG, NONE, key, node};
use crate::engine::{Bucket, Engine, Faults, Kv, Memory};
use crate::lease::NodeRow;
use crate::registry::{Expirable, IdleRow, Lifetimes, PageRow, RemovalKind};
use crate::subject::page_key;

#[derive(Debug, Clone)]
enum Step {
    /// A node receives this number of rows.
    Receive {
        node: usize,
        events: usize,
    },
    /// One of the running operations of a node goes on to its next read or write.
    Advance {
        node: usize,
        operation: usize,
        steps: usize,
    },
    Open {
        node: usize,
        session: u128,
    },
    /// The page at that position among the pages of a node leaves.
    Leave {
        node: usize,
        place: usize,
        kind: RemovalKind,
    },
    Rewrite {
        node: usize,
        place: usize,
    },
    /// A node is killed in the middle of its operations.
    Die {
        node: usize,
    },
    Sweep {
        node: usize,
        at_once: bool,
    },
    Mark {
        node: usize,
        at_once: bool,
    },
    End {
        node: usize,
        at_once: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(RemovalKind::Forget), Just(RemovalKind::Unregister)];
    // mostly one session, because an error needs several of its pages
    let session = prop_oneof![4 => Just(0u128), 1 => 0u128..3];
    prop_oneof![
        8 => (0usize..3, 1usize..8).prop_map(|(node, events)| Step::Receive { node, events }),
        40 => (0usize..3, 0usize..4, 1usize..5)
            .prop_map(|(node, operation, steps)| Step::Advance { node, operation, steps }),
        6 => (0usize..3, session).prop_map(|(node, session)| Step::Open { node, session }),
        6 => (0usize..3, 0usize..3, kind).prop_map(|(node, place, kind)| Step::Leave { node, place, kind }),
        1 => (0usize..3, 0usize..3).prop_map(|(node, place)| Step::Rewrite { node, place }),
        1 => (1usize..3).prop_map(|node| Step::Die { node }),
        4 => (0usize..3, any::<bool>()).prop_map(|(node, at_once)| Step::Sweep { node, at_once }),
        5 => (0usize..3, any::<bool>()).prop_map(|(node, at_once)| Step::Mark { node, at_once }),
        5 => (0usize..3, any::<bool>()).prop_map(|(node, at_once)| Step::End { node, at_once }),
    ]
}

/// The content of the bucket: the revisions of page rows, and the idle rows.
#[derive(Default)]
struct Stored {
    pages: BTreeMap<Expirable, Vec<u64>>,
    idle: BTreeMap<Expirable, (u64, IdleRow)>,
}

struct World {
    rows: Kv,
    nodes: Vec<Node>,
    /// What has had the row of a page and has not ended since.
    alive: BTreeSet<Expirable>,
    before: Stored,
}

impl World {
    async fn new(lifetimes: Lifetimes, seed: u64, faults: Faults) -> Self {
        let memory = Memory::new();
        let mut nodes = Vec::new();
        for number in 1..=3 {
            nodes.push(Node::new(&memory, number, lifetimes, seed, faults).await);
        }
        let rows = Engine::Memory(memory).kv(Bucket::Pages);
        Self { rows, nodes, alive: BTreeSet::new(), before: Stored::default() }
    }

    /// Updates at once which nodes are alive, however late a node receives rows.
    fn see_nodes(&self, at: usize) {
        for other in &self.nodes {
            let mut view = self.nodes[at].registry.view.write().unwrap();
            match other.is_alive {
                true => view.put_node(node(other.number), 1, NodeRow::default()),
                false => view.delete_node(node(other.number)),
            };
        }
    }

    async fn stored(&self) -> Stored {
        let mut stored = Stored::default();
        for entry in self.rows.list(page_key::ALL).await.unwrap() {
            if let Some(row) = PageRow::decode(&entry.meta) {
                for of in [Expirable::Session(row.session.key), Expirable::Connection(row.connection.key)] {
                    stored.pages.entry(of).or_default().push(entry.rev);
                }
            } else if let Some(row) = IdleRow::decode(&entry.meta) {
                stored.idle.insert(row.of(), (entry.rev, row));
            }
        }
        stored
    }

    /// Takes one step of an operation, and gives its node the outcome.
    async fn advance(&mut self, node: usize, operation: usize) {
        let running = &mut self.nodes[node].running;
        if running.is_empty() {
            return;
        }
        let place = operation % running.len();
        let polled = running[place].as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(outcome) = polled {
            drop(running.remove(place));
            self.finish(node, outcome).await;
        }
        self.check().await;
    }

    async fn finish(&mut self, node: usize, outcome: Outcome) {
        match outcome {
            Outcome::Joined { page, session, rev, idle } => {
                let stored = self.stored().await;
                for of in idle {
                    let mark = stored.idle.get(&of).filter(|(_, row)| row.ending);
                    assert!(mark.is_none_or(|(mark, _)| *mark > rev), "a page has joined an ending {of:?}");
                }
                let own = &mut self.nodes[node];
                own.pages.insert(page, (session, rev));
                let is_ending = both(session).iter().any(|of| own.registry.view().is_ending(*of));
                if is_ending {
                    own.leave(page, RemovalKind::Unregister);
                }
            }
            Outcome::Rewritten { page, rev } => {
                if let Some((_, known)) = self.nodes[node].pages.get_mut(&page) {
                    *known = rev;
                }
            }
            Outcome::Nothing => {}
        }
    }

    async fn check(&mut self) {
        let stored = self.stored().await;
        for (of, (mark, row)) in &self.before.idle {
            // a page that leaves renews the mark
            let is_marked = stored.idle.get(of).is_some_and(|(_, row)| row.ending);
            if row.ending && !is_marked {
                assert!(self.alive.remove(of), "{of:?} has ended a second time");
                let left = stored.pages.get(of).into_iter().flatten().filter(|rev| *rev < mark);
                assert_eq!(left.count(), 0, "{of:?} has ended with a page that was there before the mark");
            }
        }
        self.alive.extend(stored.pages.keys());
        let known = |of: &&Expirable| stored.pages.contains_key(of) || stored.idle.contains_key(of);
        let lost: Vec<_> = self.alive.iter().filter(|of| !known(of)).collect();
        assert!(lost.is_empty(), "neither a page nor an idle row: {lost:?}");
        self.before = stored;
    }

    /// Runs the operations of a node until they have ended.
    async fn settle(&mut self, node: usize) {
        while !self.nodes[node].running.is_empty() {
            self.advance(node, 0).await;
        }
    }

    fn begin_duty(&mut self, node: usize, duty: &Step) {
        self.see_nodes(node);
        let own = &mut self.nodes[node];
        match duty {
            Step::Sweep { .. } => own.begin(async |registry| _ = registry.sweep().await),
            Step::Mark { .. } => own.begin(async |registry| _ = registry.mark_idle().await),
            _ => {
                let ended = own.registry.ended();
                own.begin(async |registry| {
                    for (row, rev) in ended {
                        registry.remove_idle_row(&row, rev).await;
                    }
                });
            }
        }
    }

    async fn take(&mut self, step: Step, next: &mut u128) {
        match step {
            Step::Die { node } => {
                self.nodes[node].is_alive = false;
                self.nodes[node].running.clear();
            }
            Step::Receive { node, .. }
            | Step::Advance { node, .. }
            | Step::Open { node, .. }
            | Step::Leave { node, .. }
            | Step::Rewrite { node, .. }
            | Step::Sweep { node, .. }
            | Step::Mark { node, .. }
            | Step::End { node, .. }
                if !self.nodes[node].is_alive => {}
            Step::Receive { node, events } => self.nodes[node].receive(events),
            Step::Advance { node, operation, steps } => {
                for _ in 0..steps {
                    self.advance(node, operation).await;
                }
            }
            Step::Open { node, session } => {
                *next += 1;
                self.nodes[node].open(key(*next), session);
            }
            Step::Leave { node, place, kind } => {
                if let Some(page) = self.nodes[node].pages.keys().nth(place).copied() {
                    self.nodes[node].leave(page, kind);
                }
            }
            Step::Rewrite { node, place } => self.nodes[node].rewrite(place),
            Step::Sweep { node, at_once } | Step::Mark { node, at_once } | Step::End { node, at_once } => {
                let others = self.nodes[node].running.len();
                self.begin_duty(node, &step);
                while at_once && self.nodes[node].running.len() > others {
                    self.advance(node, others).await;
                }
            }
        }
    }
}

async fn play(steps: Vec<Step>, lifetimes: Lifetimes, seed: u64, faults: Faults) {
    let mut world = World::new(lifetimes, seed, faults).await;
    let mut next = 1000;
    for step in steps {
        world.take(step, &mut next).await;
    }
    // in the end all nodes but one are killed; that one sweeps after every row that it receives, and once with all rows
    for node in [1, 2] {
        world.take(Step::Die { node }, &mut next).await;
    }
    world.settle(0).await;
    for events in std::iter::repeat_n(1, 30).chain([usize::MAX]) {
        world.nodes[0].receive(events);
        world.begin_duty(0, &Step::Sweep { node: 0, at_once: true });
        world.settle(0).await;
    }
    if lifetimes == NONE {
        let kind = RemovalKind::Forget;
        while !world.nodes[0].pages.is_empty() {
            world.take(Step::Leave { node: 0, place: 0, kind }, &mut next).await;
        }
        // each round may meet a fault
        for _ in 0..200 {
            if world.alive.is_empty() {
                break;
            }
            let (node, at_once) = (0, true);
            for duty in
                [Step::Sweep { node, at_once }, Step::Mark { node, at_once }, Step::End { node, at_once }]
            {
                world.nodes[0].receive(usize::MAX);
                world.begin_duty(0, &duty);
                world.settle(0).await;
            }
        }
        assert_eq!(world.alive, BTreeSet::new(), "everything ends");
    }
}

proptest! {
    #[test]
    fn whatever_has_had_pages_has_one_or_is_idle_or_has_ended_once(
        steps in prop::collection::vec(step(), 1..200),
        lifetimes in prop_oneof![Just(LONG), Just(NONE)],
        seed in any::<u64>(),
        unknown in prop_oneof![Just(0u16), Just(60)],
    ) {
        let faults = Faults { unknown, down: unknown / 3, hidden_conflict: 200, pauses: true, ..Faults::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps, lifetimes, seed, faults));
    }
}
