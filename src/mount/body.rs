//! The bodies of requests and answers that pass through a mount.
//!
//! Owns: their one type. Never: limits (`edge`).

use std::io;

use bytes::Bytes;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// A body that is passed on as it arrives.
pub type MountBody = UnsyncBoxBody<Bytes, io::Error>;

/// Returns a body that is known as a whole.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> MountBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body without a byte.
pub(crate) fn empty() -> MountBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The response to a request of a mount.
pub(crate) type MountResponse = Response<MountBody>;
