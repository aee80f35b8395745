//! The classes of resident pages in the first message of a child.

use serde::Deserialize;

use super::wire::Method;
use crate::handlers::ObjectRole;

/// A class of resident pages.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct PageClass {
    pub(super) name: String,
    #[serde(default)]
    pub(super) methods: Vec<PageMethod>,
}

/// A method of such a class.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct PageMethod {
    pub(super) name: String,
    #[serde(default)]
    pub(super) timeout_ms: Option<u64>,
    #[serde(default)]
    pub(super) concurrent: bool,
}

impl PageClass {
    /// Returns the handlers of the class: the class itself, and its methods as `class.method`.
    pub(super) fn handlers(&self) -> impl Iterator<Item = Method> {
        let handler = |name: String, timeout_ms, object| Method {
            name,
            mode: Some("assigned".to_owned()),
            serial: None,
            timeout_ms,
            retries: None,
            object,
        };
        let class = handler(self.name.clone(), None, ObjectRole::Class);
        let method = move |method: &PageMethod| {
            let role = ObjectRole::Method { concurrent: method.concurrent };
            handler(format!("{}.{}", self.name, method.name), method.timeout_ms, role)
        };
        std::iter::once(class).chain(self.methods.iter().map(method))
    }
}
