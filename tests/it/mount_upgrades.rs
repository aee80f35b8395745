//! Requests to mounts that change the protocol of their connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;

use crate::environment::{Node, SOON, Upstream, eventually};
use crate::mounts::{node, text};

#[tokio::test]
async fn a_websocket_of_an_upstream_passes_through_and_ends_on_both_sides() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let ended = Arc::new(Notify::new());
    let seen = ended.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.expect("the client reads");
            }
        }
        seen.notify_one();
    });
    let node = node("/live", &format!("http://{address}"), "").await;
    let url = format!("ws://{}/live/socket", node.address());
    let (mut socket, response) = tokio_tungstenite::connect_async(url).await.expect("a handshake");
    assert_eq!(response.status().as_u16(), 101);
    for number in 0..3 {
        socket.send(Message::text(number.to_string())).await.expect("the upstream reads");
        let echo = socket.next().await.expect("an echo").expect("a message");
        assert_eq!(echo.into_text().expect("text").as_str(), number.to_string());
    }
    drop(socket);
    tokio::time::timeout(SOON, ended.notified()).await.expect("the upstream sees the end");
}

/// Sends a request for other protocols, and returns what the upstream or the node answers.
async fn changing(node: &Node, protocols: &[&str]) -> String {
    let mut stream = TcpStream::connect(node.address()).await.expect("a connection");
    let fields: String = protocols.iter().map(|protocol| format!("Upgrade: {protocol}\r\n")).collect();
    let head =
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n{fields}HTTP2-Settings: AA\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the node reads");
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(SOON, reading).await.expect("the node ends the connection").expect("text");
    answer
}

#[tokio::test]
async fn no_protocol_but_websocket_reaches_an_upstream_or_comes_back_from_it() {
    let mirror = Upstream::mirror().await;
    let mirrored = node("/", &mirror.url(), "").await;
    let answer = changing(&mirrored, &["h2c"]).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200") && !answer.contains("upgrade: "), "{answer}");
    let answer = changing(&mirrored, &["h2c", "websocket"]).await.to_lowercase();
    assert!(answer.contains("upgrade: websocket") && !answer.contains("h2c"), "{answer}");
    let other = Upstream::start(|_, mut connection| async move {
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")
            .await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        None
    });
    let other = node("/", &other.await.url(), "").await;
    assert!(changing(&other, &["websocket"]).await.starts_with("HTTP/1.1 502"));
}

#[tokio::test]
async fn a_websocket_of_an_upstream_counts_as_a_connection_of_its_address() {
    let upstream = Upstream::start(|_, mut connection| async move {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
        connection.send(head).await;
        connection.closed().await;
        None
    })
    .await;
    let mount = format!("[[mount]]\nhttp = \"{}\"\n", upstream.url());
    let node = Node::setup().file(&mount).set("limits.connections_per_ip", 2).start().await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let status = async || {
        let mut stream = TcpStream::connect(node.address()).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("the node reads");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("an answer");
        (String::from_utf8_lossy(&status).into_owned(), stream)
    };
    let (one, held) = status().await;
    let (two, _other) = status().await;
    assert_eq!((one.as_str(), two.as_str()), ("HTTP/1.1 101", "HTTP/1.1 101"));
    assert_eq!(status().await.0, "HTTP/1.1 429");
    drop(held);
    eventually("there is room again", SOON, async || (status().await.0 == "HTTP/1.1 101").then_some(()))
        .await;
}

#[tokio::test]
async fn a_change_of_protocol_that_was_not_asked_for_is_an_error_of_the_upstream() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
            .await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        None
    })
    .await;
    let node = node("/", &upstream.url(), "").await;
    assert_eq!(text(&node, "/").await.0, 502);
}
