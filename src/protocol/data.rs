//! The frame `data`: an update of a path that pages watch.
//!
//! Owns: the JSON of an update, in a frame and in an event of the server API. Never: the order of updates or their
//! receivers (`pagewire_cluster::state`).

use bytes::Bytes;
use pagewire_cluster::id::{Address, Level};
use pagewire_cluster::state::{Path, TreeEvent, TreeNotification, TreeUpdate};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::FrameBody;

/// The members of an update, in the order in which they are written: `level`, `path` unless it is the whole tree, and
/// either `revision` and `snapshot` (or `missing: true`), or `base`, `revision` and `changes`, or `removed: true`.
#[derive(serde::Serialize)]
struct UpdateMembers<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    level: Level,
    #[serde(skip_serializing_if = "is_root")]
    path: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<&'a Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    missing: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Changes<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    removed: bool,
}

/// The applied changes of an update, in order.
struct Changes<'a>(&'a [TreeEvent]);

/// One change: `{path, value}` or `{path, delete: true}`, and `from` when a page requested it.
#[derive(serde::Serialize)]
struct ChangeMembers<'a> {
    path: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    delete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Address>,
}

impl Serialize for Changes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|event| ChangeMembers {
            path: &event.path,
            value: event.new.as_ref(),
            delete: event.new.is_none(),
            from: event.from,
        }))
    }
}

impl<'a> UpdateMembers<'a> {
    fn new(notification: &'a TreeNotification, r#type: Option<&'static str>) -> Self {
        let members = Self {
            r#type,
            level: notification.owner.level(),
            path: &notification.path,
            base: None,
            revision: None,
            snapshot: None,
            missing: false,
            changes: None,
            removed: false,
        };
        match &notification.update {
            TreeUpdate::Snapshot { revision, value } => Self {
                revision: Some(*revision),
                snapshot: value.as_ref(),
                missing: value.is_none(),
                ..members
            },
            TreeUpdate::Changed { base, revision, events } => Self {
                base: Some(*base),
                revision: Some(*revision),
                changes: Some(Changes(events)),
                ..members
            },
            TreeUpdate::Removed => Self { removed: true, ..members },
        }
    }
}

fn is_root(path: &Path) -> bool {
    *path == Path::ROOT
}

impl FrameBody {
    /// `data`: an update of a path that pages watch, encoded once for all of them.
    pub fn data(notification: &TreeNotification) -> Self {
        Self::of(&UpdateMembers::new(notification, Some("data")))
    }
}

/// Encodes an update for an event stream of the server API: the members of the frame `data` without `type`.
pub fn encode_update(notification: &TreeNotification) -> Bytes {
    // serialising into memory cannot fail: all keys are strings
    serde_json::to_vec(&UpdateMembers::new(notification, None)).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pagewire_cluster::id::Entity;
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn event(text: &str, old: Option<Value>, new: Option<Value>) -> TreeEvent {
        TreeEvent { path: path(text), old, new, from: None }
    }

    /// Returns the event of an update, after checking that the frame has the same members behind its type.
    fn text(update: TreeUpdate, of: &str) -> String {
        let owner = Entity::User("ann".into());
        let notification = TreeNotification { owner, path: path(of), to: Arc::new([]), update };
        let event = String::from_utf8(encode_update(&notification).to_vec()).unwrap();
        let frame = FrameBody::data(&notification);
        let members = frame.bytes().strip_prefix(br#""type":"data","#).unwrap();
        assert_eq!(format!("{{{}", std::str::from_utf8(members).unwrap()), event);
        event
    }

    #[test]
    fn every_update_has_one_shape() {
        let snapshot = |value| TreeUpdate::Snapshot { revision: 7, value };
        assert_eq!(
            text(snapshot(Some(json!({"b": 1, "a": null}))), ""),
            r#"{"level":"user","revision":7,"snapshot":{"b":1,"a":null}}"#
        );
        assert_eq!(
            text(snapshot(Some(Value::Null)), "a.b"),
            r#"{"level":"user","path":"a.b","revision":7,"snapshot":null}"#
        );
        assert_eq!(text(snapshot(None), "a"), r#"{"level":"user","path":"a","revision":7,"missing":true}"#);
        let events = vec![event("a", None, Some(json!(1))), event("b", Some(json!(1)), None)];
        assert_eq!(
            text(TreeUpdate::Changed { base: 7, revision: 9, events }, ""),
            r#"{"level":"user","base":7,"revision":9,"changes":[{"path":"a","value":1},{"path":"b","delete":true}]}"#
        );
        assert_eq!(
            text(TreeUpdate::Changed { base: 7, revision: 9, events: Vec::new() }, ""),
            r#"{"level":"user","base":7,"revision":9,"changes":[]}"#
        );
        assert_eq!(text(TreeUpdate::Removed, ""), r#"{"level":"user","removed":true}"#);
    }

    #[test]
    fn a_change_of_a_page_names_the_page() {
        let from = Some("0123456789abcdefghijkl|p07".parse().unwrap());
        let events = vec![TreeEvent { from, ..event("a", None, Some(Value::Null)) }];
        assert_eq!(
            text(TreeUpdate::Changed { base: 7, revision: 9, events }, "a"),
            concat!(
                r#"{"level":"user","path":"a","base":7,"revision":9,"#,
                r#""changes":[{"path":"a","value":null,"from":"0123456789abcdefghijkl|p07"}]}"#
            )
        );
    }
}
