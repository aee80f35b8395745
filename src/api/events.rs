//! `GET /events`: presence of users, connections, sessions and pages in the whole cluster, as this node sees it.
//!
//! A reader that is too slow receives the event `slow`, and its stream ends. The missed events are lost; the lists
//! show the current state.

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use pagewire_cluster::id::Level;
use pagewire_cluster::registry::{ChangeKind, PresenceEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::ApiState;
use super::error::{ApiError, ErrorBody};
use super::extract::Query;
use super::pages::rfc3339;
use super::sse::{self, EventSource};

/// Filter of the events.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EventFilter {
    /// Only this level.
    #[param(inline, value_type = Option<String>)]
    level: Option<Level>,
    /// Only this user, and the connections, sessions and pages of this user.
    user: Option<String>,
}

/// The `data` of an event; `type` is also the name of the event.
#[derive(Serialize)]
struct PresenceMessage<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    level: Level,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    at: String,
}

struct Watcher {
    which: EventFilter,
    events: broadcast::Receiver<PresenceEvent>,
    /// The last event has been sent.
    over: bool,
}

/// Streams presence events.
///
/// The first event is `live`: no later event is left out. A user, connection or session joins with its first page in
/// the cluster (`join`) and leaves with its last one (`leave`). A session or connection without pages that was not
/// joined in time ends (`end`). Data: `{type, level, id, user?, node?, at}`; the node is that of the page that caused
/// the change. A reader that is too slow gets the event `slow` as its last. The stream also ends when the node shuts
/// down.
#[utoipa::path(get, path = "/api/v1/events", tag = "registry", params(EventFilter),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ErrorBody)))]
pub(super) async fn events(
    State(parts): State<ApiState>,
    Query(which): Query<EventFilter>,
) -> Result<Response, ApiError> {
    let events = parts.registry.presence_events();
    let watcher = Watcher { which, events, over: false };
    Ok(sse::respond(parts.ready, None, Some(sse::encoded("live", "{}")), watcher))
}

impl EventSource for Watcher {
    async fn next(&mut self) -> Option<Event> {
        let (name, data) = self.next_message().await?;
        Some(sse::encoded(name, &data))
    }
}

impl Watcher {
    /// Returns the name of the next event and its data; `None` after the last.
    async fn next_message(&mut self) -> Option<(&'static str, String)> {
        while !self.over {
            match self.events.recv().await {
                Ok(event) if self.which.matches(&event) => {
                    let message = PresenceMessage::of(&event);
                    // cannot fail: all members are texts
                    return Some((message.kind, serde_json::to_string(&message).unwrap_or_default()));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    self.over = true;
                    return Some(("slow", format!(r#"{{"missed":{missed}}}"#)));
                }
                Err(RecvError::Closed) => return None,
            }
        }
        None
    }
}

impl EventFilter {
    fn matches(&self, event: &PresenceEvent) -> bool {
        let change = &event.change;
        self.level.is_none_or(|level| level == change.member.level())
            && self.user.as_deref().is_none_or(|user| change.user.as_deref() == Some(user))
    }
}

impl<'a> PresenceMessage<'a> {
    fn of(event: &'a PresenceEvent) -> Self {
        let change = &event.change;
        let kind = match change.kind {
            ChangeKind::Join => "join",
            ChangeKind::Leave => "leave",
            ChangeKind::End => "end",
        };
        Self {
            kind,
            level: change.member.level(),
            id: change.member.to_string(),
            user: change.user.as_deref(),
            node: change.node.map(|node| node.to_string()),
            at: rfc3339(event.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::registry::PresenceChange;

    use super::*;
    use pagewire_cluster::id::Entity;

    fn event(user: &str) -> PresenceEvent {
        let member = Entity::User(user.into());
        PresenceEvent {
            change: PresenceChange { kind: ChangeKind::Join, member, user: Some(user.into()), node: None },
            at: 0,
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_how_much_it_missed_and_nothing_more() {
        let (sender, events) = broadcast::channel(4);
        let which = EventFilter { level: Some(Level::User), user: Some("ann".into()) };
        let mut watcher = Watcher { which, events, over: false };
        for user in ["bob", "ann"] {
            sender.send(event(user)).unwrap();
        }
        let message = watcher.next_message().await.unwrap();
        let data = r#"{"type":"join","level":"user","id":"ann","user":"ann","at":"1970-01-01T00:00:00Z"}"#;
        assert_eq!(message, ("join", data.to_owned()));
        for _ in 0..10 {
            sender.send(event("ann")).unwrap();
        }
        assert_eq!(watcher.next_message().await, Some(("slow", r#"{"missed":6}"#.to_owned())));
        assert_eq!(watcher.next_message().await, None);
    }
}
