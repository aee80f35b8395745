//! Start and exit: drain, rejected starts, and the output of the command line.

use std::time::Duration;

use serde_json::json;

use pagewire_cluster::engine::{self, Bucket, Engine, NatsOptions, Precondition, Put};
use pagewire_cluster::lease::{NodeRow, Proto};
use pagewire_cluster::timing::Timing;

use crate::environment::{Nats, Node, Page, SOON, WorkerProcess, eventually, pagewire};

#[tokio::test]
async fn sigterm_sends_every_page_away_with_an_advised_delay_and_exits_cleanly() {
    let mut node = Node::start().await;
    let mut pages = Vec::new();
    for _ in 0..20 {
        pages.push(Page::open(&node).await);
    }
    node.terminate();
    for mut page in pages {
        let closed = page.closed().await;
        assert_eq!(closed.code, 4500, "{closed:?}");
        assert!(closed.reason["retry_after_ms"].is_u64(), "{closed:?}");
    }
    let status = node.exit(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn a_service_goes_on_after_sighup_and_says_so() {
    let mut node = Node::start().await;
    let mut page = Page::open(&node).await;
    node.hang_up();
    eventually("the log has it", SOON, async || {
        node.log().contains("the configuration is not read again").then_some(())
    })
    .await;
    assert_eq!(page.result(json!({"type": "call", "method": "echo", "params": 1})).await, 1);
    node.terminate();
    assert_eq!(page.closed().await.code, 4500, "one signal drains, not the second one");
    assert_eq!(node.exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_node_whose_terminal_has_gone_drains() {
    let mut node = Node::setup().at_a_terminal().start().await;
    let mut page = Page::open(&node).await;
    node.hang_up();
    assert_eq!(page.closed().await.code, 4500);
    assert_eq!(node.exit(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_name_is_an_address_to_listen_on() {
    let mut node = Node::setup().named("localhost").start().await;
    Page::open(&node).await;
    node.terminate();
    assert_eq!(node.exit(SOON).await.code(), Some(0));
    let output = pagewire(&node, &["serve", "--listen", "8081"]).await;
    assert!(output.code == 2 && output.err.contains("write 127.0.0.1:8080 or localhost:8080"), "{output:?}");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_client_that_has_hung() {
    let mut node = Node::start().await;
    let _hung = Page::opening(&node).narrow().open().await.fall_silent();
    node.terminate();
    assert_eq!(node.exit(Duration::from_secs(10)).await.code(), Some(0));
}

#[tokio::test]
async fn an_unknown_key_stops_the_start_and_names_its_nearest_neighbour() {
    let mut node = Node::setup().set("websocket.ping_msec", 5).launch();
    let status = node.exit(SOON).await;
    assert_ne!(status.code(), Some(0));
    let log = node.log();
    assert!(log.contains("PAGEWIRE_WEBSOCKET__PING_MS"), "{log}");
}

#[tokio::test]
async fn a_taken_address_is_said_so() {
    let node = Node::start().await;
    let port = node.address().port().to_string();
    let output = pagewire(&node, &["serve", "--listen", &format!("127.0.0.1:{port}")]).await;
    assert_ne!(output.code, 0);
    assert!(format!("{}{}", output.out, output.err).contains(&port), "{output:?}");
}

#[tokio::test]
async fn the_status_and_healthcheck_of_a_node_are_one_command_each() {
    let node = Node::start().await;
    let _page = Page::open(&node).await;
    assert_eq!(pagewire(&node, &["healthcheck"]).await.code, 0);
    let status = pagewire(&node, &["status", "--json"]).await.json();
    assert!(status.to_string().contains("\"p01\""), "{status}");
    let human = pagewire(&node, &["status"]).await;
    assert!(human.out.contains("p01"), "{human:?}");
}

#[tokio::test]
async fn a_command_without_a_server_fails_with_a_clear_line() {
    let mut node = Node::start().await;
    node.kill();
    for command in [&["healthcheck"][..], &["status"], &["push", "--all", "1"]] {
        let output = pagewire(&node, command).await;
        assert_ne!(output.code, 0, "{output:?}");
        assert!(!output.err.trim().is_empty(), "{output:?}");
        assert!(!output.err.contains("panicked"), "{output:?}");
    }
}

#[tokio::test]
async fn after_a_restart_of_the_embedded_engine_pages_open_anew() {
    let mut node = Node::start().await;
    let away = Page::open(&node).await.memory();
    node.terminate();
    node.exit(SOON).await;
    node.restart().await;
    // the embedded engine ended with the process, and with it the keys of all tokens
    let refused = away.resuming(&node).close_code().await;
    assert_eq!(refused, 4003);
    let mut fresh = Page::open(&node).await;
    assert_eq!(fresh.result(json!({"type": "call", "method": "echo", "params": 1})).await, 1);
}

/// Adds the lease of a node of a later release to the cluster.
async fn add_later_release(nats: &Nats, proto: Proto) {
    let options = NatsOptions {
        urls: vec![nats.url()],
        replicas: 1,
        cluster: "main".to_owned(),
        client_name: "a later release".to_owned(),
        timing: Timing::TEST,
    };
    let engine = Engine::Nats(engine::Nats::connect(options).await.expect("a connection"));
    let meta = NodeRow { proto, ..NodeRow::default() }.encode();
    let put = Put { meta, ..Put::new("lease.p09", "", Precondition::Absent) };
    engine.kv(Bucket::Nodes).put(put).await.expect("a row");
}

#[tokio::test]
async fn a_process_that_cannot_talk_with_the_cluster_exits_and_names_both_protocols() {
    let nats = Nats::start().await;
    add_later_release(&nats, Proto { min: 7, max: 9 }).await;
    let mut node = Node::setup().nats(&nats).launch();
    let node = (node.exit(SOON).await, node.log());
    let worker = WorkerProcess::refused(WorkerProcess::setup(&nats, "stable")).await;
    for (status, log) in [node, worker] {
        assert_eq!(status.code(), Some(4), "{log}");
        let error = log.lines().find(|line| line.starts_with("error: incompatible: "));
        assert!(error.is_some_and(|error| error.contains("1 to 1") && error.contains("7 to 9")), "{log}");
    }
}
