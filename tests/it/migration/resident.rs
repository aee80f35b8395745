//! Phase 5: pages stay in memory, where requests and sockets meet them.

use crate::environment::store::{StoreRoom, opened};
use crate::environment::{SOON, eventually};

/// How many objects there are.
const OBJECTS: &str = "pagewire_resident_pages{class=\"StoreTab\"}";

/// A tab that is open with its socket, and moves a piece.
const OPENED: &str = r#"
import json, os, signal, sys, urllib.request
from client import Browser, Refused
url = sys.argv[1]
bob = Browser(url, "bob")
bob.login()
tab = bob.open()
socket = tab.socket()
assert tab.act("move", item=tab.row("Lamp")["item"], by=-1)["undo"] == 1
"#;

/// The end of the tab without a word, after which the register has no such page.
const GONE: &str = r#"
socket.close()
while True:
    try:
        tab.poll()
    except Refused as answer:
        assert answer.status == 410, answer
        break
"#;

/// The end of the process, in two ways, after which the page still knows its move.
const REPLACED: &str = r#"
def process():
    with urllib.request.urlopen(url + "/api/v1/executors") as answer:
        children = json.load(answer)["pools"][0]["children"]
    return next(child["pid"] for child in children if child["state"] == "ready")

def told():
    while True:
        frame = socket.next()
        if frame["type"] == "resident":
            return frame["state"], frame.get("why")

assert told() == ("open", None)
os.kill(process(), signal.SIGKILL)
assert told() == ("rebuilt", "lost")
assert socket.call("act", {"method": "filter", "params": {"text": ""}})["undo"] == 1
os.kill(int(sys.argv[2]), signal.SIGHUP)
assert told()[0] == "rebuilt"
assert socket.call("act", {"method": "undo", "params": {}})["undo"] == 0
"#;

/// Runs a program with the client of the example.
async fn program(room: &StoreRoom, parts: &[&str], arguments: &[&str]) {
    room.run(&[&["-c", &parts.concat()], arguments].concat(), &[]).await;
}

#[tokio::test]
async fn phase_5_requests_and_the_socket_meet_one_object_that_is_not_built_again() {
    let mut room = StoreRoom::open().await;
    room.stop_daemon();
    let node = room.serve("5").await;
    let steps = room.visited(&node.url()).await;
    assert!(steps.contains("a request and the socket of its page meet one object"), "{steps}");
}

#[tokio::test]
async fn phase_5_a_page_is_cleaned_up_when_its_tab_is_gone() {
    let mut room = StoreRoom::open().await;
    room.stop_daemon();
    let node = room.phase("5").set("lifetime.resume_ms", 1000).launch();
    opened(&node).await;
    program(&room, &[OPENED, GONE], &[&node.url()]).await;
    eventually("the object has ended", SOON, async || {
        (node.api().metric(OBJECTS).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn phase_5_a_page_goes_on_when_its_process_is_replaced_or_killed() {
    let mut room = StoreRoom::open().await;
    room.stop_daemon();
    let node = room.serve("5").await;
    program(&room, &[OPENED, REPLACED], &[&node.url(), &node.pid().to_string()]).await;
}

#[tokio::test]
async fn phase_5_the_application_works_with_resident_pages_and_back_again() {
    let mut room = StoreRoom::open().await;
    room.stop_daemon();
    let before = room.serve("4").await;
    room.visited(&before.url()).await;
    drop(before);
    let node = room.serve("5").await;
    room.visited_again(&node.url()).await;
    room.tested(&node.url()).await;
    drop(node);
    let back = room.serve("4").await;
    room.visited_again(&back.url()).await;
}
