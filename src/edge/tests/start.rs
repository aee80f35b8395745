//! Requests while a node starts.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;

const ASK: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
const CLIENTS: usize = 100;

/// Sends requests on one connection until the response is 200, from so many responses of the starting node on. Returns how
/// many of its own responses reported that the node is not ready.
async fn until_ready(address: SocketAddr, answered: watch::Sender<usize>, from: usize) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    answered.subscribe().wait_for(|count| *count >= from).await.unwrap();
    let mut not_ready = 0;
    loop {
        stream.write_all(ASK).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut response).await.unwrap();
            assert!(read > 0, "a client is cut off after {not_ready} answers");
        }
        match &response[9..12] {
            b"503" => not_ready += 1,
            b"200" => return not_ready,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
}

#[tokio::test]
async fn every_request_while_a_node_comes_up_is_answered_on_its_connection() {
    let config = config::load(&Sources::default()).unwrap();
    let node = Node::start(config, Timing::TEST).await.unwrap();
    let edge = Edge::new(&node.config, node.timing, node.context.clone(), node.metrics.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = watch::Sender::new(0);
    let count = answered.clone();
    let not_ready = Router::new().route(
        "/readyz",
        get(async move || {
            count.send_modify(|count| *count += 1);
            StatusCode::SERVICE_UNAVAILABLE
        }),
    );
    let ready = Router::new().route("/readyz", get(async || StatusCode::OK));
    let startup = StartupServer::new(listener, &node.config, Timing::TEST, not_ready);
    // the last clients have connected and sent no request when the node becomes ready
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(until_ready(address, answered.clone(), 2 * number))).collect();
    let all = async {
        let mut refused = 0;
        for client in clients {
            refused += client.await.unwrap();
        }
        refused
    };
    let coming_up = async {
        // like a node: two waits, then the real router
        for enough in [CLIENTS, 2 * CLIENTS] {
            let mut answered = answered.subscribe();
            drop(startup.serve_until(answered.wait_for(|count| *count >= enough)).await.unwrap());
        }
        edge.serve(startup, ready, std::future::pending()).await;
    };
    let refused = tokio::select! {
        refused = tokio::time::timeout(PATIENCE, all) => refused.expect("every request has a response"),
        () = coming_up => panic!("it serves until it is stopped"),
    };
    assert!(refused >= 2 * CLIENTS, "{refused} answers from before");
}
