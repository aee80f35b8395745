//! Mounts of upstreams, over real sockets.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_LENGTH};
use tokio::sync::Notify;

use crate::environment::{Node, RawConnection, SOON, Upstream, eventually, mirrored};

/// Starts a node with one mount of an upstream.
pub(crate) async fn node(path: &str, http: &str, more: &str) -> Node {
    let mount = format!("[[mount]]\npath = \"{path}\"\nhttp = \"{http}\"\n{more}\n");
    Node::setup().file(&mount).start().await
}

pub(crate) async fn text(node: &Node, path: &str) -> (u16, String) {
    let response = node.api().request(Method::GET, path).send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

/// Starts an upstream that never answers. Returns what tells that a request has begun, and that its connection has ended.
async fn silent() -> (Upstream, Arc<Notify>, Arc<Notify>) {
    let (begun, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, leaves) = (begun.clone(), left.clone());
    let upstream = Upstream::start(move |_, mut connection| {
        let (begins, leaves) = (begins.clone(), leaves.clone());
        async move {
            begins.notify_one();
            connection.closed().await;
            leaves.notify_one();
            None
        }
    });
    (upstream.await, begun, left)
}

fn header<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(line, _)| line.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test]
async fn an_upstream_receives_the_request_with_one_address_and_without_forged_headers() {
    let upstream = Upstream::mirror().await;
    let node = node("/", &upstream.url(), "").await;
    let request = node.api().request(Method::GET, "/a//b?q=%20&r=1");
    let request = request.header("X-Forwarded-For", "6.6.6.6").header("X-Remote-User", "root");
    let request = request.header("X_Forwarded_For", "6.6.6.6").header("Cookie", "mysite=a?b&c=+");
    let head = request.send().await.expect("an answer").text().await.expect("a body");
    assert!(head.starts_with("GET /a//b?q=%20&r=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(header(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(header(&head, "host"), [node.address().to_string()]);
    assert_eq!(header(&head, "cookie"), ["mysite=a?b&c=+"]);
    assert!(!head.contains("6.6.6.6") && !head.contains("root"), "{head}");
}

#[tokio::test]
async fn the_last_untrusted_address_before_a_trusted_proxy_is_the_client() {
    let upstream = Upstream::mirror().await;
    let mount = format!("[proxy]\ntrusted = [\"127.0.0.0/8\"]\n[[mount]]\nhttp = \"{}\"\n", upstream.url());
    let node = Node::setup().file(&mount).start().await;
    let request = node.api().request(Method::GET, "/").header("X-Forwarded-For", "6.6.6.6, 9.9.9.9");
    let head = request.header("X-Forwarded-Proto", "https").send().await.expect("an answer");
    let head = head.text().await.expect("a body");
    assert_eq!(header(&head, "x-forwarded-for"), ["9.9.9.9"]);
    assert_eq!(header(&head, "x-forwarded-proto"), ["https"]);
}

#[tokio::test]
async fn the_servers_own_paths_win_and_their_refusals_are_final() {
    let mut upstream = Upstream::mirror().await;
    let node = node("/", &upstream.url(), "").await;
    assert_eq!(text(&node, "/livez").await.0, 200);
    assert_eq!(text(&node, "/api/v1/nothing").await.0, 404);
    let call = node.api().request(Method::POST, "/_call/echo").header("Origin", "https://evil.example");
    let call = call.header("Authorization", "Bearer forged").send().await.expect("an answer");
    assert_eq!(call.status(), 403);
    assert_eq!(upstream.received(), Vec::<String>::new());
    for path in ["/", "/api/other", "/api", "/_pagewire/start.js", "/robots.txt"] {
        assert_eq!(text(&node, path).await.0, 200, "{path}");
    }
    assert_eq!(upstream.received().len(), 5, "also the start page is the mount's");
}

#[tokio::test]
async fn own_paths_can_be_given_to_a_mount() {
    let upstream = Upstream::mirror().await;
    let mount = format!("native = [\"/livez\"]\n[[mount]]\nhttp = \"{}\"\n", upstream.url());
    let node = Node::setup().file(&mount).start().await;
    assert!(text(&node, "/metrics").await.1.starts_with("GET /metrics"));
    assert!(!text(&node, "/livez").await.1.contains("GET /livez"));
}

#[tokio::test]
async fn the_longest_path_wins_and_a_path_in_the_url_replaces_it() {
    let (all, shop) = (Upstream::mirror().await, Upstream::mirror().await);
    let mounts = format!(
        "[[mount]]\nhttp = \"{}\"\n[[mount]]\npath = \"/shop\"\nhttp = \"{}/base\"\nupstream_host = true\n",
        all.url(),
        shop.url()
    );
    let node = Node::setup().file(&mounts).start().await;
    let head = text(&node, "/shop/cart?id=1").await.1;
    assert!(head.starts_with("GET /base/cart?id=1 "), "{head}");
    assert_eq!(header(&head, "x-forwarded-prefix"), ["/shop"]);
    assert_eq!(header(&head, "host"), [shop.address.to_string()]);
    assert!(text(&node, "/shopping").await.1.starts_with("GET /shopping "));
}

#[tokio::test]
async fn a_path_that_leaves_its_folder_reaches_no_upstream() {
    let mut upstream = Upstream::mirror().await;
    let node = node("/", &upstream.url(), "").await;
    for path in ["/_temp/../etc/passwd", "/a/%2e%2e/b", "/..%2fb", "/a\\..\\b", "/%252e%252e/b", "/..;/b"] {
        let mut client = RawConnection::to(node.address()).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        let head = client.head().await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 400 "), "{path}: {head}");
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    assert!(
        text(&node, "/metrics").await.1.contains("pagewire_mount_refused_total{reason=\"dot_segment\"} 6")
    );
}

#[tokio::test]
async fn both_bodies_are_passed_on_as_they_arrive() {
    let upstream = Upstream::start(|_, mut connection| async move {
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for part in ["first", "second"] {
            let read = connection.read_to(part).await.expect("the part of the client");
            assert!(read.ends_with(part));
            connection.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        }
        connection.send("0\r\n\r\n").await;
        None
    })
    .await;
    let node = node("/", &upstream.url(), "").await;
    let mut client = RawConnection::to(node.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    // the second part is sent when the answer to the first one is here
    for part in ["first", "second"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len())).await;
        client.read_to(part).await.expect("the answer to the part");
    }
    client.send("0\r\n\r\n").await;
    assert!(client.read_to("0\r\n\r\n").await.is_some());
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_answered_here_after_the_limits() {
    let upstream = Upstream::start(|head, mut connection| async move {
        assert_eq!(header(&head, "expect"), Vec::<&str>::new());
        assert_eq!(connection.skip(5).await, 5);
        mirrored(head, connection).await
    })
    .await;
    let node = node("/", &upstream.url(), "max_body = 10").await;
    let mut client = RawConnection::to(node.address()).await;
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(client.head().await.expect("an answer").starts_with("HTTP/1.1 100 "));
    client.send("12345").await;
    assert!(client.head().await.expect("an answer").starts_with("HTTP/1.1 200 "));
    let mut client = RawConnection::to(node.address()).await;
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(client.head().await.expect("an answer").starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_is_refused_and_the_upstream_is_left() {
    let (upstream, begun, left) = silent().await;
    let node = node("/", &upstream.url(), "max_body = \"1K\"").await;
    let mut client = RawConnection::to(node.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    begun.notified().await;
    client.send(format!("800\r\n{}\r\n", "x".repeat(2048))).await;
    assert!(client.head().await.expect("an answer").starts_with("HTTP/1.1 413 "));
    tokio::time::timeout(SOON, left.notified()).await.expect("the upstream sees the end");
}

#[tokio::test]
async fn an_upload_of_100_megabytes_is_not_kept_in_memory() {
    const LENGTH: u64 = 100 << 20;
    let upstream = Upstream::start(|head, mut connection| async move {
        let read = connection.skip(LENGTH).await;
        mirrored(format!("{read} {}", header(&head, "content-length")[0]), connection).await
    })
    .await;
    let node = node("/", &upstream.url(), "").await;
    let before = node.rss();
    let mut client = RawConnection::to(node.address()).await;
    client.send(format!("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n")).await;
    let part = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        client.send(&part).await;
    }
    assert!(client.read_to(&format!("{LENGTH} {LENGTH}")).await.is_some());
    assert!(node.rss() < before + (32 << 20), "{} bytes more", node.rss() - before);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_left_and_one_that_is_gone_is_told_apart() {
    let (upstream, _, left) = silent().await;
    let slow = node("/", &upstream.url(), "timeout_s = 1").await;
    let request = slow.api().request(Method::GET, "/").header(ACCEPT, "text/html");
    let page = request.send().await.expect("an answer");
    assert_eq!(page.status(), 504);
    let id = page.headers()["x-request-id"].to_str().expect("text").to_owned();
    let page = page.text().await.expect("a body");
    assert!(page.contains("504 Gateway Timeout") && page.contains(&id), "{page}");
    tokio::time::timeout(SOON, left.notified()).await.expect("the connection is closed");
    eventually("the log has the id and the reason", SOON, async || slow.log().contains(&id).then_some(()))
        .await;
    drop(upstream);
    let gone = node("/", "http://127.0.0.1:9", "").await;
    assert_eq!(text(&gone, "/").await.0, 502);
}

#[tokio::test]
async fn a_request_that_its_client_has_given_up_ends_at_the_upstream() {
    let (upstream, begun, left) = silent().await;
    let node = node("/", &upstream.url(), "").await;
    let mut client = RawConnection::to(node.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    begun.notified().await;
    drop(client);
    tokio::time::timeout(SOON, left.notified()).await.expect("the upstream sees the end");
}

#[tokio::test]
async fn an_upstream_may_be_a_socket_file_and_its_answers_stay_as_they_are() {
    let directory = tempfile::tempdir().expect("a folder");
    let socket = directory.path().join("app.sock");
    let _upstream = Upstream::at_socket(&socket, |head, mut connection| async move {
        let answer = match head.split_whitespace().next() {
            Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"e\"\r\n\r\n",
            _ => "HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n",
        };
        connection.send(answer).await;
        Some(connection)
    })
    .await;
    let node = node("/", &format!("unix:{}", socket.display()), "").await;
    let head = node.api().request(Method::HEAD, "/").send().await.expect("an answer");
    assert_eq!(
        (head.status().as_u16(), &head.headers()[CONTENT_LENGTH]),
        (200, &"1234".parse().expect("text"))
    );
    let unchanged = node.api().request(Method::GET, "/").send().await.expect("an answer");
    assert_eq!(
        (unchanged.status().as_u16(), unchanged.headers().get_all("set-cookie").iter().count()),
        (304, 2)
    );
    let metrics = text(&node, "/metrics").await.1;
    assert!(metrics.contains("pagewire_mount_requests_total{mount=\"/\",status=\"304\"} 1"), "{metrics}");
}

/// Answers with the number of the connection.
async fn numbered(mut connection: RawConnection, more: &str) -> RawConnection {
    let number = connection.number.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{more}\r\n", number.len());
    connection.send(head + &number).await;
    connection
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other_and_is_closed_when_it_is_not_used() {
    let closed = Arc::new(Notify::new());
    let seen = closed.clone();
    let upstream = Upstream::start(move |head, connection| {
        let seen = seen.clone();
        async move {
            let mut connection = numbered(connection, "").await;
            if head.starts_with("GET /last") {
                connection.closed().await;
                seen.notify_one();
            }
            Some(connection)
        }
    })
    .await;
    let node = node("/", &upstream.url(), "").await;
    for path in ["/", "/a", "/last"] {
        assert_eq!(text(&node, path).await, (200, "0".to_owned()));
    }
    tokio::time::timeout(SOON, closed.notified()).await.expect("it is closed");
    assert_eq!(text(&node, "/").await, (200, "1".to_owned()));
}

#[tokio::test]
async fn a_connection_that_the_upstream_closes_is_not_used_again() {
    let upstream = Upstream::start(|_, connection| async move {
        drop(numbered(connection, "Connection: close\r\n").await);
        None
    })
    .await;
    let node = node("/", &upstream.url(), "").await;
    for number in 0..5 {
        let request = node.api().request(Method::POST, "/").body("");
        let answer = request.send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), answer.text().await.expect("a body")),
            (200, number.to_string())
        );
    }
}
