//! Close codes: one row each.

use std::time::Duration;

/// Reason why the server closes a socket. 4000–4499: do not reconnect. 4500–4999: reconnect with jittered back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The client closed; the server replies with the same code.
    Normal = 1000,
    /// The connection broke without a close frame; counted, never sent.
    Lost = 1006,
    /// The first frame is not a valid `hello`.
    MalformedHello = 4000,
    /// There is no valid token, and anonymous pages are not allowed.
    Unauthenticated = 4001,
    /// The identity is valid, but not allowed to do this.
    Forbidden = 4003,
    /// A limit of the deployment was reached.
    Policy = 4004,
    /// The client broke the rules of WebSocket or of frames.
    ProtocolViolation = 4005,
    /// Another socket holds this page: open a new page.
    Replaced = 4006,
    /// The server removed this page.
    Unregistered = 4007,
    /// A frame is larger than the limit.
    FrameTooLarge = 4009,
    /// The node is shutting down.
    Draining = 4500,
    /// The client did not read fast enough.
    SlowConsumer = 4501,
    /// Another node holds this page.
    HeldElsewhere = 4502,
    /// The client sent nothing for too long.
    Silent = 4503,
    /// The token has expired: get a new one first.
    TokenExpired = 4504,
    /// This node has too many pages, or the cluster is unavailable.
    Overloaded = 4505,
    /// The client sent too many frames per second.
    RateLimit = 4506,
}

impl CloseCode {
    /// Returns the number that is sent.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// Content of a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// Close code.
    pub code: CloseCode,
    /// Time that the client should wait before it reconnects.
    pub retry_after: Option<Duration>,
    /// Explanation for a person who reads the browser's console; empty or a short fixed text.
    pub reason: &'static str,
}

impl Close {
    /// Creates a close without advice.
    pub const fn new(code: CloseCode, reason: &'static str) -> Self {
        Self { code, retry_after: None, reason }
    }

    /// Adds the advised delay.
    pub const fn after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay), ..self }
    }

    /// Returns the reason field: JSON of at most 123 bytes.
    pub fn payload(&self) -> String {
        let mut members = Vec::with_capacity(2);
        if let Some(delay) = self.retry_after {
            members.push(format!("\"retry_after_ms\":{}", delay.as_millis()));
        }
        if !self.reason.is_empty() {
            members.push(format!("\"reason\":{}", serde_json::Value::from(self.reason)));
        }
        if members.is_empty() { String::new() } else { format!("{{{}}}", members.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_reason_is_json_with_the_advised_delay() {
        let close = Close::new(CloseCode::Draining, "").after(Duration::from_millis(1500));
        assert_eq!(close.payload(), r#"{"retry_after_ms":1500}"#);
        assert_eq!(Close::new(CloseCode::Policy, "x").payload(), r#"{"reason":"x"}"#);
        assert_eq!(Close::new(CloseCode::Normal, "").payload(), "");
    }
}
