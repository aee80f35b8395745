//! Malformed and ambiguous answers of an upstream.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::sample::select;
use reqwest::Method;
use tokio::sync::Notify;

use crate::environment::{Node, SOON, Upstream};

/// Lines of a head, each of which two clients could understand in two ways, or one that repairs it and one that does not.
const FAULTS: [&str; 25] = [
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\ncontent-length: 0",
    "Content-Length: 5, 5",
    "Content-Length: 5, 6",
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: 0x5",
    "Content-Length: 5 5",
    "Content-Length: ",
    "Content-Length: 99999999999999999999",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Transfer-Encoding: chunked\r\nContent-Length: 0",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: xchunked",
    "X-A: a\r\n b",
    "Content-Length:\r\n 5",
    "X-A: a\0b",
    "X-A: a\rb",
    "X-A : a",
];
const GOOD: &str = "Transfer-Encoding: chunked";
/// A chunk, and an answer behind it that no request has asked for.
const REST: &str = "5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";

/// An upstream that sends the same bytes on each connection, and a node before it.
struct Answering {
    node: Node,
    _upstream: Upstream,
    bytes: Arc<Mutex<String>>,
    /// A connection of the upstream has ended.
    left: Arc<Notify>,
}

impl Answering {
    async fn start() -> Self {
        let (bytes, left) = (Arc::<Mutex<String>>::default(), Arc::new(Notify::new()));
        let (sent, leaves) = (bytes.clone(), left.clone());
        let upstream = Upstream::start(move |_, mut connection| {
            let (sent, leaves) = (sent.lock().expect("no panic with the lock").clone(), leaves.clone());
            async move {
                connection.send(sent).await;
                connection.closed().await;
                leaves.notify_one();
                None
            }
        })
        .await;
        let node = Node::setup().file(&format!("[[mount]]\nhttp = \"{}\"\n", upstream.url())).start().await;
        Self { node, _upstream: upstream, bytes, left }
    }

    /// Returns the status and body for a client when the upstream sends a head with these lines, and waits until the
    /// connection to the upstream has ended.
    async fn ask(&self, version: &str, lines: &[&str]) -> (u16, String) {
        let head = format!("HTTP/{version} 200 OK\r\n{}\r\n\r\n", lines.join("\r\n"));
        *self.bytes.lock().expect("no panic with the lock") = head + REST;
        let response = self.node.api().request(Method::GET, "/").send().await.expect("an answer");
        let seen = (response.status().as_u16(), response.text().await.expect("a whole body"));
        tokio::time::timeout(SOON, self.left.notified()).await.expect("the connection is ended");
        seen
    }
}

#[test]
fn an_answer_that_two_clients_could_understand_differently_is_502_and_its_connection_is_destroyed() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answering = runtime.block_on(Answering::start());
    let good = runtime.block_on(answering.ask("1.1", &["Server: x", GOOD]));
    assert_eq!(good, (200, "hello".to_owned()));
    assert_eq!(runtime.block_on(answering.ask("1.0", &[GOOD])).0, 502);
    for fault in FAULTS {
        assert_eq!(runtime.block_on(answering.ask("1.1", &[fault])).0, 502, "{fault:?}");
    }
    let ordinary =
        || prop::collection::vec(select(vec!["Server: x", "Set-Cookie: a=b", "Date: now", "X-A:"]), 0..4);
    proptest!(ProptestConfig::with_cases(50), |(before in ordinary(), fault in select(FAULTS.to_vec()), after in ordinary())| {
        let lines = [before, vec![fault], after].concat();
        let (status, body) = runtime.block_on(answering.ask("1.1", &lines));
        prop_assert!(status == 502 && !body.contains("smuggled"), "{lines:?}: {status} {body}");
    });
}
