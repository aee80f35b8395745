//! Pages that enter a connection while a user claims it, in every order of steps.

use proptest::prelude::*;

use super::super::{Lifetimes, PageRow, RegistryEvent, to_event};
use super::*;
use crate::engine::{Engine, Memory, Watch, WatchMode};
use crate::id::{Address, NodeNumber};

const CONNECTION: u128 = 100;
const KEPT: Duration = Duration::from_secs(60);
const LIFETIMES: Lifetimes = Lifetimes { session: KEPT, connection: KEPT, unregistered: KEPT };

/// The phase of a page that enters with a token from before the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Outside,
    /// Its row is written.
    Written,
    /// Its node counts the page as its own.
    Counted,
    /// Its socket is attached.
    Inside,
    Refused,
}

struct Page {
    key: Key,
    node: usize,
    phase: Phase,
    user: Option<String>,
}

struct Node {
    registry: Registry,
    rows: Watch,
}

#[derive(Debug, Clone)]
enum Step {
    /// A page takes its next step.
    Advance { page: usize },
    /// A node receives this number of rows.
    Receive { node: usize, events: usize },
    /// A page at that node logs in.
    LogIn { node: usize },
}

fn row(node: usize) -> PageRow {
    let number = NodeNumber::new(node as u16 + 1).unwrap();
    let at = |bits| Address { key: Key::from_bits(bits), node: number };
    PageRow {
        node: number,
        epoch: 1,
        generation: 1,
        prev: None,
        session: at(1),
        connection: at(CONNECTION),
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

async fn advance(nodes: &[Node], page: &mut Page) {
    let registry = &nodes[page.node].registry;
    page.phase = match page.phase {
        Phase::Outside => {
            registry.write(page.key, &row(page.node), Precondition::Absent).await.unwrap();
            Phase::Written
        }
        Phase::Written => Phase::Counted,
        Phase::Counted => match registry.owner(Key::from_bits(CONNECTION)).await.unwrap() {
            // it may have got the user since then
            Some(_) => Phase::Refused,
            None => Phase::Inside,
        },
        over => over,
    };
}

fn receive(nodes: &mut [Node], node: usize, events: usize, pages: &mut [Page]) {
    for _ in 0..events {
        let Some(event) = nodes[node].rows.try_next() else { return };
        let Some(RegistryEvent::Owned(connection, user)) = to_event(&event) else { continue };
        assert_eq!(connection, Key::from_bits(CONNECTION));
        let own = pages.iter_mut().filter(|page| page.node == node);
        for page in own.filter(|page| matches!(page.phase, Phase::Counted | Phase::Inside)) {
            page.user = Some(user.clone());
        }
    }
}

async fn play(steps: Vec<Step>) {
    let memory = Memory::new();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let registry = Registry::new(&Engine::Memory(memory.new_process_handle()), LIFETIMES);
        let rows = registry.rows.watch(page_key::ALL, WatchMode::Meta).await.unwrap();
        nodes.push(Node { registry, rows });
    }
    let page = |number: usize| Page {
        key: Key::from_bits(1000 + number as u128),
        node: number % 2,
        phase: Phase::Outside,
        user: None,
    };
    let mut pages: Vec<Page> = (0..4).map(page).collect();
    let mut owners = Vec::new();
    for step in steps {
        match step {
            Step::Advance { page } => advance(&nodes, &mut pages[page]).await,
            Step::Receive { node, events } => receive(&mut nodes, node, events, &mut pages),
            Step::LogIn { node } => {
                let (registry, user) = (&nodes[node].registry, format!("user {node}"));
                let owned = registry.claim_connection(Key::from_bits(CONNECTION), &user, KEPT).await.unwrap();
                owners.push(owned.owner);
            }
        }
    }
    for page in &mut pages {
        while !matches!(page.phase, Phase::Inside | Phase::Refused) {
            advance(&nodes, page).await;
        }
    }
    for node in 0..nodes.len() {
        receive(&mut nodes, node, usize::MAX, &mut pages);
    }
    assert!(owners.windows(2).all(|two| two[0] == two[1]), "one owner: {owners:?}");
    for page in pages.iter().filter(|page| page.phase == Phase::Inside) {
        assert_eq!(page.user, owners.first().cloned(), "no page is anonymous among those of a user");
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..4).prop_map(|page| Step::Advance { page }),
        3 => (0usize..2, 1usize..4).prop_map(|(node, events)| Step::Receive { node, events }),
        1 => (0usize..2).prop_map(|node| Step::LogIn { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_page_that_enters_during_a_login_becomes_the_users_or_finds_the_owner(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

#[tokio::test]
async fn the_first_user_of_a_connection_stays_its_owner() {
    let memory = Memory::new();
    let registry = Registry::new(&Engine::Memory(memory.new_process_handle()), LIFETIMES);
    let connection = Key::from_bits(CONNECTION);
    assert_eq!(registry.owner(connection).await.unwrap(), None);
    let first = registry.claim_connection(connection, "ann", KEPT).await.unwrap();
    assert_eq!(registry.claim_connection(connection, "ann", KEPT).await.unwrap(), first);
    assert_eq!(registry.claim_connection(connection, "*", KEPT).await.unwrap().owner, "ann");
    assert_eq!(registry.owner(connection).await.unwrap().as_deref(), Some("ann"));
}
