//! Limits and time-outs of HTTP, against peers that violate them.

use std::io;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use futures_util::StreamExt;
use pagewire_cluster::timing::Timing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, Running, start};

/// A handler that reads the body.
pub(super) async fn echo(body: Body) -> Result<Bytes, StatusCode> {
    to_bytes(body, usize::MAX).await.map_err(|error| {
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        match causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).next() {
            Some(io::ErrorKind::FileTooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Some(io::ErrorKind::TimedOut) => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    })
}

/// A handler that responds with the first part of the body.
pub(super) async fn first(body: Body) -> Bytes {
    body.into_data_stream().next().await.unwrap().unwrap()
}

/// A handler that responds without reading the body.
pub(super) async fn deaf() -> StatusCode {
    StatusCode::UNAUTHORIZED
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.address).await.unwrap()
}

/// Reads everything until the server closes.
async fn response(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // a reset after the response is a valid end, too
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8(bytes).unwrap()
}

async fn request(running: &Running, request: &str) -> String {
    let mut stream = connect(running).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    response(&mut stream).await
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_not_waited_for() {
    let running = start(|_| ()).await;
    let begun = Instant::now();
    let (mut idle, mut slow) = (connect(&running).await, connect(&running).await);
    let dripping = async {
        for byte in
            b"GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        response(&mut slow).await
    };
    let (idle, slow) = tokio::join!(response(&mut idle), dripping);
    assert_eq!((idle.as_str(), slow.as_str()), ("", ""));
    assert!(begun.elapsed() >= Timing::TEST.http_header);
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_later_than_a_head_may_take() {
    let running = start(|_| ()).await;
    let begun = Instant::now();
    let response = request(&running, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 404"), "{response}");
    assert!(begun.elapsed() > Timing::TEST.http_idle - Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let running = start(|config| config.limits.max_header_bytes = 2000).await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(3000));
    assert!(request(&running, &long).await.starts_with("HTTP/1.1 431"));
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}", "x".repeat(20_000));
    assert!(request(&running, &endless).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(150));
    assert!(request(&running, &many).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let running = start(|config| config.limits.max_body_bytes = 1000).await;
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n";
    assert!(request(&running, head).await.starts_with("HTTP/1.1 413"));
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let chunked =
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}");
    assert!(request(&running, &chunked).await.starts_with("HTTP/1.1 413"));
    let fits = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    );
    let response = request(&running, &fits).await;
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with(&"x".repeat(1000)));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let running = start(|_| ()).await;
    let begun = Instant::now();
    let response = request(&running, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    assert!(begun.elapsed() >= Timing::TEST.http_body);
}

#[tokio::test]
async fn a_request_that_is_refused_by_its_head_is_answered_before_its_body_has_come() {
    let running = start(|_| ()).await;
    for path in ["/deaf", "/nothing"] {
        let mut stream = connect(&running).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut begin)).await.expect("an answer").unwrap();
        let expected = if path == "/deaf" { "HTTP/1.1 401" } else { "HTTP/1.1 404" };
        assert_eq!(std::str::from_utf8(&begin), Ok(expected));
        response(&mut stream).await;
    }
}

#[tokio::test]
async fn a_client_that_sends_its_whole_body_first_still_reads_the_refusal_and_may_ask_again() {
    let running = start(|_| ()).await;
    let body = "x".repeat(900_000);
    let mut stream = connect(&running).await;
    let refused = format!("POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n{body}");
    stream.write_all(refused.as_bytes()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let responses = response(&mut stream).await;
    assert!(responses.starts_with("HTTP/1.1 401") && responses.contains("HTTP/1.1 200 OK"), "{responses}");
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_is_refused_without_it() {
    let running = start(|_| ()).await;
    let head = "POST /deaf HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    let refused = request(&running, head).await;
    assert!(refused.starts_with("HTTP/1.1 401") && !refused.contains("100 Continue"), "{refused}");
}

#[tokio::test]
async fn an_address_over_its_share_is_told_to_come_later() {
    let running = start(|config| config.limits.connections_per_ip = 2).await;
    let held = [connect(&running).await, connect(&running).await];
    let response = request(&running, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 429") && response.contains("Retry-After: "), "{response}");
    drop(held);
    let again = async {
        while !request(&running, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .contains("200 OK")
        {}
    };
    assert!(tokio::time::timeout(PATIENCE, again).await.is_ok(), "a place that was left is free again");
}

#[tokio::test]
async fn a_full_node_is_unavailable() {
    let running = start(|config| config.limits.connections = 1).await;
    let _held = connect(&running).await;
    let response = request(&running, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 503") && response.contains("Retry-After: "), "{response}");
}

/// The head of the response to `GET`.
async fn head(running: &Running, path: &str) -> String {
    let response =
        request(running, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    response.split("\r\n\r\n").next().unwrap_or_default().to_owned()
}

const POLICY: &str = "content-security-policy: default-src 'self'";

#[tokio::test]
async fn the_welcome_page_and_its_files_come_with_their_security_headers() {
    let running = start(|_| ()).await;
    for (path, kind) in [("/", "text/html"), ("/_pagewire/start.js", "text/javascript")] {
        let head = head(&running, path).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        for header in [kind, POLICY, "x-content-type-options: nosniff", "referrer-policy: same-origin"] {
            assert!(head.contains(header), "{header} in {head}");
        }
    }
    let post = request(&running, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
}

#[tokio::test]
async fn a_response_has_no_header_that_its_route_did_not_set() {
    let running = start(|_| ()).await;
    for path in ["/plain", "/nothing", "/_ws"] {
        let head = head(&running, path).await;
        for header in ["content-security-policy", "x-content-type-options", "referrer-policy"] {
            assert!(!head.contains(header), "{path}: {header} in {head}");
        }
    }
}

#[tokio::test]
async fn without_the_welcome_page_there_are_the_sockets_and_the_browser_client() {
    let running = start(|config| config.welcome = false).await;
    for path in ["/", "/_pagewire/start.js", "/index.html"] {
        let head = head(&running, path).await;
        assert!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
    }
    let client = head(&running, "/pagewire.js").await;
    assert!(client.starts_with("HTTP/1.1 200") && client.contains("text/javascript"), "{client}");
    super::socket::Client::open(&running, "{}").await;
}

#[tokio::test]
async fn a_handler_reads_a_body_while_the_client_is_still_sending_it() {
    let running = start(|_| ()).await;
    let mut stream = connect(&running).await;
    let head = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nthe first bytes";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begin = Vec::new();
    while !begin.ends_with(b"the first bytes") {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut begin)).await.expect("an answer");
        assert!(read.unwrap() > 0, "{begin:?}");
    }
    assert!(begin.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_request_with_two_hosts_is_refused() {
    let running = start(|_| ()).await;
    let response = request(&running, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 400"), "{response}");
}
