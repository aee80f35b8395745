//! Frames of state trees.

use pagewire_cluster::id::Level;
use pagewire_cluster::state::{ClientPath, Edit, Path, StateError};
use serde::Deserialize;
use serde_json::Value;

use super::CommandError;

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
    /// `malformed` when the text is not a path.
    pub fn locator(&self) -> Result<ClientPath, CommandError> {
        Ok(self.path.parse::<ClientPath>()?)
    }

    /// Parses the path for watching. It must consist of keys only.
    ///
    /// # Errors
    ///
    /// `malformed` when the text is not a path, or names a child by position.
    pub fn keys(&self) -> Result<Path, CommandError> {
        Ok(self.path.parse::<Path>()?)
    }
}

impl From<StateError> for CommandError {
    fn from(refusal: StateError) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
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
}
