//! The corpus of HTTP/1 requests against a node, over TCP.

#[path = "../corpus/http1/reader.rs"]
pub(crate) mod corpus;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pagewire::edge::framing::{FramingError, RequestFollower};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::environment::{Node, SOON};

pub(crate) const SMUGGLED: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// The default of `limits.max_header_bytes`.
pub(crate) const MAX_HEAD: usize = 16_384;

/// Sends a stream and returns what the server sends until it closes the connection.
pub(crate) async fn exchange(address: SocketAddr, name: &str, stream: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    let (mut reading, mut writing) = connection.split();
    let mut received = Vec::new();
    let both = async {
        // the server may stop reading
        let (read, _) = tokio::join!(reading.read_to_end(&mut received), writing.write_all(stream));
        read.unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    tokio::time::timeout(SOON, both).await.unwrap_or_else(|_| panic!("{name}: the server does not close"));
    received
}

async fn text(node: &Node, name: &str, stream: &[u8]) -> String {
    String::from_utf8_lossy(&exchange(node.address(), name, stream).await).into_owned()
}

/// Returns the status of each final response, in their order.
fn statuses(received: &str) -> Vec<u16> {
    let responses = received.split("HTTP/1.").skip(1);
    responses.filter_map(|line| line.get(2..5)?.parse().ok()).filter(|status| *status != 100).collect()
}

async fn node() -> Node {
    // the cases call a handler without a user
    Node::setup().set("limits.anonymous_pages_per_ip_per_minute", 100_000).start().await
}

#[tokio::test]
async fn malformed_requests_are_refused_and_counted_and_nothing_behind_them_is_answered() {
    let node = node().await;
    let mut reasons = BTreeMap::<String, usize>::new();
    for case in corpus::refused() {
        let name = &case.name;
        let received = text(&node, name, &[&case.stream, SMUGGLED].concat()).await;
        let expected = FramingError::ALL.iter().find(|reason| reason.word() == case.expectation);
        let expected = expected.unwrap_or_else(|| panic!("{name}: {}", case.expectation));
        let is_named = received.contains(&format!("the request is refused, {}:", expected.word()));
        // a request with a malformed body is answered by its handler
        let status = if is_named { expected.status() } else { 400 };
        assert_eq!(statuses(&received), [status], "{name}: {received}");
        assert!(is_named || received.contains("the body did not arrive"), "{name}: {received}");
        *reasons.entry(case.expectation).or_default() += 1;
    }
    let (_, metrics) = node.api().get("/metrics").await;
    for (reason, count) in reasons {
        let line = format!("pagewire_http_refused_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn unusual_requests_are_answered_each_and_the_connection_goes_on() {
    let node = node().await;
    for case in corpus::accepted() {
        let mut follower = RequestFollower::new(MAX_HEAD);
        follower.follow(&case.stream);
        let is_last = follower.has_ended() || follower.is_released();
        let received = text(&node, &case.name, &[&case.stream, SMUGGLED].concat()).await;
        let expected = case.expectation.parse::<usize>().expect("a number") + usize::from(!is_last);
        let statuses = statuses(&received);
        assert_eq!(statuses.len(), expected, "{}: {received}", case.name);
        assert!(statuses.iter().all(|status| *status != 400 && *status < 500), "{}: {received}", case.name);
        assert!(is_last || statuses.last() == Some(&200), "{}: {received}", case.name);
    }
}

#[test]
fn every_reason_is_documented() {
    let document = include_str!("../../docs/operations.md");
    for reason in FramingError::ALL {
        let row = format!("| `{}` | {} | {} |", reason.word(), reason.status(), reason.meaning());
        assert!(document.lines().any(|line| line == row), "docs/operations.md lacks the row\n{row}");
    }
}
