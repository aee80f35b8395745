//! Phase 7: several processes on two nodes.

use rustix::process::Signal;
use serde_json::Value;

use crate::environment::children::send;
use crate::environment::mounts::processes;
use crate::environment::store::{StoreRoom, opened};
use crate::environment::{Nats, Node, Postgres};

/// Starts the two nodes of phase 7.
pub(super) async fn nodes(room: &StoreRoom, nats: &Nats) -> [Node; 2] {
    let setup = room.phase("7").nats(nats);
    let other = setup.clone().on_another_port();
    let (one, two) = (setup.launch(), other.launch());
    for node in [&one, &two] {
        opened(node).await;
        processes(node, 2).await;
    }
    [one, two]
}

/// The process that serves each user, and the node in the id of the page, at both nodes.
const SERVED: &str = r#"
import json, sys
from client import Browser
jar = json.load(open(sys.argv[1]))
for user in ("ann", "bob"):
    processes, nodes = set(), []
    for url in sys.argv[2:]:
        tab = Browser(url, user, jar[user]).open()
        socket = tab.socket()
        nodes.append(socket.registered["page_id"].partition("|")[2])
        assert nodes[-1] == socket.registered["node"]
        for _ in range(3):
            tab.act("filter", text="")
            processes.add(tab.timing()[2])
        socket.close()
        tab.close()
    assert len(processes) == 1 and len(set(nodes)) == 2, (user, processes, nodes)
"#;

#[tokio::test]
async fn phase_7_a_user_has_one_process_of_two_nodes_and_the_id_of_a_page_names_its_node() {
    let (mut room, nats) = (StoreRoom::open().await, Nats::start().await);
    room.stop_daemon();
    let [one, two] = nodes(&room, &nats).await;
    room.visited(&one.url()).await;
    room.run(&["-c", SERVED, &room.jar(), &one.url(), &two.url()], &[]).await;
}

#[tokio::test]
async fn phase_7_a_killed_process_and_a_killed_node_lose_no_login_and_no_page() {
    let (mut room, nats) = (StoreRoom::open().await, Nats::start().await);
    room.stop_daemon();
    let [mut one, two] = nodes(&room, &nats).await;
    room.visited_at([&one.url(), &two.url()]).await;
    let before = processes(&two, 2).await;
    send(&before[0]["pid"], Signal::KILL);
    room.visited_again(&two.url()).await;
    one.kill();
    room.visited_again(&two.url()).await;
}

#[tokio::test]
async fn phase_7_users_at_two_nodes_share_the_register_and_pushes_cross_between_processes() {
    let (mut room, nats) = (StoreRoom::open().await, Nats::start().await);
    room.stop_daemon();
    let [one, two] = nodes(&room, &nats).await;
    let steps = room.visited_at([&one.url(), &two.url()]).await;
    assert!(steps.contains("a change is pushed"), "{steps}");
}

#[tokio::test]
async fn phase_7_two_processes_write_the_same_items_on_postgresql_and_each_page_hears_of_each_change_once() {
    let (postgres, nats) = (Postgres::start().await, Nats::start().await);
    let room = StoreRoom::open_on(&postgres).await;
    // so that requests of each user go to both processes
    let node = room.phase_without("7", "sticky").nats(&nats).launch();
    opened(&node).await;
    processes(&node, 2).await;
    let printed = room.run(&["together.py", &node.url(), "--rounds", "6"], &[]).await;
    let done: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&done["changes"], &done["processes"]), (&Value::from(48), &Value::from(2)), "{printed}");
}
