//! A client of a server-sent event stream.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::{Api, SOON};

pub(crate) struct Events {
    response: Response,
    unread: String,
}

impl Events {
    /// Opens the stream. `after` is the `Last-Event-ID` of a client that reconnects.
    pub(crate) async fn open(api: &Api, path: &str, after: Option<&str>) -> Self {
        let request = api.request(Method::GET, path).header("accept", "text/event-stream");
        // each part of the stream has a limit of its own
        let mut request = request.timeout(SOON * 40);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        Self { response, unread: String::new() }
    }

    /// Returns the next event and its data; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (event, rest) = (event(block), rest.to_owned());
                self.unread = rest;
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("something in time");
            let chunk = chunk.expect("a stream that ends well")?;
            self.unread.push_str(std::str::from_utf8(&chunk).expect("whole characters"));
        }
    }
}

/// Parses a block; `None` for a comment.
fn event(block: &str) -> Option<(String, Value)> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let data: String = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    Some((field("event: ")?.to_owned(), serde_json::from_str(&data).expect("data is JSON")))
}
