//! A connection whose framing is refused: what was answered before, what is answered then, and its end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, Running, start};

const LARGE: usize = 4_000_000;
const BAD: &str = "GET /plain HTTP/1.1\nHost: a\r\n\r\n";
const SMUGGLED: &str = "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n";

/// A handler whose response comes later than the next request.
pub(super) async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(100)).await;
    "slow response"
}

/// A handler whose response is larger than the buffers of the connection.
pub(super) async fn large() -> String {
    "x".repeat(LARGE)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Sends the parts one by one, and reads everything until the server closes.
async fn exchange(running: &Running, parts: &[&str]) -> String {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in parts {
        stream.write_all(part.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut received = Vec::new();
    let reading = stream.read_to_end(&mut received);
    tokio::time::timeout(PATIENCE, reading).await.expect("the server closes").expect("no reset");
    String::from_utf8(received).unwrap()
}

/// The status codes of the responses, in their order.
fn statuses(received: &str) -> Vec<&str> {
    received.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]).collect()
}

#[tokio::test]
async fn a_refused_head_is_answered_with_its_reason_and_nothing_behind_it_is_served() {
    let running = start(|_| ()).await;
    let received = exchange(&running, &[BAD, SMUGGLED]).await;
    assert_eq!(statuses(&received), ["400"]);
    assert!(received.contains("Connection: close") && !received.contains("plain"), "{received}");
    let body = received.split("\r\n\r\n").nth(1).unwrap();
    let error: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(error["error"]["code"], "malformed");
    assert!(error["error"]["message"].as_str().unwrap().contains("bare_lf"), "{body}");
    let page = running.node.metrics.encode().unwrap();
    assert!(page.contains(r#"pagewire_http_refused_total{reason="bare_lf"}"#), "{page}");
}

#[tokio::test]
async fn a_head_that_comes_in_pieces_is_refused_or_served_as_in_one_piece() {
    let running = start(|_| ()).await;
    let bad: Vec<_> = (0..BAD.len()).map(|at| &BAD[at..=at]).collect();
    assert_eq!(statuses(&exchange(&running, &bad).await), ["400"]);
    let good =
        format!("{}GET /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", get("/slow").repeat(3));
    let pieces: Vec<_> = good.as_bytes().chunks(7).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
    assert_eq!(statuses(&exchange(&running, &pieces).await), ["200"; 4]);
}

#[tokio::test]
async fn requests_before_a_refused_one_are_answered_first() {
    let running = start(|_| ()).await;
    let all = [get("/slow"), get("/plain"), get("/slow"), BAD.to_owned(), SMUGGLED.to_owned()].concat();
    let received = exchange(&running, &[&all]).await;
    assert_eq!(statuses(&received), ["200", "200", "200", "400"], "{received}");
    assert_eq!(received.matches("slow response").count(), 2);
}

#[tokio::test]
async fn a_large_response_before_a_refused_request_arrives_whole() {
    let running = start(|_| ()).await;
    let received = exchange(&running, &[&get("/large"), BAD]).await;
    assert_eq!(statuses(&received), ["200", "400"]);
    assert!(received.contains(&"x".repeat(LARGE)));
}

#[tokio::test]
async fn a_client_that_goes_on_sending_still_reads_the_refusal() {
    let running = start(|_| ()).await;
    let more = "x".repeat(900_000);
    assert_eq!(statuses(&exchange(&running, &[BAD, &more]).await), ["400"]);
}

#[tokio::test]
async fn a_body_that_is_refused_fails_at_its_handler_and_ends_the_connection() {
    let running = start(|_| ()).await;
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let received = exchange(&running, &[&get("/plain"), head, "5\r\nhello", "0\r\n\r\n", SMUGGLED]).await;
    assert_eq!(statuses(&received), ["200", "400"], "{received}");
    let unread = head.replace("/echo", "/deaf");
    let received = exchange(&running, &[&unread, "5\nhello\r\n0\r\n\r\n", SMUGGLED]).await;
    assert_eq!(statuses(&received), ["401"], "{received}");
}

#[tokio::test]
async fn behind_a_request_that_asks_to_close_nothing_is_refused_or_served() {
    let running = start(|_| ()).await;
    let last = "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for rest in [SMUGGLED, BAD, "\0\0\0"] {
        assert_eq!(statuses(&exchange(&running, &[last, rest]).await), ["200"]);
    }
}

#[tokio::test]
async fn behind_a_websocket_that_is_refused_nothing_is_served() {
    let running = start(|_| ()).await;
    let offer = "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for rest in ["", SMUGGLED, BAD] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all([offer, rest].concat().as_bytes()).await.unwrap();
        let mut received = Vec::new();
        // unread bytes may reset the connection after the response
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut received)).await.expect("an end");
        assert_eq!(statuses(std::str::from_utf8(&received).unwrap()), ["200"]);
    }
}

#[tokio::test]
async fn behind_an_offer_of_another_protocol_requests_are_checked_as_before() {
    let running = start(|_| ()).await;
    let offer = "GET /plain HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let received = exchange(&running, &[offer, &get("/slow"), BAD, SMUGGLED]).await;
    assert_eq!(statuses(&received), ["200", "200", "400"], "{received}");
}

#[tokio::test]
async fn a_connection_that_ends_within_a_head_is_not_refused() {
    let running = start(|_| ()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /plain HTTP/1.1\r\nHos").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut received = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut received)).await.unwrap().unwrap();
    assert!(received.is_empty(), "{received:?}");
}
