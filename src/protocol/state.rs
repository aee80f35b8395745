//! Frames of state trees.

use pagewire_cluster::id::Level;
use pagewire_cluster::state::{ClientPath, Edit, Path, StateError, TreeNotification};
use serde::Deserialize;
use serde_json::Value;

use super::{CommandError, ErrorCode, FrameBody};

/// `set_page_data` and the frames of the other levels: writes a value at a path.
#[derive(Debug, Deserialize)]
pub struct SetData {
    /// Path to write.
    pub path: String,
    /// Any JSON, `null` included.
    #[serde(deserialize_with = "present")]
    pub value: Option<Value>,
    /// Writes only if the tree is at this revision.
    pub if_revision: Option<u64>,
}

/// Deserializes a member that must be present, even if it is `null`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// `patch`: all of these changes or none.
#[derive(Debug, Deserialize)]
pub struct PatchFrame {
    /// Level of the tree.
    pub level: Level,
    /// Changes, applied in this order.
    pub changes: Vec<Edit>,
    /// Writes only if the tree is at this revision.
    pub if_revision: Option<u64>,
}

/// `get_data`, `watch`, `unwatch`: a path of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PathRef {
    /// Level of the tree.
    pub level: Level,
    /// Path; the whole tree when missing.
    #[serde(default)]
    pub path: String,
}

impl PathRef {
    /// Parses the path for reading. It may name children by position.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when the text is not a path.
    pub fn locator(&self) -> Result<ClientPath, CommandError> {
        Ok(self.path.parse::<ClientPath>()?)
    }

    /// Parses the path for watching. It must consist of keys only.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when the text is not a path, or names a child by position.
    pub fn keys(&self) -> Result<Path, CommandError> {
        Ok(self.path.parse::<Path>()?)
    }
}

impl FrameBody {
    /// `data`: an update of a path that pages watch, encoded once for all of them.
    pub fn data(delivery: &TreeNotification) -> Self {
        let members = delivery.encode();
        let members = members.strip_prefix(b"{").unwrap_or_default();
        Self::from_bytes([br#""type":"data","#, members].concat())
    }
}

impl From<StateError> for CommandError {
    fn from(refusal: StateError) -> Self {
        let code = match refusal {
            StateError::Path | StateError::Root | StateError::Change => ErrorCode::Malformed,
            StateError::Child(_) => ErrorCode::Unknown,
            StateError::Depth
            | StateError::Key
            | StateError::Size
            | StateError::Share(_)
            | StateError::Changes => ErrorCode::TooLarge,
            StateError::Conflict { .. } => ErrorCode::Conflict,
            StateError::Overloaded => ErrorCode::RateLimited,
            StateError::Unavailable => ErrorCode::Unavailable,
            StateError::Uncertain => ErrorCode::Timeout,
        };
        Self::new(code, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::Entity;
    use pagewire_cluster::state::TreeUpdate;
    use serde_json::json;

    use super::*;
    use crate::protocol::ClientFrame;

    #[test]
    fn null_is_a_value_and_nothing_is_none() {
        let read = |text: &str| ClientFrame::parse(text).map(|(frame, _)| frame);
        let set = read(r#"{"type":"set_user_data","path":"a","value":null}"#).unwrap();
        assert!(matches!(set, ClientFrame::Set(Level::User, SetData { value: Some(Value::Null), .. })));
        assert!(read(r#"{"type":"set_user_data","path":"a"}"#).is_err());
        assert!(read(r#"{"type":"patch","level":"page","changes":[{"path":"a","delete":true}]}"#).is_ok());
        assert!(read(r#"{"type":"patch","level":"world","changes":[]}"#).is_err());
        assert!(read(r#"{"type":"watch","level":"session"}"#).is_ok());
    }

    #[test]
    fn news_are_frames() {
        let news = TreeUpdate::Snapshot { revision: 7, value: Some(json!({"a": 1})) };
        let (owner, to) = (Entity::User("ann".into()), std::sync::Arc::new([]));
        let tail = FrameBody::data(&TreeNotification { owner, path: Path::ROOT, to, news });
        assert_eq!(tail.bytes(), br#""type":"data","level":"user","revision":7,"snapshot":{"a":1}}"#);
    }

    #[test]
    fn every_refusal_has_its_code() {
        for (refusal, code, retryable) in [
            (StateError::Path, "malformed", false),
            (StateError::Child(1), "unknown", false),
            (StateError::Root, "malformed", false),
            (StateError::Change, "malformed", false),
            (StateError::Depth, "too_large", false),
            (StateError::Key, "too_large", false),
            (StateError::Size, "too_large", false),
            (StateError::Share(1), "too_large", false),
            (StateError::Changes, "too_large", false),
            (StateError::Conflict { revision: 1 }, "conflict", false),
            (StateError::Overloaded, "rate_limited", true),
            (StateError::Unavailable, "unavailable", true),
            (StateError::Uncertain, "timeout", true),
        ] {
            let error = CommandError::from(refusal);
            assert_eq!((error.code.text(), error.code.retryable()), (code, retryable));
        }
    }
}
