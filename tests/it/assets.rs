//! The files that a node has compiled in, as browsers load them: the browser client and the welcome page.

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder};
use reqwest::{Method, Response, StatusCode};
use tokio::io::AsyncReadExt;

use crate::environment::{Api, Node};

async fn get(api: &Api, path: &str, fields: &[(&str, &str)]) -> Response {
    let request = api.request(Method::GET, path);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.expect("an answer")
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("ASCII"))
}

#[tokio::test]
async fn a_file_of_the_server_is_sent_once_and_compressed() {
    let node = Node::start().await;
    let api = node.api();
    for path in ["/pagewire.js", "/", "/_pagewire/start.js", "/_pagewire/cards.css"] {
        let plain = get(&api, path, &[]).await;
        let kind = header(&plain, "content-type").to_owned();
        let plain = plain.bytes().await.expect("a body");
        for coding in ["gzip", "br"] {
            let response = get(&api, path, &[("accept-encoding", coding)]).await;
            assert_eq!(header(&response, "content-encoding"), coding, "{path}");
            assert_eq!(
                (header(&response, "content-type"), header(&response, "vary")),
                (&*kind, "accept-encoding")
            );
            assert_eq!(header(&response, "cache-control"), "no-cache");
            let tag = header(&response, "etag").to_owned();
            let (sent, mut decoded) = (response.bytes().await.expect("a body"), Vec::new());
            assert!(sent.len() < plain.len() / 2, "{path}: {} of {} bytes", sent.len(), plain.len());
            match coding {
                "br" => BrotliDecoder::new(&sent[..]).read_to_end(&mut decoded).await,
                _ => GzipDecoder::new(&sent[..]).read_to_end(&mut decoded).await,
            }
            .expect("the coding");
            assert!(decoded == plain, "{path}");
            let again = get(&api, path, &[("accept-encoding", coding), ("if-none-match", &tag)]).await;
            assert_eq!((again.status(), header(&again, "etag")), (StatusCode::NOT_MODIFIED, &*tag), "{path}");
            assert!(again.bytes().await.expect("a body").is_empty());
        }
    }
    let head = api.request(Method::HEAD, "/pagewire.js").send().await.expect("an answer");
    let length: usize = header(&head, "content-length").parse().expect("a number");
    assert_eq!(length, get(&api, "/pagewire.js", &[]).await.bytes().await.expect("a body").len());
    assert!(!header(&get(&api, "/", &[]).await, "content-security-policy").is_empty());
}

#[tokio::test]
async fn a_restarted_node_has_the_tags_of_the_one_before() {
    let (first, second) = (Node::start().await, Node::start().await);
    let before = get(&first.api(), "/pagewire.js", &[]).await;
    let known = [("if-none-match", header(&before, "etag"))];
    assert_eq!(get(&second.api(), "/pagewire.js", &known).await.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn the_client_is_imported_by_listed_origins_only() {
    let table = [
        (None, "https://app.example", ""),
        (Some("https://app.example,https://b.example"), "https://b.example", "https://b.example"),
        (Some("https://app.example"), "https://evil.example", ""),
        (Some("*"), "https://any.example", "*"),
    ];
    for (setting, origin, allowed) in table {
        let node = Node::setup();
        let node = match setting {
            Some(origins) => node.set("websocket.client_origins", origins),
            None => node,
        };
        let node = node.start().await;
        let response = get(&node.api(), "/pagewire.js", &[("origin", origin)]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "access-control-allow-origin"), allowed, "{setting:?} {origin}");
        let api = get(&node.api(), "/api/openapi.json", &[("origin", origin)]).await;
        assert_eq!(header(&api, "access-control-allow-origin"), "", "for the client alone");
    }
}
