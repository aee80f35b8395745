//! Folders of files beside the server's own paths, over real sockets.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_compression::tokio::bufread::BrotliDecoder;
use reqwest::redirect::Policy;
use reqwest::{Method, Response};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use crate::environment::{Node, Page, SOON, Upstream, eventually};

/// A single-page application as a build tool writes it.
fn built() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, content: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    };
    write("dist/index.html", "<!doctype html><script type=module src=/assets/index-DiwrgTda.js></script>");
    write("dist/assets/index-DiwrgTda.js", &"console.log('a line of the application');\n".repeat(100));
    write("dist/logo.png", "not really a picture");
    write("dist/docs/index.html", "<a href=other.html>other</a>");
    write("secret.txt", "outside");
    folder
}

async fn serving(folder: &Path, more: &str) -> Node {
    let dist = folder.join("dist");
    let mount = format!("[[mount]]\nstatic = {dist:?}\nfallback = \"index.html\"\n{more}\n");
    Node::setup().file(&mount).start().await
}

async fn get(node: &Node, path: &str, fields: &[(&str, &str)]) -> Response {
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
    let request = client.request(Method::GET, format!("{}{path}", node.url()));
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.expect("an answer")
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("ASCII"))
}

const BROWSER: (&str, &str) = ("accept", "text/html,*/*;q=0.8");

#[tokio::test]
async fn a_single_page_application_is_served_beside_its_socket() {
    let folder = built();
    let more = "[[mount.cache]]\nfiles = \"*.png\"\nvalue = \"public, max-age=3600\"";
    let node = serving(folder.path(), more).await;
    for (path, status, cache) in [
        ("/", 200, "no-cache"),
        ("/users/7?tab=1", 200, "no-cache"),
        ("/assets/index-DiwrgTda.js", 200, "public, max-age=31536000, immutable"),
        ("/logo.png", 200, "public, max-age=3600"),
        ("/assets/missing.js", 404, "no-store"),
        ("/..%2fsecret.txt", 400, "no-store"),
        ("/pagewire.js", 200, "no-cache"),
        ("/api/v1/nothing", 404, "no-store"),
    ] {
        let response = get(&node, path, &[BROWSER]).await;
        assert_eq!(
            (response.status().as_u16(), header(&response, "cache-control")),
            (status, cache),
            "{path}"
        );
        let is_page = response.text().await.expect("a body").starts_with("<!doctype html><script");
        assert_eq!(is_page, path == "/" || path.starts_with("/users"), "{path}");
    }
    Page::open(&node).await.has_nothing_to_read().await;
    let post = node.api().request(Method::POST, "/logo.png").body("new").send().await.expect("an answer");
    assert_eq!((post.status().as_u16(), header(&post, "allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn a_file_is_sent_once_in_parts_or_compressed() {
    let folder = built();
    let node = serving(folder.path(), "").await;
    let path = "/assets/index-DiwrgTda.js";
    let plain = get(&node, path, &[]).await;
    let (tag, length) = (header(&plain, "etag").to_owned(), header(&plain, "content-length").to_owned());
    let content = plain.bytes().await.expect("a body");
    assert_eq!(length, content.len().to_string());
    let packed = get(&node, path, &[("accept-encoding", "gzip, br")]).await;
    assert_eq!((header(&packed, "content-encoding"), header(&packed, "etag")), ("br", &*format!("W/{tag}")));
    let (sent, mut decoded) = (packed.bytes().await.expect("a body"), Vec::new());
    BrotliDecoder::new(&sent[..]).read_to_end(&mut decoded).await.expect("brotli");
    assert!(decoded == content && sent.len() * 2 < content.len());
    let weak = format!("W/{tag}");
    let known = get(&node, path, &[("accept-encoding", "br"), ("if-none-match", &weak)]).await;
    assert_eq!(known.status(), 304);
    let part = get(&node, path, &[("accept-encoding", "br"), ("range", "bytes=8-10")]).await;
    assert_eq!((part.status().as_u16(), header(&part, "content-encoding")), (206, ""));
    assert_eq!(part.text().await.expect("a body"), "log");
    fs::write(folder.path().join("dist").join(&path[1..]), "another").expect("a file");
    let changed = get(&node, path, &[("if-none-match", &tag)]).await;
    assert_eq!(changed.text().await.expect("a body"), "another");
}

#[tokio::test]
async fn a_folder_below_a_path_redirects_within_itself() {
    let folder = built();
    let dist = folder.path().join("dist");
    let mount = format!("[[mount]]\npath = \"/app\"\nstatic = {dist:?}\n");
    let node = Node::setup().file(&mount).start().await;
    for (path, location) in [("/app?a=//evil.example", "./app/?a=//evil.example"), ("/app/docs", "./docs/")] {
        let response = get(&node, path, &[BROWSER]).await;
        assert_eq!((response.status().as_u16(), header(&response, "location")), (307, location), "{path}");
    }
    assert_eq!(get(&node, "/app/docs/", &[]).await.status(), 200);
    assert_eq!(get(&node, "/app/users", &[BROWSER]).await.status(), 404, "no fallback");
    assert!(get(&node, "/", &[BROWSER]).await.text().await.expect("a body").contains("Pagewire"));
}

#[tokio::test]
async fn a_missing_file_of_a_rule_is_asked_from_the_upstream() {
    let folder = built();
    let mut upstream = Upstream::mirror().await;
    let assets = folder.path().join("dist/assets");
    let mount = format!(
        "[[mount]]\nhttp = \"{}\"\n[[mount.static]]\npath = \"/_rsrc\"\ndirectory = {assets:?}\n",
        upstream.url()
    );
    let node = Node::setup().file(&mount).start().await;
    let file = get(&node, "/_rsrc/index-DiwrgTda.js", &[]).await;
    assert_eq!(header(&file, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(upstream.received(), Vec::<String>::new());
    for path in ["/_rsrc/missing.js", "/_rsrc", "/_rsrc/", "/other"] {
        let head = get(&node, path, &[]).await.text().await.expect("a body");
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{path}: {head}");
    }
}

/// Starts an upstream whose text has a pause in it, until the returned condition is met.
async fn with_pause() -> (Upstream, Arc<Notify>) {
    let resume = Arc::new(Notify::new());
    let waits = resume.clone();
    let upstream = Upstream::start(move |_, mut connection| {
        let waits = waits.clone();
        async move {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
            connection.send(format!("{head}6\r\nfirst\n\r\n")).await;
            waits.notified().await;
            connection.send("7\r\nsecond\n\r\n0\r\n\r\n").await;
            Some(connection)
        }
    });
    (upstream.await, resume)
}

#[tokio::test]
async fn text_of_an_upstream_is_compressed_and_arrives_as_it_is_written() {
    let (upstream, resume) = with_pause().await;
    let node = Node::setup().file(&format!("[[mount]]\nhttp = \"{}\"\n", upstream.url())).start().await;
    let mut response = get(&node, "/", &[("accept-encoding", "br")]).await;
    assert_eq!((header(&response, "content-encoding"), header(&response, "vary")), ("br", "accept-encoding"));
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    while let Some(chunk) = response.chunk().await.expect("a body") {
        sent.extend_from_slice(&chunk);
        received.clear();
        // the end is missing for as long as the upstream writes
        let _ = BrotliDecoder::new(&sent[..]).read_to_end(&mut received).await;
        if received == b"first\n" {
            resume.notify_one();
        }
    }
    assert_eq!(received, b"first\nsecond\n");
}

#[tokio::test]
async fn a_mount_can_leave_text_as_it_is() {
    let (upstream, resume) = with_pause().await;
    resume.notify_one();
    let mount = format!("[[mount]]\nhttp = \"{}\"\ncompress = false\n", upstream.url());
    let node = Node::setup().file(&mount).start().await;
    let response = get(&node, "/", &[("accept-encoding", "br")]).await;
    assert_eq!(header(&response, "content-encoding"), "");
    assert_eq!(response.text().await.expect("a body"), "first\nsecond\n");
}

/// Asks for a script until its compressed form is in memory, which has a length, and returns it.
async fn kept(node: &Node, path: &str) -> String {
    eventually("the compressed script is kept", SOON, async || {
        let response = get(node, path, &[("accept-encoding", "br")]).await;
        assert_eq!(header(&response, "content-encoding"), "br");
        let has_length = !header(&response, "content-length").is_empty();
        let text = decoded(&response.bytes().await.expect("a body")).await;
        has_length.then_some(text)
    })
    .await
}

async fn decoded(packed: &[u8]) -> String {
    let mut text = String::new();
    BrotliDecoder::new(packed).read_to_string(&mut text).await.expect("a complete text");
    text
}

#[tokio::test]
async fn a_script_is_compressed_once_for_each_of_its_versions() {
    let folder = built();
    let node = serving(folder.path(), "").await;
    for (name, lines) in [("small.js", 100), ("large.js", 10_000)] {
        let (place, path) = (folder.path().join("dist").join(name), format!("/{name}"));
        for version in ["first", "other"] {
            let content = format!("console.log('{version}');\n").repeat(lines);
            fs::write(&place, &content).expect("a file");
            let packed = get(&node, &path, &[("accept-encoding", "br")]).await;
            assert!(decoded(&packed.bytes().await.expect("a body")).await == content, "never the old one");
            assert!(kept(&node, &path).await == content, "{version} {name}");
            let plain = get(&node, &path, &[]).await;
            assert_eq!(header(&plain, "content-encoding"), "");
            assert!(plain.text().await.expect("a body") == content);
            let part = get(&node, &path, &[("accept-encoding", "br"), ("range", "bytes=0-6")]).await;
            assert_eq!((part.status().as_u16(), &*part.text().await.expect("a body")), (206, "console"));
        }
    }
}
