//! Streams of server-sent events.
//!
//! Owns: the headers of a stream, what keeps an idle one open, the form of an event, and the end of every stream when
//! the node drains. Never: which events there are (`events`, `jobs::events`, `state`).

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderName;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde::Serialize;

use crate::telemetry::Readiness;

/// Header that keeps a proxy from buffering events that should arrive at once.
const UNBUFFERED: [(HeaderName, &str); 1] = [(HeaderName::from_static("x-accel-buffering"), "no")];

/// A source of events for one reader.
pub(super) trait EventSource: Send + 'static {
    /// Returns the next event; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// Responds with a stream: `first`, which is sent in any case, and then the events of `source` until its end or until
/// the node drains. An idle stream carries a comment every `beat`, or every 15 seconds.
pub(super) fn respond(
    ready: Readiness,
    beat: Option<Duration>,
    first: Option<Event>,
    source: impl EventSource,
) -> Response {
    let rest = stream::unfold((source, ready), |(mut source, ready)| async {
        let event = tokio::select! {
            event = source.next() => event?,
            () = ready.lost() => return None,
        };
        Some((event, (source, ready)))
    });
    let events = stream::iter(first).chain(rest).map(Ok::<_, Infallible>);
    let idle = beat.into_iter().fold(KeepAlive::new(), KeepAlive::interval);
    (UNBUFFERED, Sse::new(events).keep_alive(idle)).into_response()
}

/// Creates an event whose data is the JSON of a value.
pub(super) fn event(name: &'static str, data: &impl Serialize) -> Event {
    // cannot fail: the keys of all objects are texts
    encoded(name, &serde_json::to_string(data).unwrap_or_default())
}

/// Creates an event from JSON. JSON has line ends between its tokens and nowhere else; without them the data is one
/// line, which every client can read.
pub(super) fn encoded(name: &'static str, json: &str) -> Event {
    Event::default().event(name).data(json.replace(['\r', '\n'], " "))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::value::RawValue;

    use super::*;

    /// Repeats an event, at most `left` times.
    struct Repeated {
        left: usize,
    }

    impl EventSource for Repeated {
        async fn next(&mut self) -> Option<Event> {
            self.left = self.left.checked_sub(1)?;
            Some(encoded("tick", "1"))
        }
    }

    async fn body(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_stream_has_its_first_event_and_ends_with_its_source() {
        let raw: Box<RawValue> = serde_json::from_str("{\"a\":\r\n 1}").unwrap();
        let response = respond(Readiness::default(), None, Some(event("live", &raw)), Repeated { left: 2 });
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let tick = "event: tick\ndata: 1\n\n";
        assert_eq!(body(response).await, format!("event: live\ndata: {{\"a\":   1}}\n\n{tick}{tick}"));
    }

    #[tokio::test]
    async fn a_stream_of_a_node_that_drains_has_its_first_event_and_then_ends() {
        let ready = Readiness::default();
        let _closed = ready.latch("accepting");
        let response = respond(ready, None, Some(encoded("live", "{}")), Repeated { left: usize::MAX });
        assert!(body(response).await.starts_with("event: live\ndata: {}\n\n"));
    }
}
