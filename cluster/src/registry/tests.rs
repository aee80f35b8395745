//! Pages that enter and leave, and sessions that end, with nodes that receive all rows late.

mod interleavings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::engine::{Memory, Precondition, WriteError};
use crate::id::{Address, Entity, Holder};

/// Long enough that no session or connection ends by itself.
const LONG: Lifetimes = Lifetimes {
    session: Duration::from_secs(600),
    connection: Duration::from_secs(600),
    unregistered: Duration::from_secs(60),
};
/// Every idle row is due.
const NONE: Lifetimes = Lifetimes { session: Duration::ZERO, connection: Duration::ZERO, ..LONG };

fn key(bits: u128) -> Key {
    Key::from_bits(bits)
}

fn node(number: u16) -> NodeNumber {
    NodeNumber::new(number).unwrap()
}

fn at(bits: u128) -> Address {
    Address { key: key(bits), node: node(1) }
}

/// Sessions 0 and 1 belong to connection 100, session 2 to another one.
fn connection_of(session: u128) -> u128 {
    100 + session / 2
}

fn row(number: u16, session: u128) -> PageRow {
    PageRow {
        node: node(number),
        epoch: 1,
        generation: 1,
        prev: None,
        session: at(session),
        connection: at(connection_of(session)),
        user: None,
        pins: Default::default(),
        resident: None,
        placed: 0,
        topics: Vec::new(),
        lane: "stable".into(),
        release: "dev".into(),
        opened: 0,
        agent: String::new(),
    }
}

/// The removal of a page from a node that still holds these others.
fn removal(others: &BTreeMap<Key, (u128, u64)>, page: Key, session: u128, rev: u64) -> PageRemoval {
    let has = |of: &dyn Fn(u128) -> bool| others.values().any(|(session, _)| of(*session));
    PageRemoval {
        page,
        rev,
        session: at(session),
        connection: at(connection_of(session)),
        user: None,
        last_of_session: !has(&|other| other == session),
        last_of_connection: !has(&|other| connection_of(other) == connection_of(session)),
    }
}

/// A node of the model: the pages that it holds, and the rows that it has received.
struct Node {
    number: u16,
    registry: Registry,
    rows: Watch,
    pages: BTreeMap<Key, (u128, u64)>,
    is_alive: bool,
}

impl Node {
    async fn new(engine: &Engine, number: u16, lifetimes: Lifetimes) -> Self {
        let registry = Registry::new(engine, lifetimes);
        let rows = registry.rows.watch(page_key::ALL, WatchMode::Meta).await.unwrap();
        Self { number, registry, rows, pages: BTreeMap::new(), is_alive: true }
    }

    fn receive(&mut self, events: usize) {
        for _ in 0..events {
            let Some(event) = self.rows.try_next() else { return };
            self.registry.apply(&WatchKind::Pages, event);
        }
    }

    async fn open(&mut self, page: u128, session: u128) {
        match self.registry.write(key(page), &row(self.number, session), Precondition::Absent).await {
            Ok(rev) => drop(self.pages.insert(key(page), (session, rev))),
            Err(WriteError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn leave(&mut self, page: Key, kind: RemovalKind) {
        let Some((session, rev)) = self.pages.remove(&page) else { return };
        let leaving = removal(&self.pages, page, session, rev);
        self.registry.leave(&leaving, kind).await.unwrap();
    }
}

/// Updates at once which nodes are alive, however late a node receives rows.
fn see_nodes(nodes: &[Node], at: usize) {
    for other in nodes {
        match other.is_alive {
            true => {
                nodes[at].registry.view.write().unwrap().put_node(node(other.number), 1, NodeRow::default())
            }
            false => nodes[at].registry.view.write().unwrap().delete_node(node(other.number)),
        };
    }
}

/// Returns the content of the bucket: pages and idle rows.
async fn stored_rows(registry: &Registry) -> (BTreeSet<Expirable>, BTreeSet<Expirable>) {
    let (mut paged, mut idle) = (BTreeSet::new(), BTreeSet::new());
    for entry in registry.rows.list(page_key::ALL).await.unwrap() {
        if let Some(row) = PageRow::decode(&entry.meta) {
            paged.extend([Expirable::Session(row.session.key), Expirable::Connection(row.connection.key)]);
        } else if let Some(row) = IdleRow::decode(&entry.meta) {
            idle.insert(row.of());
        }
    }
    (paged, idle)
}

/// Node 0 has not received the removal of its own page when it sweeps the last rows of node 1.
#[tokio::test]
async fn a_session_is_idle_after_the_death_of_its_last_node_however_late_the_sweeper_hears() {
    let engine = Engine::Memory(Memory::new());
    let mut nodes = [Node::new(&engine, 1, LONG).await, Node::new(&engine, 2, LONG).await];
    nodes[0].open(1, 0).await;
    nodes[1].open(2, 0).await;
    nodes[0].receive(3);
    nodes[0].leave(key(1), RemovalKind::Forget).await;
    nodes[1].receive(100);
    nodes[1].open(3, 0).await;
    assert_eq!(
        stored_rows(&nodes[0].registry).await.1,
        BTreeSet::new(),
        "the page has deleted the idle rows"
    );
    nodes[1].is_alive = false;
    see_nodes(&nodes, 0);
    assert!(nodes[0].registry.view().has_pages(Expirable::Session(key(0))), "its own page, as it sees it");
    assert_eq!(nodes[0].registry.sweep().await, 1);
    let both = BTreeSet::from([Expirable::Session(key(0)), Expirable::Connection(key(100))]);
    assert_eq!(stored_rows(&nodes[0].registry).await.1, both);
}

/// The sweeping node has received the idle row, but not yet the removal of the page, which follows it.
#[tokio::test]
async fn an_idle_row_stays_although_a_page_is_still_seen_when_its_time_has_come() {
    let engine = Engine::Memory(Memory::new());
    let mut nodes = [Node::new(&engine, 1, NONE).await, Node::new(&engine, 2, NONE).await];
    nodes[0].open(1, 0).await;
    nodes[0].leave(key(1), RemovalKind::Forget).await;
    // all but the deletion of the row
    nodes[1].receive(4);
    see_nodes(&nodes, 1);
    assert!(nodes[1].registry.view().has_pages(Expirable::Session(key(0))));
    assert_eq!(nodes[1].registry.mark_idle().await, None);
    let both = [Expirable::Session(key(0)), Expirable::Connection(key(100))];
    assert_eq!(stored_rows(&nodes[0].registry).await.1, BTreeSet::from(both));
}

#[tokio::test]
async fn what_is_idle_for_too_long_ends_once_however_many_nodes_look() {
    let engine = Engine::Memory(Memory::new());
    let mut nodes = [Node::new(&engine, 1, NONE).await, Node::new(&engine, 2, NONE).await];
    nodes[0].open(1, 0).await;
    nodes[0].leave(key(1), RemovalKind::Forget).await;
    nodes.iter_mut().for_each(|node| node.receive(100));
    let mut presence = nodes[1].registry.presence_events();
    assert!(nodes[0].registry.mark_idle().await.is_some());
    assert_eq!(nodes[1].registry.mark_idle().await, None, "a mark is written once");
    assert_eq!(nodes[0].registry.ended(), [], "its view does not show the mark");
    // a page that joins now is refused, even on a node that has not received the mark
    assert!(nodes[1].registry.write(key(2), &row(2, 0), Precondition::Absent).await.is_err());
    // a node that is killed in between leaves the row to the next one
    nodes.iter_mut().for_each(|node| node.receive(100));
    let one = nodes[0].registry.ended();
    assert_eq!(one.len(), 1, "the connection waits for its session");
    assert_eq!(nodes[1].registry.ended(), one);
    let (row, rev) = &one[0];
    assert!(nodes[0].registry.remove_idle_row(row, *rev).await);
    assert!(!nodes[1].registry.remove_idle_row(row, *rev).await);
    nodes.iter_mut().for_each(|node| node.receive(100));
    let event = presence.try_recv().unwrap();
    assert_eq!((event.change.kind, event.change.member), (ChangeKind::End, Entity::Session(at(0))));
    nodes[1].registry.mark_idle().await;
    nodes[1].receive(100);
    let rest = nodes[1].registry.ended();
    assert_eq!(rest.iter().map(|(row, _)| row.of()).collect::<Vec<_>>(), [Expirable::Connection(key(100))]);
}

#[tokio::test]
async fn a_page_that_joins_in_time_keeps_its_session_from_ending() {
    let engine = Engine::Memory(Memory::new());
    let mut nodes = [Node::new(&engine, 1, NONE).await, Node::new(&engine, 2, NONE).await];
    let lease = |node: &mut Node| {
        drop(node.registry.view.write().unwrap().put_node(self::node(2), 1, NodeRow::default()));
    };
    nodes.iter_mut().for_each(lease);
    nodes[0].open(1, 0).await;
    nodes[0].leave(key(1), RemovalKind::Forget).await;
    nodes.iter_mut().for_each(|node| node.receive(100));
    nodes[1].open(2, 0).await;
    assert_eq!(
        nodes[0].registry.mark_idle().await,
        None,
        "the row was removed before this node received the event"
    );
    assert!(stored_rows(&nodes[0].registry).await.1.is_empty());
}

#[tokio::test]
async fn a_session_does_not_end_while_the_row_of_a_page_of_a_dead_node_is_left() {
    let engine = Engine::Memory(Memory::new());
    let mut nodes = [Node::new(&engine, 1, NONE).await, Node::new(&engine, 2, NONE).await];
    nodes[0].open(1, 0).await;
    nodes[0].leave(key(1), RemovalKind::Forget).await;
    // it joins before it has received the idle rows, and is killed
    nodes[1].open(2, 0).await;
    nodes[1].is_alive = false;
    nodes[0].receive(100);
    see_nodes(&nodes, 0);
    assert!(nodes[0].registry.mark_idle().await.is_some());
    nodes[0].receive(100);
    assert_eq!(nodes[0].registry.ended(), []);
    assert_eq!(nodes[0].registry.sweep().await, 1);
    nodes[0].receive(100);
    assert_eq!(nodes[0].registry.ended().len(), 1);
}

#[tokio::test]
async fn several_pages_that_join_an_idle_session_at_once_all_succeed() {
    let engine = Engine::Memory(Memory::new());
    let mut node = Node::new(&engine, 1, LONG).await;
    node.open(1, 0).await;
    node.leave(key(1), RemovalKind::Forget).await;
    node.receive(100);
    for page in 2..5 {
        // the view still shows the idle rows
        node.open(page, 0).await;
    }
    assert_eq!(node.pages.len(), 3);
}

#[tokio::test]
async fn an_unregistered_page_is_nobodys_page_and_known_as_such() {
    let engine = Engine::Memory(Memory::new());
    let mut node = Node::new(&engine, 1, LONG).await;
    node.open(1, 0).await;
    node.leave(key(1), RemovalKind::Unregister).await;
    node.receive(100);
    assert_eq!(node.registry.find(key(1)).await.unwrap(), RowLookup::Unregistered);
    assert_eq!(node.registry.row(key(1)).await.unwrap(), None);
    assert!(node.registry.view().pages.is_empty());
    let holder = Holder { node: self::node(1), epoch: 1 };
    assert!(!node.registry.view().held.contains(holder));
}
