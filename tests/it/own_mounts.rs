//! Mounts in code, of a node that runs in the process of the test.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use pagewire::OwnMount;
use pagewire::config::{Config, MountConfig, Sources, load};
use pagewire::roles::{OwnProgram, run_with};
use pagewire_cluster::timing::Timing;
use reqwest::{Method, RequestBuilder};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::environment::{Api, RawConnection, SOON, Upstream, eventually, free_port};

/// A node that ends with the test.
struct Embedded {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), String>>,
}

fn config(mounts: Vec<MountConfig>) -> Config {
    let flags = vec![("listen", format!("127.0.0.1:{}", free_port())), ("welcome", "false".to_owned())];
    let mut config = load(&Sources { flags, ..Sources::default() }).expect("a configuration");
    config.mount = mounts;
    config
}

fn upstream(path: &str, upstream: &Upstream) -> MountConfig {
    MountConfig { path: path.to_owned(), http: upstream.url(), ..MountConfig::default() }
}

fn of(mounts: Vec<OwnMount>) -> OwnProgram {
    OwnProgram { mounts, ..OwnProgram::default() }
}

impl Embedded {
    async fn start(config: Config, mounts: Vec<OwnMount>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let address = config.listen;
        let running = tokio::spawn(async move {
            let stop = async {
                // an error means that the test has ended
                let _ = stopped.await;
            };
            run_with(config, of(mounts), Timing::TEST, |_| {}, stop).await.map_err(|error| error.to_string())
        });
        let this = Self { address, stop, running };
        eventually("the node is ready", SOON, async || (this.get("/readyz").await.0 == 200).then_some(()))
            .await;
        this
    }

    async fn get(&self, path: &str) -> (u16, String) {
        match self.request(Method::GET, path).send().await {
            Ok(response) => (response.status().as_u16(), response.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        Api::of(format!("http://{}", self.address)).request(method, path)
    }
}

async fn whole_path(request: Request) -> String {
    format!("own {}", request.uri())
}

#[tokio::test]
async fn the_longest_path_wins_among_mounts_in_code_and_in_the_configuration_and_own_paths_win_before() {
    let mirror = Upstream::mirror().await;
    let config = config(vec![upstream("/", &mirror), upstream("/admin/files", &mirror)]);
    let own = ["/admin", "/admin/files/own", "/api/v1/mine"];
    let mounts = own.map(|path| OwnMount::new(path, Router::new().fallback(whole_path))).to_vec();
    let node = Embedded::start(config, mounts).await;
    for (path, expected) in [
        ("/admin", "own /admin"),
        ("/admin/users?id=1", "own /admin/users?id=1"),
        ("/admin/files/own/x", "own /admin/files/own/x"),
        ("/admin/files/x", "GET /admin/files/x "),
        ("/administrator", "GET /administrator "),
    ] {
        let (status, body) = node.get(path).await;
        assert!(status == 200 && body.starts_with(expected), "{path}: {status} {body}");
    }
    assert_eq!(node.get("/api/v1/mine").await.0, 404);
    let mut client = RawConnection::to(node.address).await;
    client.send("GET /admin/%2e%2e/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(client.head().await.expect("an answer").starts_with("HTTP/1.1 400 "));
    node.stop.send(()).expect("a node");
    assert_eq!(node.running.await.expect("no panic"), Ok(()));
}

async fn seen(ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> String {
    format!("{} {headers:?}", peer.ip())
}

#[tokio::test]
async fn a_service_sees_the_client_and_nothing_that_a_client_could_forge() {
    let router = Router::new().route("/admin/seen", get(seen));
    let node = Embedded::start(config(Vec::new()), vec![OwnMount::new("/admin", router)]).await;
    let response = node.request(Method::GET, "/admin/seen").header("X-Forwarded-For", "6.6.6.6");
    let response = response.header("X-Remote-User", "root").send().await.expect("an answer");
    let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    let body = response.text().await.expect("a body");
    assert!(body.starts_with("127.0.0.1 ") && body.contains("\"x-forwarded-for\": \"127.0.0.1\""), "{body}");
    assert!(body.contains(&id) && !body.contains("6.6.6.6") && !body.contains("root"), "{body}");
    let metrics = node.get("/metrics").await.1;
    assert!(metrics.contains("pagewire_mount_requests_total{mount=\"/admin\""), "{metrics}");
}

async fn length(body: Bytes) -> String {
    body.len().to_string()
}

#[tokio::test]
async fn a_body_beyond_the_limit_of_a_mount_in_code_is_refused() {
    let router = Router::new().route("/", post(length));
    let node = Embedded::start(config(Vec::new()), vec![OwnMount::new("/", router).max_body(10)]).await;
    let post = async |body: &'static str| {
        let response = node.request(Method::POST, "/").body(body).send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    };
    assert_eq!(post("0123456789").await, (200, "10".to_owned()));
    assert_eq!(post("0123456789a").await.0, 413);
}

#[tokio::test]
async fn any_service_of_tower_can_be_mounted_and_its_error_is_answered_with_500() {
    let plain = tower::service_fn(async |_| {
        Ok::<_, io::Error>(Response::new(Full::new(Bytes::from_static(b"plain"))))
    });
    let broken = tower::service_fn(async |_| {
        Err::<Response<Full<Bytes>>, _>(io::Error::other("the secret of the service"))
    });
    let mounts = vec![OwnMount::new("/plain", plain), OwnMount::new("/broken", broken)];
    let node = Embedded::start(config(Vec::new()), mounts).await;
    assert_eq!(node.get("/plain").await, (200, "plain".to_owned()));
    let (status, body) = node.get("/broken").await;
    assert_eq!(status, 500);
    assert!(!body.contains("secret"), "{body}");
}

/// Returns each message of a WebSocket.
async fn echo(mut request: Request) -> Response<Body> {
    let accept = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let connection = TokioIo::new(upgrading.await.expect("an upgrade"));
        let mut socket = WebSocketStream::from_raw_socket(connection, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.expect("the client reads");
            }
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", accept.parse().expect("text"));
    response
}

#[tokio::test]
async fn a_service_may_take_over_the_connection_as_a_websocket() {
    let router = Router::new().route("/live", any(echo));
    let node = Embedded::start(config(Vec::new()), vec![OwnMount::new("/live", router)]).await;
    let url = format!("ws://{}/live", node.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a handshake");
    socket.send(Message::text("hello")).await.expect("the service reads");
    let echo = socket.next().await.expect("an echo").expect("a message");
    assert_eq!(echo.into_text().expect("text").as_str(), "hello");
}

#[tokio::test]
async fn a_mount_in_code_that_cannot_be_served_ends_the_start_with_the_reason() {
    let mirror = Upstream::mirror().await;
    let own = |path: &str| OwnMount::new(path, Router::new());
    let wrong = MountConfig { path: "/a".to_owned(), ..MountConfig::default() };
    for (config, mounts, reason) in [
        (
            config(vec![upstream("/admin", &mirror)]),
            vec![own("/admin")],
            "the mount \"/admin\" is mounted twice",
        ),
        (config(Vec::new()), vec![own("/"), own("/")], "the mount \"/\" is mounted twice"),
        (config(Vec::new()), vec![own("/a/../b")], "is not / or a path"),
        (config(vec![wrong]), Vec::new(), "the mount \"/a\" has no upstream"),
    ] {
        let refused = run_with(config, of(mounts), Timing::TEST, |_| {}, std::future::pending()).await;
        let error = refused.expect_err("a refusal").to_string();
        assert!(error.contains(reason), "{error}");
    }
}
