//! Changes to a tree: requested (`Edit`), stored and sent (`Change`), and applied (`Event`).
//!
//! Owns: their JSON shape, `{path, value}` or `{path, delete: true}`. Never: applies them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{ClientPath, Path, StateError};
use crate::id::Address;

/// A change that a client requests. Its path may name a child by position.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Form")]
pub struct Edit {
    /// Path to change.
    pub path: ClientPath,
    /// New value; `None` deletes.
    pub value: Option<Value>,
}

/// A change as it is stored and sent. Its path consists of keys only.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Form")]
pub struct TreeChange {
    /// Path to change.
    pub path: Path,
    /// New value; `None` deletes.
    pub value: Option<Value>,
    /// Page that requested the change.
    pub from: Option<Address>,
}

/// A change that was applied at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeEvent {
    /// Path that changed.
    pub path: Path,
    /// Value before the change.
    pub old: Option<Value>,
    /// Value after the change; `None` after a deletion.
    pub new: Option<Value>,
    /// Page that requested the change.
    pub from: Option<Address>,
}

impl TreeEvent {
    /// Returns the change that produces this event, borrowed for serialization.
    pub(super) fn as_change(&self) -> EncodedChange<'_> {
        EncodedChange::new(&self.path, self.new.as_ref(), self.from)
    }
}

/// Serialized form of a change.
#[derive(Serialize)]
pub(super) struct EncodedChange<'a> {
    path: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    delete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Address>,
}

impl<'a> EncodedChange<'a> {
    fn new(path: &'a Path, value: Option<&'a Value>, from: Option<Address>) -> Self {
        Self { path, value, delete: value.is_none(), from }
    }
}

impl Serialize for TreeChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EncodedChange::new(&self.path, self.value.as_ref(), self.from).serialize(serializer)
    }
}

/// Deserialized form of an edit or a change.
#[derive(Deserialize)]
struct Form {
    path: String,
    /// `Some(Value::Null)` for `null`, `None` when the member is missing.
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    #[serde(default)]
    delete: bool,
    #[serde(default)]
    from: Option<Address>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Form {
    fn value(&mut self) -> Result<Option<Value>, StateError> {
        if self.value.is_some() == self.delete { Err(StateError::Change) } else { Ok(self.value.take()) }
    }
}

impl TryFrom<Form> for Edit {
    type Error = StateError;

    fn try_from(mut form: Form) -> Result<Self, StateError> {
        Ok(Self { value: form.value()?, path: form.path.parse()? })
    }
}

impl TryFrom<Form> for TreeChange {
    type Error = StateError;

    fn try_from(mut form: Form) -> Result<Self, StateError> {
        Ok(Self { value: form.value()?, path: form.path.parse()?, from: form.from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl TreeEvent {
        /// Returns the change that produces this event.
        pub(in crate::state) fn change(&self) -> TreeChange {
            TreeChange { path: self.path.clone(), value: self.new.clone(), from: self.from }
        }
    }

    #[test]
    fn a_change_is_written_as_clients_write_it() {
        for text in [
            r#"{"path":"a.b","value":null}"#,
            r#"{"path":"","value":{"b":1,"a":2}}"#,
            r#"{"path":"a\\.b","delete":true}"#,
            r#"{"path":"a","value":1,"from":"0123456789abcdefghijkl|p07"}"#,
        ] {
            let change: TreeChange = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&change).unwrap(), text);
        }
    }

    #[test]
    fn a_change_has_either_a_value_or_is_a_deletion() {
        for text in
            [r#"{"path":"a"}"#, r#"{"path":"a","value":1,"delete":true}"#, r#"{"path":"a..b","value":1}"#]
        {
            assert!(serde_json::from_str::<Edit>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Edit>(r##"{"path":"a.#0","delete":true}"##).is_ok());
        assert!(serde_json::from_str::<TreeChange>(r##"{"path":"a.#0","delete":true}"##).is_err());
    }
}
