//! The view compared with plain lists of the written rows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::id::{Entity, Scope};
use crate::registry::{Counts, Stats};

fn node(number: u16) -> NodeNumber {
    NodeNumber::new(number).unwrap()
}

fn at(bits: u128) -> Address {
    Address { key: Key::from_bits(bits), node: node(1) }
}

fn row(number: u16, epoch: u64, session: u128, user: Option<&str>) -> PageRow {
    PageRow {
        node: node(number),
        epoch,
        generation: 1,
        prev: None,
        session: at(session),
        connection: at(session / 2),
        user: user.map(str::to_owned),
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

fn lane_of(number: NodeNumber) -> &'static str {
    if number == node(1) { "canary" } else { "stable" }
}

fn lease(number: u16) -> NodeRow {
    NodeRow { lane: lane_of(node(number)).into(), ..NodeRow::default() }
}

fn idle(of: Expirable, user: Option<&str>, until: u64, ending: bool) -> IdleRow {
    let (session, connection) = match of {
        Expirable::Session(key) => (Some(at(key.bits())), at(key.bits() / 2)),
        Expirable::Connection(key) => (None, at(key.bits())),
    };
    IdleRow { session, connection, user: user.map(str::to_owned), until, ending }
}

/// A table keeps the memory of its largest size unless it is made smaller.
#[test]
fn a_view_gives_back_what_a_crowd_took_when_the_crowd_is_gone() {
    let mut view = View::default();
    view.put_node(node(1), 5, NodeRow::default());
    for n in 0..20_000 {
        view.put_page(Key::from_bits(n), 1, row(1, 5, n * 2, None));
        view.put_idle(1, idle(Expirable::Session(Key::from_bits(n * 2)), None, 7, false));
    }
    for n in 0..20_000 {
        view.delete_page(Key::from_bits(n));
        view.delete_idle(Expirable::Session(Key::from_bits(n * 2)));
    }
    let View { pages, members: Members { sessions, connections, .. }, idle, .. } = &view;
    let room = [pages.capacity(), sessions.capacity(), connections.capacity(), idle.rows.capacity()];
    assert!(room.iter().all(|room| *room < 5_000), "{room:?}");
}

#[test]
fn a_topic_is_there_while_a_living_page_has_it() {
    let mut view = View::default();
    view.put_node(node(1), 5, NodeRow::default());
    let with = |topics: &[&str]| PageRow {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        ..row(1, 5, 8, None)
    };
    view.put_page(Key::from_bits(1), 10, with(&["news", "room"]));
    view.put_page(Key::from_bits(2), 11, with(&["news"]));
    let topics = |view: &View| -> Vec<(String, usize)> {
        view.topics_after(None).map(|(topic, pages)| (topic.to_owned(), pages)).collect()
    };
    assert_eq!(topics(&view), [("news".to_owned(), 2), ("room".to_owned(), 1)]);
    assert_eq!(view.topics_after(Some("news")).count(), 1);
    let news = Scope::Topic("news".into());
    assert_eq!(view.pages_of(&news).count(), 2);
    view.put_page(Key::from_bits(1), 12, with(&["room"]));
    assert_eq!(topics(&view), [("news".to_owned(), 1), ("room".to_owned(), 1)]);
    view.delete_node(node(1));
    assert!(topics(&view).is_empty() && view.holders(&news).is_empty());
    view.put_node(node(1), 5, NodeRow::default());
    assert_eq!(topics(&view).len(), 2, "the node is back");
    view.delete_page(Key::from_bits(1));
    view.delete_page(Key::from_bits(2));
    assert!(topics(&view).is_empty());
}

#[test]
fn pages_of_a_dead_node_leave_the_view_with_its_lease() {
    let mut view = View::default();
    view.put_node(node(1), 5, NodeRow::default());
    view.put_page(Key::from_bits(1), 10, row(1, 5, 8, Some("ann")));
    assert_eq!(view.stats().total.pages, 1);
    assert_eq!(view.delete_node(node(1)).len(), 4, "page, session, connection and user leave");
    assert_eq!(view.stats(), Stats::default());
    assert_eq!(view.holders(&Scope::User("ann".into())), []);
    assert_eq!(
        view.dead().iter().map(|(key, seen)| (*key, seen.rev)).collect::<Vec<_>>(),
        [(Key::from_bits(1), 10)]
    );
    view.put_node(node(1), 6, NodeRow::default());
    assert_eq!(view.stats().total.pages, 0, "a new life of the node does not revive them");
}

#[test]
fn an_older_version_of_a_row_never_replaces_a_newer_one() {
    let mut view = View::default();
    view.put_node(node(1), 1, NodeRow::default());
    view.put_node(node(2), 1, NodeRow::default());
    view.put_page(Key::from_bits(1), 10, row(2, 1, 8, None));
    view.put_page(Key::from_bits(1), 9, row(1, 1, 8, None));
    assert_eq!(view.holders(&Scope::Session(Key::from_bits(8))), [Holder { node: node(2), epoch: 1 }]);
}

#[test]
fn a_page_that_moves_neither_leaves_nor_joins_and_one_that_logs_in_brings_its_user() {
    let mut view = View::default();
    view.put_node(node(1), 1, NodeRow::default());
    view.put_node(node(2), 1, NodeRow::default());
    assert_eq!(view.put_page(Key::from_bits(1), 1, row(1, 1, 8, None)).len(), 3);
    assert_eq!(view.put_page(Key::from_bits(1), 2, row(2, 1, 8, None)), []);
    let changes = view.put_page(Key::from_bits(1), 3, row(2, 1, 8, Some("ann")));
    let members: Vec<_> = changes.iter().map(|change| (change.kind, change.member.clone())).collect();
    assert_eq!(members, [(ChangeKind::Join, Entity::User("ann".into()))]);
}

#[test]
fn a_session_ends_when_its_idle_row_goes_and_no_page_of_it_lives() {
    let mut view = View::default();
    view.put_node(node(1), 1, NodeRow::default());
    let of = Expirable::Session(Key::from_bits(8));
    view.put_idle(1, idle(of, None, 50, false));
    assert_eq!(view.due(49).len() + view.due(50).len(), 1);
    view.put_page(Key::from_bits(1), 2, row(1, 1, 8, None));
    assert_eq!(view.delete_idle(of), [], "a page has joined");
    view.delete_page(Key::from_bits(1));
    view.put_idle(4, idle(of, None, 50, false));
    let ended = view.delete_idle(of);
    assert_eq!(
        (ended.len(), ended[0].kind, ended[0].member.clone()),
        (1, ChangeKind::End, Entity::Session(at(8)))
    );
}

const USERS: [Option<&str>; 3] = [None, Some("ann"), Some("*")];

#[derive(Debug, Clone)]
enum Step {
    Put { page: u128, node: u16, session: u128, user: usize },
    Delete { page: u128 },
    Up { node: u16, epoch: u64 },
    Down { node: u16 },
    Idle { of: Expirable, user: usize, ending: bool },
    Over { of: Expirable },
}

fn step() -> impl Strategy<Value = Step> {
    let of = (any::<bool>(), 0u128..5).prop_map(|(session, bits)| match session {
        true => Expirable::Session(Key::from_bits(bits)),
        false => Expirable::Connection(Key::from_bits(bits / 2)),
    });
    prop_oneof![
        8 => (0u128..8, 1u16..4, 0u128..5, 0usize..3)
            .prop_map(|(page, node, session, user)| Step::Put { page, node, session, user }),
        3 => (0u128..8).prop_map(|page| Step::Delete { page }),
        2 => (1u16..4, 1u64..3).prop_map(|(node, epoch)| Step::Up { node, epoch }),
        1 => (1u16..4).prop_map(|node| Step::Down { node }),
        2 => (of.clone(), 0usize..3, any::<bool>()).prop_map(|(of, user, ending)| Step::Idle { of, user, ending }),
        1 => of.prop_map(|of| Step::Over { of }),
    ]
}

/// Plain lists.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Key, PageRow>,
    idle: BTreeMap<Expirable, IdleRow>,
    nodes: BTreeMap<NodeNumber, u64>,
}

impl Model {
    fn living(&self) -> Vec<(&Key, &PageRow)> {
        self.rows.iter().filter(|(_, row)| self.nodes.get(&row.node) == Some(&row.epoch)).collect()
    }

    fn counts(&self, of: impl Fn(&PageRow) -> bool) -> Counts {
        let rows: Vec<_> = self.living().into_iter().filter(|(_, row)| of(row)).collect();
        let distinct = |name: &dyn Fn(&PageRow) -> Option<String>| {
            rows.iter().filter_map(|(_, row)| name(row)).collect::<BTreeSet<_>>().len()
        };
        Counts {
            users: distinct(&|row| row.user.clone()),
            connections: distinct(&|row| Some(row.connection.key.to_string())),
            sessions: distinct(&|row| Some(row.session.key.to_string())),
            pages: rows.len(),
        }
    }

    /// Returns all members that are present.
    fn members(&self) -> BTreeSet<String> {
        let name = |(key, row): (&Key, &PageRow)| {
            let user = row.user.as_ref().map(|user| format!("user {user}"));
            let (session, connection) = (row.session.key, row.connection.key);
            let others =
                [format!("page {key}"), format!("session {session}"), format!("connection {connection}")];
            user.into_iter().chain(others)
        };
        self.living().into_iter().flat_map(name).collect()
    }

    fn sessions_of(&self, user: &str) -> BTreeSet<Key> {
        let living = self.living().into_iter().filter(|(_, row)| row.user.as_deref() == Some(user));
        let idle = self.idle.values().filter(|row| row.user.as_deref() == Some(user) && !row.ending);
        living.map(|(_, row)| row.session.key).chain(idle.filter_map(|row| Some(row.session?.key))).collect()
    }
}

fn name(member: &Entity<Address>) -> String {
    match member {
        Entity::User(user) => format!("user {user}"),
        Entity::Connection(at) => format!("connection {}", at.key),
        Entity::Session(at) => format!("session {}", at.key),
        Entity::Page(at) => format!("page {}", at.key),
    }
}

/// Applies a step to both, and returns the changes that the view reports.
fn act(step: Step, rev: u64, view: &mut View, model: &mut Model) -> Vec<PresenceChange> {
    match step {
        Step::Put { page, node, session, user } => {
            let (key, row) = (Key::from_bits(page), row(node, 1, session, USERS[user]));
            model.rows.insert(key, row.clone());
            view.put_page(key, rev, row)
        }
        Step::Delete { page } => {
            model.rows.remove(&Key::from_bits(page));
            view.delete_page(Key::from_bits(page))
        }
        Step::Up { node: number, epoch } => {
            model.nodes.insert(node(number), epoch);
            view.put_node(node(number), epoch, lease(number))
        }
        Step::Down { node: number } => {
            model.nodes.remove(&node(number));
            view.delete_node(node(number))
        }
        Step::Idle { of, user, ending } => {
            let row = idle(of, USERS[user], 7, ending);
            model.idle.insert(of, row.clone());
            view.put_idle(rev, row);
            Vec::new()
        }
        Step::Over { of } => {
            model.idle.remove(&of);
            view.delete_idle(of)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_indexes_the_counts_and_the_changes_say_what_the_rows_say(steps in prop::collection::vec(step(), 0..60)) {
        let (mut view, mut model) = (View::default(), Model::default());
        let mut present = BTreeSet::new();
        for (rev, step) in steps.into_iter().enumerate() {
            for change in act(step, rev as u64 + 1, &mut view, &mut model) {
                match change.kind {
                    ChangeKind::Join => prop_assert!(present.insert(name(&change.member)), "{change:?}"),
                    ChangeKind::Leave => prop_assert!(present.remove(&name(&change.member)), "{change:?}"),
                    ChangeKind::End => prop_assert!(!present.contains(&name(&change.member)), "{change:?}"),
                }
            }
            prop_assert_eq!(&present, &model.members());
        }
        let stats = view.stats();
        prop_assert_eq!(stats.total, model.counts(|_| true));
        for node in &stats.nodes {
            prop_assert_eq!(node.counts, model.counts(|row| row.node == node.node));
        }
        for lane in &stats.lanes {
            prop_assert_eq!(lane.counts, model.counts(|row| lane_of(row.node) == lane.lane));
        }
        let lonely = |(of, row): &(&Expirable, &IdleRow)| !view.has_pages(**of) && !row.ending;
        prop_assert_eq!(stats.idle_sessions + stats.idle_connections, model.idle.iter().filter(lonely).count());
        for user in ["ann", "*"] {
            let rows: Vec<_> =
                model.living().into_iter().filter(|(_, row)| row.user.as_deref() == Some(user)).collect();
            let nodes: BTreeSet<_> = rows.iter().map(|(_, row)| row.node).collect();
            let holders = view.holders(&Scope::User(user.into()));
            prop_assert_eq!(holders.iter().map(|holder| holder.node).collect::<BTreeSet<_>>(), nodes);
            prop_assert_eq!(view.count_of_user(user), rows.len());
            let sessions = model.sessions_of(user);
            prop_assert_eq!(view.user(user).map_or(0, |seen| seen.sessions), sessions.len());
            let listed: Vec<Key> = view.sessions_of_user(user, None).map(|seen| seen.session.key).collect();
            prop_assert!(listed.is_sorted());
            let shown = |key: &Key| view.session(*key).is_some();
            prop_assert_eq!(listed, sessions.into_iter().filter(shown).collect::<Vec<_>>());
        }
        for session in (0..5).map(Key::from_bits) {
            let expected: Vec<Key> =
                model.living().into_iter().filter(|(_, row)| row.session.key == session).map(|(key, _)| *key).collect();
            prop_assert_eq!(view.pages_after(session, None).map(|(key, _)| key).collect::<Vec<_>>(), expected.clone());
            let behind: Vec<Key> = view.pages_after(session, expected.first().copied()).map(|(key, _)| key).collect();
            prop_assert_eq!(behind, expected.get(1..).unwrap_or_default());
        }
    }
}
