//! The socket as a client sees it.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pagewire_cluster::id::Scope;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{PATIENCE, Running, eventually, start};
use crate::auth;

/// A scripted client.
pub(super) struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The first frame.
    pub(super) registered: Value,
}

impl Client {
    /// Connects with extra headers, one `name: value` per line.
    pub(super) async fn connect(running: &Running, headers: &str) -> Result<Self, StatusCode> {
        let mut request = format!("ws://{}/_ws", running.address).into_client_request().unwrap();
        for (name, value) in headers.lines().filter_map(|line| line.split_once(": ")) {
            let name = tungstenite::http::HeaderName::try_from(name).unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        match connect_async(request).await {
            Ok((stream, _)) => Ok(Self { stream, registered: Value::Null }),
            Err(tungstenite::Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens a page.
    pub(super) async fn open(running: &Running, hello: &str) -> Self {
        let mut client = Self::connect(running, "").await.unwrap();
        client.send(hello).await;
        client.registered = client.receive().await;
        assert_eq!(client.registered["type"], "registered");
        client
    }

    async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("a message").unwrap().unwrap()
    }

    /// Returns the next text.
    async fn receive(&mut self) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the code and the reason of the close, which must come next.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
                Message::Close(None) => panic!("a code"),
                _ => {}
            }
        }
    }
}

async fn push(running: &Running, page: &Client, payload: &Value) {
    let to = Scope::Page(page.registered["page_id"].as_str().unwrap().parse().unwrap());
    let payload = RawValue::from_string(payload.to_string()).unwrap();
    running.node.context.deliver.send(to, payload, None).await.unwrap();
}

#[tokio::test]
async fn a_page_opens_hears_pushes_in_order_and_gets_one_answer_per_request() {
    let running = start(|_| ()).await;
    let mut page = Client::open(&running, "{}").await;
    for number in 0..50 {
        push(&running, &page, &json!(number)).await;
    }
    for number in 0..50u64 {
        let frame = page.receive().await;
        assert_eq!((&frame["seq"], &frame["payload"]), (&json!(number + 1), &json!(number)));
    }
    page.send(r#"{"type":"broadcast_session","payload":"x","id":"a"}"#).await;
    page.send(r#"{"type":"ping"}"#).await;
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(page.receive().await["type"].as_str().unwrap().to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["message", "pong", "result"]);
}

#[tokio::test]
async fn a_frame_that_means_nothing_is_answered_and_the_socket_stays() {
    let running = start(|_| ()).await;
    let mut page = Client::open(&running, "{}").await;
    page.send("no json").await;
    assert_eq!(page.receive().await["code"], "malformed");
    page.send(r#"{"type":"jump","id":"b7"}"#).await;
    let error = page.receive().await;
    assert_eq!((&error["code"], &error["id"]), (&json!("unsupported"), &json!("b7")));
    page.send(r#"{"type":"ping"}"#).await;
    assert_eq!(page.receive().await["type"], "pong");
}

#[tokio::test]
async fn a_resumed_page_is_taken_from_its_old_socket_and_misses_nothing() {
    let running = start(|_| ()).await;
    let mut old = Client::open(&running, "{}").await;
    push(&running, &old, &json!(1)).await;
    push(&running, &old, &json!(2)).await;
    old.send(r#"{"type":"send","id":1}"#).await;
    for _ in 0..3 {
        old.receive().await;
    }
    let hello = json!({
        "page_id": old.registered["page_id"],
        "resume": {"token": old.registered["token"], "seq": 1},
    });
    let mut new = Client::open(&running, &hello.to_string()).await;
    assert_eq!(new.registered["recovered"], "recovered");
    assert_eq!(new.registered["received"], 1, "the refused frame was counted");
    assert_eq!(new.receive().await["payload"], 2);
    assert_eq!(old.closed().await.0, 4006);
}

#[tokio::test]
async fn a_socket_that_breaks_the_rules_is_told_which() {
    let running = start(|config| config.websocket.max_frame = 1000).await;
    let mut page = Client::open(&running, "{}").await;
    page.stream.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(page.closed().await.0, 4005);
    let mut page = Client::open(&running, "{}").await;
    page.send(&"x".repeat(1001)).await;
    assert_eq!(page.closed().await.0, 4009);
    let mut page = Client::connect(&running, "").await.unwrap();
    page.send(r#"{"page_id":"short|p01"}"#).await;
    let (code, reason) = page.closed().await;
    assert_eq!(code, 4000);
    assert!(reason.contains("an id starts with 22 characters"), "{reason}");
}

#[tokio::test]
async fn too_many_frames_per_second_end_a_socket() {
    let running = start(|config| config.limits.frames_per_second = 10).await;
    let mut page = Client::open(&running, "{}").await;
    for _ in 0..20 {
        // the server may close before all are sent
        let _ = page.stream.send(Message::text(r#"{"type":"ping"}"#)).await;
    }
    assert_eq!(page.closed().await.0, 4506);
}

#[tokio::test]
async fn one_who_never_says_hello_is_not_waited_for() {
    let running = start(|_| ()).await;
    assert_eq!(Client::connect(&running, "").await.unwrap().closed().await.0, 4503);
}

#[tokio::test]
async fn one_who_answers_pings_stays_and_one_who_falls_silent_goes() {
    let timing = |config: &mut crate::config::Config| {
        config.websocket.ping_ms = 200;
        config.websocket.ping_timeout_ms = 300;
    };
    let running = start(timing).await;
    let mut lively = Client::open(&running, "{}").await;
    let mut pings = 0;
    while pings < 5 {
        pings += usize::from(matches!(lively.next().await, Message::Ping(_)));
        lively.stream.flush().await.unwrap();
    }
    // tungstenite answers pings only while it is read, and this client is not
    let silent = Client::open(&running, "{}").await;
    let metrics = running.node.metrics.clone();
    let ended = || metrics.encode().unwrap().contains(r#"ws_closed_total{code="4503"}"#);
    let reading = async {
        loop {
            lively.next().await;
        }
    };
    tokio::select! {
        () = eventually("the silent socket is closed", ended) => {}
        () = reading => {}
    }
    assert_eq!(metrics.pages.get(), 1);
    drop(silent);
}

#[tokio::test]
async fn origins_tokens_and_cookies_are_told_apart() {
    let running = start(|config| {
        config.auth.anonymous = false;
        config.auth.hs256_secret = serde_json::from_value(json!("0123456789abcdef0123456789abcdef")).unwrap();
        config.auth.cookie = "sid".to_owned();
    })
    .await;
    let token = auth::issue(&running.node.config.auth, "ann", &[], Duration::from_secs(60)).unwrap();
    let own = format!("Origin: http://{}", running.address);
    for foreign_origin in ["Origin: http://evil.example", "Origin: null"] {
        let cookie = format!("{foreign_origin}\nCookie: sid={token}");
        let mut page = Client::connect(&running, &cookie).await.unwrap();
        // its content does not matter, because nothing is read
        page.send(&json!({"token": token}).to_string()).await;
        assert_eq!(page.closed().await, (4003, r#"{"reason":"origin"}"#.to_owned()), "{foreign_origin}");
    }
    let table = [
        (String::new(), "{}".to_owned(), Err(4001)),
        (String::new(), json!({"token": token}).to_string(), Ok("ann")),
        (String::new(), json!({"token": "no"}).to_string(), Err(4001)),
        (format!("Authorization: Bearer {token}"), "{}".to_owned(), Ok("ann")),
        (format!("{own}\nCookie: a=b; sid={token}"), "{}".to_owned(), Ok("ann")),
        (format!("Cookie: a=b; sid={token}"), "{}".to_owned(), Err(4001)),
    ];
    for (headers, hello, expected) in table {
        let mut page = Client::connect(&running, &headers).await.unwrap();
        page.send(&hello).await;
        match expected {
            Ok(user) => assert_eq!(page.receive().await["user"], user, "{headers}"),
            Err(code) => assert_eq!(page.closed().await.0, code, "{headers}"),
        }
    }
}

#[tokio::test]
async fn our_subprotocol_is_selected_and_the_token_in_another_is_not_echoed() {
    let running = start(|config| {
        config.auth.hs256_secret = serde_json::from_value(json!("0123456789abcdef0123456789abcdef")).unwrap();
    })
    .await;
    let token = auth::issue(&running.node.config.auth, "ann", &[], Duration::from_secs(60)).unwrap();
    let mut request = format!("ws://{}/_ws", running.address).into_client_request().unwrap();
    let offer = format!("bearer.{token}, pagewire.v1");
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(&offer).unwrap());
    let (stream, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "pagewire.v1");
    let mut page = Client { stream, registered: Value::Null };
    page.send("{}").await;
    assert_eq!(page.receive().await["user"], "ann");
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    let running = start(|config| {
        config.auth.hs256_secret = serde_json::from_value(json!("0123456789abcdef0123456789abcdef")).unwrap();
        config.auth.leeway_s = 0;
        config.websocket.ping_ms = 200;
    })
    .await;
    let token = auth::issue(&running.node.config.auth, "ann", &[], Duration::from_secs(2)).unwrap();
    let mut page = Client::open(&running, &json!({"token": token}).to_string()).await;
    assert_eq!(page.closed().await.0, 4504);
}

#[tokio::test]
async fn one_who_does_not_read_is_cut_off_and_delays_nobody() {
    let running = start(|config| config.websocket.outbox_bytes = 64 * 1024).await;
    let stuck = Client::open(&running, "{}").await;
    let mut reading = Client::open(&running, "{}").await;
    let large = json!("x".repeat(16_000));
    let metrics = running.node.metrics.clone();
    let cut = || metrics.encode().unwrap().contains(r#"ws_closed_total{code="4501"}"#);
    let mut pushed = 0;
    while !cut() {
        push(&running, &stuck, &large).await;
        push(&running, &reading, &json!(pushed)).await;
        assert_eq!(reading.receive().await["payload"], json!(pushed));
        pushed += 1;
        assert!(pushed < 20_000, "cut off at last");
    }
}

#[tokio::test]
async fn what_comes_right_behind_the_handshake_is_not_lost() {
    let running = start(|_| ()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut bytes = b"GET /_ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    // `{}` and a ping, both with a mask of zeros
    bytes.extend_from_slice(b"\x81\x82\0\0\0\0{}");
    bytes.extend_from_slice(b"\x81\x8f\0\0\0\0{\"type\":\"ping\"}");
    stream.write_all(&bytes).await.unwrap();
    let mut received = String::new();
    while !received.contains(r#"{"type":"pong"}"#) {
        let mut part = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut part)).await.unwrap().unwrap();
        assert!(read > 0, "{received}");
        received.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    assert!(received.contains(r#""type":"registered""#));
}

#[tokio::test]
async fn a_bad_handshake_gets_a_status() {
    let running = start(|_| ()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /_ws HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 426"), "{response}");
}
