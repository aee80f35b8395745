//! Requests while a node starts.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const ASK: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
const CLIENTS: usize = 100;

/// Sends requests on one connection until the response is 200. Returns how many responses reported that the node is
/// not ready.
async fn until_ready(address: SocketAddr, number: usize) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // some clients have connected but sent no request when the node becomes ready
    tokio::time::sleep(Duration::from_millis(number as u64)).await;
    let mut not_ready = 0;
    loop {
        stream.write_all(ASK).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut response).await.unwrap();
            assert!(read > 0, "client {number} is cut off after {not_ready} answers");
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
    let with_status = |status: StatusCode| Router::new().route("/readyz", get(async move || status));
    let not_ready = with_status(StatusCode::SERVICE_UNAVAILABLE);
    let startup = StartupServer::new(listener, &node.config, Timing::TEST, not_ready);
    let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(until_ready(address, number))).collect();
    let all = async {
        let mut refused = 0;
        for client in clients {
            refused += client.await.unwrap();
        }
        refused
    };
    let coming_up = async {
        // like a node: two waits, then the real router
        startup.serve_until(tokio::time::sleep(Duration::from_millis(30))).await;
        startup.serve_until(tokio::time::sleep(Duration::from_millis(30))).await;
        edge.serve(startup, with_status(StatusCode::OK), std::future::pending()).await;
    };
    let refused = tokio::select! {
        refused = tokio::time::timeout(PATIENCE, all) => refused.expect("every request has a response"),
        () = coming_up => panic!("it serves until it is stopped"),
    };
    assert!(refused > CLIENTS, "{refused} answers from before");
}
