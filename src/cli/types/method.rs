//! A handler as its callers see it.
//!
//! Owns: which members of a method are read. Never: how they are written.

use serde_json::Value;

use super::shape::Shape;

/// The types of a handler.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MethodTypes {
    pub(super) name: String,
    /// What it does, on one line.
    pub(super) doc: Option<String>,
    /// Its parameters; `None` without a schema.
    pub(super) params: Option<Shape>,
    /// Its result; `None` without a schema.
    pub(super) result: Option<Shape>,
}

impl MethodTypes {
    /// Returns the types of a method of `ready`.
    pub(super) fn of(method: &Value) -> Option<Self> {
        let doc = method["doc"].as_str().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let shape = |member: &str| method.get(member).map(Shape::of);
        Some(Self {
            name: method["name"].as_str()?.to_owned(),
            doc: doc.filter(|text| !text.is_empty()),
            params: shape("schema"),
            result: shape("returns"),
        })
    }
}
