//! Mounts whose requests stay at one process, on one node and on two.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{SinkExt, StreamExt};
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderName, SET_COOKIE};
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::environment::{Nats, Node, Page, SOON, Setup, Token, eventually};
use crate::mount_processes::{APPS, SITES, mount, setup};

/// Units of a test: so many that each of four processes has some.
const UNITS: usize = 32;

/// Configures a node with two processes of an application, which shows which of them answers.
fn sticky(application: &str, directory: &str, by: &str) -> Setup {
    let mount = mount("/", application, directory, &format!("sticky = {}", json!(by)));
    setup(&mount).users().set("auth.cookie", "token")
}

fn by_cookie() -> Setup {
    sticky("wsgi = \"site_wsgi\"", APPS, "cookie:sid")
}

/// Starts two nodes of one cluster.
async fn two_nodes(nats: &Nats, setup: Setup) -> [Node; 2] {
    let setup = setup.nats(nats).set("node.internal", "127.0.0.1:0");
    let other = setup.clone().on_another_port();
    let (one, two) = tokio::join!(setup.start(), other.start());
    [one, two]
}

/// Returns the answer to a request with one header.
async fn answer(node: &Node, header: (HeaderName, &str)) -> (StatusCode, Value) {
    let request = node.api().request(Method::GET, "/environ").header(header.0, header.1);
    let response = request.send().await.expect("an answer");
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
}

/// Returns the process that serves a unit; `None` while none does.
async fn process(node: &Node, unit: usize) -> Option<u64> {
    answer(node, (COOKIE, &format!("sid=u{unit}"))).await.1["pid"].as_u64()
}

/// Returns the process of each unit, as one node sees them; `None` while one is not served.
async fn spread(node: &Node) -> Option<BTreeMap<usize, u64>> {
    let mut processes = BTreeMap::new();
    for unit in 0..UNITS {
        processes.insert(unit, process(node, unit).await?);
    }
    Some(processes)
}

fn distinct(processes: &BTreeMap<usize, u64>) -> BTreeSet<u64> {
    processes.values().copied().collect()
}

/// Waits until all nodes send each unit to the same one of `count` processes.
async fn agreed(nodes: &[&Node], count: usize) -> BTreeMap<usize, u64> {
    eventually(&format!("units are served by {count} processes"), SOON * 3, async || {
        let first = spread(nodes[0]).await.filter(|processes| distinct(processes).len() == count)?;
        for node in &nodes[1..] {
            if spread(node).await? != first {
                return None;
            }
        }
        Some(first)
    })
    .await
}

/// Returns the processes of a node.
async fn pids(node: &Node) -> BTreeSet<u64> {
    let pools = node.api().get_json("/api/v1/executors").await;
    let children = pools["pools"][0]["children"].as_array().expect("children").iter();
    children.filter_map(|child| child["pid"].as_u64()).collect()
}

/// Waits for both processes of a node: one that starts later would take its share of the units from the other ones.
async fn has_both_processes(node: &Node) {
    eventually("both processes are ready", SOON * 2, async || (pids(node).await.len() == 2).then_some(()))
        .await;
}

fn kill(process: u64) {
    let pid = Pid::from_raw(i32::try_from(process).expect("a process id")).expect("a process id");
    kill_process(pid, Signal::KILL).expect("a process of this test");
}

/// Asserts that only the units of lost processes have moved.
fn only_moved(before: &BTreeMap<usize, u64>, after: &BTreeMap<usize, u64>, lost: &BTreeSet<u64>) {
    for (unit, process) in before {
        assert_eq!(lost.contains(process), after[unit] != *process, "unit {unit}: {before:?} {after:?}");
    }
}

#[tokio::test]
async fn a_unit_has_one_process_of_two_nodes_and_a_lost_process_moves_only_its_own_units() {
    let nats = Nats::start().await;
    let nodes = two_nodes(&nats, by_cookie()).await;
    let before = agreed(&[&nodes[0], &nodes[1]], 4).await;
    assert!(nodes[0].api().metric("pagewire_mount_hops_total{mount=\"/\"}").await > 0.0);
    let lost = before[&0];
    kill(lost);
    let after = agreed(&[&nodes[0], &nodes[1]], 4).await;
    only_moved(&before, &after, &BTreeSet::from([lost]));
    let next: BTreeSet<u64> =
        before.iter().filter(|(_, pid)| **pid == lost).map(|(unit, _)| after[unit]).collect();
    assert_eq!(next.len(), 1, "the next process has the place and all units of the one before it");
    let mut counted = 0.0;
    for node in &nodes {
        let lost = "pagewire_mount_lost_total{mount=\"/\",with=\"process\"}";
        counted += node.api().metric(lost).await;
    }
    assert_eq!(counted, 1.0);
    let logs = nodes.iter().map(Node::log).collect::<String>();
    assert!(logs.contains("a process is lost") && logs.contains("killed by signal 9"), "{logs}");
}

#[tokio::test]
async fn when_a_node_is_killed_its_units_move_to_the_other_one_and_no_other_unit_does() {
    let nats = Nats::start().await;
    let [mut one, two] = two_nodes(&nats, by_cookie()).await;
    let before = agreed(&[&one, &two], 4).await;
    let own = pids(&two).await;
    one.kill();
    // a request whose node does not answer goes to another process, also before the lease of that node is over
    let at_once = spread(&two).await.expect("every unit is served");
    assert_eq!(distinct(&at_once), own);
    only_moved(&before, &at_once, &distinct(&before).difference(&own).copied().collect());
    eventually("the loss is counted", SOON * 2, async || {
        let lost = two.api().metric("pagewire_mount_lost_total{mount=\"/\",with=\"node\"}").await;
        (lost == 2.0).then_some(())
    })
    .await;
    assert_eq!(spread(&two).await.expect("every unit is served"), at_once);
}

#[tokio::test]
async fn a_node_that_starts_again_at_once_is_no_other_node_to_requests_of_its_units() {
    let nats = Nats::start().await;
    let [one, mut two] = two_nodes(&nats, by_cookie()).await;
    agreed(&[&one, &two], 4).await;
    two.kill();
    let statuses = async {
        let mut statuses = BTreeSet::new();
        for _ in 0..20 {
            for unit in 0..UNITS {
                statuses.insert(answer(&one, (COOKIE, &format!("sid=u{unit}"))).await.0.as_u16());
            }
        }
        statuses
    };
    let (statuses, ()) = tokio::join!(statuses, two.restart());
    assert!(!statuses.contains(&403), "{statuses:?}");
    agreed(&[&one, &two], 4).await;
}

#[tokio::test]
async fn a_request_at_a_node_that_hangs_ends_when_that_node_has_lost_its_lease() {
    let nats = Nats::start().await;
    let [one, two] = two_nodes(&nats, by_cookie()).await;
    let before = agreed(&[&one, &two], 4).await;
    let own = pids(&two).await;
    let unit = before
        .iter()
        .find_map(|(unit, pid)| (!own.contains(pid)).then_some(*unit))
        .expect("a unit of the other");
    one.pause();
    let (status, _) = answer(&two, (COOKIE, &format!("sid=u{unit}"))).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(own.contains(&process(&two, unit).await.expect("a process")), "its unit is served here now");
    one.wake();
}

#[tokio::test]
async fn a_node_that_drains_under_load_loses_no_request_of_its_units() {
    let nats = Nats::start().await;
    let [mut one, two] = two_nodes(&nats, by_cookie()).await;
    let before = agreed(&[&one, &two], 4).await;
    let (done, ended) = tokio::sync::watch::channel(false);
    let (count, mut counted) = tokio::sync::watch::channel(0);
    let load = async {
        while !*ended.borrow() {
            let requests = *count.borrow();
            let unit = requests % UNITS;
            let request = two.api().request(Method::POST, "/upload").header(COOKIE, format!("sid=u{unit}"));
            let response = request.body("x".repeat(20_000)).send().await.expect("an answer");
            let (status, body) = (response.status(), response.text().await.expect("a body"));
            assert_eq!((status, body.as_str()), (StatusCode::OK, "20000"), "unit {unit}");
            count.send_replace(requests + 1);
        }
    };
    let drain = async {
        counted.wait_for(|requests| *requests > UNITS).await.expect("requests");
        one.terminate();
        assert!(one.exit(SOON * 2).await.success());
        done.send_replace(true);
    };
    tokio::join!(load, drain);
    let after = agreed(&[&two], 2).await;
    only_moved(&before, &after, &distinct(&before).difference(&distinct(&after)).copied().collect());
}

#[tokio::test]
async fn each_kind_of_unit_keeps_its_requests_together() {
    let nats = Nats::start().await;
    let all = ["user", "connection", "page"].map(|by| sticky("wsgi = \"site_wsgi\"", APPS, by));
    let [user, connection, page] = all;
    let nodes = two_nodes(&nats, user).await;
    tokio::join!(has_both_processes(&nodes[0]), has_both_processes(&nodes[1]));
    let (ann, header) = (Token::of("ann").sign(), HeaderName::from_static("authorization"));
    let bearer = format!("Bearer {ann}");
    let first = eventually("the user is served", SOON * 3, async || {
        let first = answer(&nodes[0], (header.clone(), &bearer)).await.1["pid"].as_u64()?;
        (answer(&nodes[1], (AUTHORIZATION, &bearer)).await.1["pid"] == first).then_some(first)
    })
    .await;
    let by_cookie = answer(&nodes[1], (COOKIE, &format!("token={ann}"))).await.1;
    assert_eq!(by_cookie["pid"], first, "a browser sends its token as a cookie");
    assert!(answer(&nodes[0], (AUTHORIZATION, "Bearer forged")).await.0.is_success(), "it goes anywhere");
    drop(nodes);

    let node = connection.start().await;
    has_both_processes(&node).await;
    let browser = reqwest::Client::new();
    let get = async |cookie: Option<&str>| {
        let request = browser.get(format!("{}/environ", node.url()));
        let response = cookie.into_iter().fold(request, |request, cookie| request.header(COOKIE, cookie));
        let response = response.send().await.expect("an answer");
        let set = response.headers().get(SET_COOKIE).map(|value| value.to_str().expect("text").to_owned());
        let shown: Value = response.json().await.expect("JSON");
        (set, shown["pid"].clone())
    };
    for _ in 0..6 {
        let (set, first) = get(None).await;
        let set = set.expect("a cookie");
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
        let cookie = set.split(';').next().expect("a cookie");
        assert_eq!(get(Some(cookie)).await, (None, first));
    }
    drop(node);

    let nodes = two_nodes(&nats, page).await;
    for node in [&nodes[0], &nodes[1]] {
        let page = Page::open(node).await;
        let own = eventually("the processes are ready", SOON * 2, async || {
            let pools = node.api().get_json("/api/v1/executors").await;
            let children = pools["pools"][0]["children"].as_array()?.clone();
            (children.len() == 2).then_some(children)
        })
        .await;
        eventually("a page is served at its node", SOON, async || {
            let name = HeaderName::from_static("x-pagewire-page");
            let [one, two] = [&nodes[0], &nodes[1]].map(|node| answer(node, (name.clone(), page.id())));
            let ((_, one), (_, two)) = tokio::join!(one, two);
            let is_own = own.iter().any(|child| child["pid"] == one["pid"]);
            (is_own && one["pid"] == two["pid"]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_websocket_of_a_unit_passes_to_the_node_of_its_process() {
    let nats = Nats::start().await;
    let setup = sticky("asgi = \"api:app\"", SITES, "cookie:sid");
    let nodes = two_nodes(&nats, setup).await;
    eventually("a WebSocket is opened at another node", SOON * 3, async || {
        for unit in 0..UNITS {
            let mut request =
                format!("ws://{}/live", nodes[0].address()).into_client_request().expect("a request");
            request.headers_mut().insert(COOKIE, format!("sid=u{unit}").parse().expect("a cookie"));
            let (mut socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
            socket.send(Message::text("hello")).await.expect("a frame");
            let echoed = socket.next().await?.expect("a frame");
            assert!(echoed.into_text().expect("text").contains("echo hello"));
        }
        (nodes[0].api().metric("pagewire_mount_hops_total{mount=\"/\"}").await > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_address_for_other_nodes_refuses_every_request_without_a_ticket_of_the_cluster() {
    let nats = Nats::start().await;
    let port = crate::environment::free_port();
    let node = by_cookie().nats(&nats).set("node.internal", format!("127.0.0.1:{port}")).start().await;
    agreed(&[&node], 2).await;
    let internal = format!("http://127.0.0.1:{port}/environ");
    for ticket in [None, Some(""), Some("a"), Some("e30.k1.AAAA")] {
        let request = reqwest::Client::new().get(&internal);
        let request =
            ticket.into_iter().fold(request, |request, ticket| request.header("X-Pagewire-Hop", ticket));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{ticket:?}");
        assert!(!response.text().await.expect("a body").contains("pid"));
    }
    let through = node.api().request(Method::GET, "/environ").header("X-Pagewire-Hop", "e30.k1.AAAA");
    let seen: Value = through.send().await.expect("an answer").json().await.expect("JSON");
    assert!(seen.get("HTTP_X_PAGEWIRE_HOP").is_none(), "a client cannot send one through a node");
}
