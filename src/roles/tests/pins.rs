//! The lanes that pages keep, over nodes that leave and die.

use pagewire_cluster::rollout::{LaneSpec, RolloutUpdate, RoutingKey, Weight};
use pagewire_cluster::subject::node_key;

use super::*;

const POOL: &str = "default";

/// Two nodes; pins are written after `pin_write`, and the canary has all users.
async fn nodes(pin_write: Duration) -> (Memory, Node, Node) {
    let engine = Memory::new();
    let timing = Timing { pin_write, ..Timing::TEST };
    let start = || Node::start_on(Engine::Memory(engine.new_process_handle()), config(), timing);
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    tokio::join!(one.ready.wait(), two.ready.wait());
    set_canary(&[&one, &two], POOL, 100).await;
    (engine, one, two)
}

async fn set_canary(nodes: &[&Node], pool: &str, percent: u16) {
    let lane = LaneSpec::new("canary", Weight::of_percent(f64::from(percent)).unwrap());
    let wanted = RolloutUpdate { lanes: Some(vec![lane]), ..RolloutUpdate::default() };
    let document = nodes[0].context.rollouts.change(pool, None, wanted, "ann").await.unwrap().document;
    for node in nodes {
        assert_eq!(node.context.rollouts.state(pool, document.rev).await.revision, document.rev);
    }
}

/// Does what a call of the page does before it runs, and returns its lane.
fn call(node: &Node, opened: &Opened, pool: &str) -> String {
    let assigned = opened.page.pins.assign(&node.context.rollouts, pool, RoutingKey::User("ann"), |_| true);
    node.context.pages.store.store_pins(&opened.page);
    assigned.lane
}

/// Returns the lane of a pool in the row of a page, and the revision of the row.
async fn stored(node: &Node, page: Key, pool: &str) -> (Option<String>, u64) {
    let (row, rev) = node.registry.row(page).await.unwrap().unwrap();
    (row.pins.get(pool).cloned(), rev)
}

#[tokio::test]
async fn a_pin_that_is_not_written_yet_moves_with_its_page_and_is_lost_with_its_node() {
    let (engine, one, two) = nodes(Duration::from_secs(3600)).await;
    let open_at_one = async || {
        let opened = open(&one, Hello::default(), Some("ann")).await.unwrap();
        assert_eq!(call(&one, &opened, POOL), "canary");
        assert_eq!(stored(&one, opened.page.key(), POOL).await.0, None, "the call waits for no write");
        let registered = frames(&opened).remove(0);
        (opened, registered)
    };
    let ((_, moving), (_, left)) = (open_at_one().await, open_at_one().await);
    let moved = open(&two, resume(&moving, 0), Some("ann")).await.unwrap();
    set_canary(&[&one, &two], POOL, 1).await;
    assert_eq!(moved.recovered, ResumeOutcome::Recovered);
    assert_eq!(call(&two, &moved, POOL), "canary");
    assert_eq!(stored(&two, moved.page.key(), POOL).await.0.as_deref(), Some("canary"), "with the move");

    // the node is dead as far as others see
    let lease = node_key::lease(one.lease.holder().unwrap().node);
    let leases = Engine::Memory(engine.new_process_handle()).kv(Bucket::Nodes);
    leases.delete(&lease, Precondition::Any).await.unwrap();
    let gone = async {
        while two.registry.view().nodes().len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    let back = open(&two, resume(&left, 0), Some("ann")).await.unwrap();
    assert_eq!(back.recovered, ResumeOutcome::Reset);
    assert!(back.page.pins.lanes().is_empty());
    set_canary(&[&two], POOL, 0).await;
    assert_eq!(call(&two, &back, POOL), "stable", "pinned anew");
}

#[tokio::test]
async fn pins_cost_one_write_of_the_row_however_many_calls_a_page_makes() {
    let (_engine, one, two) = nodes(Duration::from_millis(10)).await;
    set_canary(&[&one, &two], "other", 100).await;
    let opened = open(&one, Hello::default(), Some("ann")).await.unwrap();
    let page = opened.page.key();
    let before = opened.page.pins.lanes().len();
    let mut writes = one.registry.row(page).await.unwrap().unwrap().1;
    assert_eq!(before, 0);
    for pool in [POOL, "other"] {
        for _ in 0..100 {
            assert_eq!(call(&one, &opened, pool), "canary");
        }
        let written = async {
            while stored(&one, page, pool).await.0.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), written).await.unwrap();
        let rev = stored(&one, page, pool).await.1;
        assert!(rev > writes);
        writes = rev;
        call(&one, &opened, pool);
        assert!(!opened.page.pins.begin_storing(), "nothing is left to write");
    }
    assert_eq!(stored(&two, page, POOL).await.0.as_deref(), Some("canary"));
}

#[tokio::test]
async fn another_write_of_the_row_stores_new_pins_as_well() {
    let (_engine, one, _two) = nodes(Duration::from_secs(3600)).await;
    let opened = open(&one, Hello::default(), Some("ann")).await.unwrap();
    assert_eq!(call(&one, &opened, POOL), "canary");
    one.context.pages.topics.subscribe(&opened.page, "news").await.unwrap();
    assert_eq!(stored(&one, opened.page.key(), POOL).await.0.as_deref(), Some("canary"));
    assert!(opened.page.pins.end_storing(false));
}
