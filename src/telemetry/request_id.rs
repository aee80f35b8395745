//! The id of an HTTP request: its response has it as a header, and so have its error and the lines of the log about it.
//!
//! Owns: how it is made, and the name of the header. Never: which responses have it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use pagewire_cluster::id::Key;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::current_trace;

/// Header of a response, and of a request that a mount passes on.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: 32 hexadecimal digits. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Creates an id that no other request has.
    pub fn random() -> Self {
        let mut digits = Uuid::encode_buffer();
        Self::of(Uuid::from_u128(Key::random().bits()).simple().encode_lower(&mut digits))
    }

    /// Returns the id of the current trace, or a new one outside of a trace.
    pub fn of_trace() -> Self {
        current_trace().map_or_else(Self::random, |trace| Self::of(trace.trace_id()))
    }

    /// Returns the id that another node has given to a request.
    pub fn passed_on(headers: &HeaderMap) -> Option<Self> {
        headers.get(REQUEST_ID).filter(|id| id.to_str().is_ok()).cloned().map(Self)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Returns the value of the header.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    fn of(digits: &str) -> Self {
        // never the other text: digits are a header value
        Self(HeaderValue::from_str(digits).unwrap_or(HeaderValue::from_static("unknown")))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_32_digits_and_no_two_are_equal() {
        let (one, other) = (RequestId::random(), RequestId::random());
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        assert!(one.as_str().len() == 32 && one.as_str().bytes().all(is_digit), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn another_node_passes_its_id_on() {
        let id = RequestId::random();
        let mut headers = HeaderMap::new();
        assert_eq!(RequestId::passed_on(&headers), None);
        headers.insert(REQUEST_ID, id.header());
        assert_eq!(RequestId::passed_on(&headers), Some(id));
    }
}
