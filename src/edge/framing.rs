//! Checks the framing of HTTP/1 requests in the bytes of a connection, before hyper reads them.
//!
//! hyper merges or drops some of what is ambiguous (two equal lengths, a length beside chunks, lines that end with LF
//! alone), so that a handler cannot see it any more. A server behind Pagewire, or a proxy before it, may understand the
//! same bytes as other requests. Here each request head is checked as it was sent, and one that can be understood in two
//! ways is refused.
//!
//! Owns: where requests, bodies and chunks begin and end ([`RequestFollower`], pure), what is refused
//! ([`FramingError`]), and the stream that gives hyper checked bytes only (`guarded_stream`). Never: the meaning of a
//! path or of a field that has no effect on framing.
//!
//! The rules are those of RFC 9112, without its permissions to repair.

mod chunk;
mod error;
mod field;
mod follower;
mod guard_state;
mod guarded_stream;
mod head;
mod host;
mod line;
mod refusal_response;
mod request_line;

#[cfg(test)]
mod tests;

pub use error::{FramingError, FramingRefusal};
pub use follower::RequestFollower;
pub(super) use guard_state::GuardState;
pub(super) use guarded_stream::GuardedStream;
pub(super) use refusal_response::refusal_response;
