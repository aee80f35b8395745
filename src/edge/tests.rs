//! Tests of the edge of a whole node, over real sockets.

mod framing;
mod http;
mod socket;
mod start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::timing::Timing;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Edge, StartupServer};
use crate::config::{self, Config, Sources};
use crate::roles::Node;

/// Longer than any step takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    node: Node,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn start(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config::load(&Sources::default()).unwrap();
    change(&mut config);
    let node = Node::start(config, Timing::TEST).await.unwrap();
    let edge = Edge::new(&node.config, node.timing, node.context.clone(), node.metrics.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served_config = node.config.clone();
    let served = tokio::spawn(async move {
        let echo = axum::routing::post(http::echo);
        let deaf = axum::routing::post(http::deaf);
        let first = axum::routing::post(http::first);
        let plain = axum::routing::get(async || "plain");
        let (slow, large) = (axum::routing::get(framing::slow), axum::routing::get(framing::large));
        let router = edge.routes().route("/echo", echo).route("/deaf", deaf);
        let router =
            router.route("/first", first).route("/plain", plain).route("/slow", slow).route("/large", large);
        let startup = StartupServer::new(listener, &served_config, Timing::TEST, axum::Router::new());
        edge.serve(startup, router, async { drop(stopped.await) }).await;
    });
    Running { node, address, stop, served }
}

/// Waits until the condition holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

fn size_of_future<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn the_task_of_a_page_is_small() {
    let size = size_of_future(super::connection::serve);
    println!("the future of a socket: {size} bytes");
    assert!(size < 600, "{size} bytes");
}

#[tokio::test]
async fn a_drain_tells_every_socket_when_to_come_back_and_then_ends() {
    let running = start(|_| ()).await;
    let mut pages = Vec::new();
    for _ in 0..5 {
        pages.push(socket::Client::open(&running, "{}").await);
    }
    let mut silent = socket::Client::connect(&running, "").await.unwrap();
    running.stop.send(()).unwrap();
    let mut delays = Vec::new();
    for page in &mut pages {
        let (code, reason) = page.closed().await;
        assert_eq!(code, 4500);
        let reason: serde_json::Value = serde_json::from_str(&reason).unwrap();
        delays.push(reason["retry_after_ms"].as_u64().unwrap());
    }
    assert!(delays.iter().all(|delay| *delay <= 300) && delays.iter().any(|delay| *delay != delays[0]));
    assert_eq!(silent.closed().await.0, 4500, "a socket without a hello gets the close too");
    drop((pages, silent));
    tokio::time::timeout(PATIENCE, running.served).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn what_is_counted_can_be_read() {
    let running = start(|_| ()).await;
    let page = socket::Client::open(&running, "{}").await;
    let metrics: Arc<_> = running.node.metrics.clone();
    assert_eq!((metrics.pages.get(), metrics.connections_opened.get()), (1, 1));
    drop(page);
    eventually("the page is not counted any more", || metrics.pages.get() == 0).await;
    assert!(metrics.encode().unwrap().contains(r#"ws_closed_total{code="1006"} 1"#));
}
