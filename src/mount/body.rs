//! The body of an answer of a mount.
//!
//! Owns: the one type of such bodies, and bodies that are complete. Never: where bytes come from.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// The body of an answer of a mount. An error in it ends the connection, so that the client sees an incomplete answer.
pub(crate) type MountBody = UnsyncBoxBody<Bytes, io::Error>;

/// Returns a body without a byte.
pub(crate) fn empty() -> MountBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body with these bytes.
pub(crate) fn full(bytes: Bytes) -> MountBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
