//! The first line of a request: method, target and version.
//!
//! Owns: the syntax of this line. Never: the path, which routing checks.

use std::ops::Range;

use super::FramingError;
use super::field::token;

/// What of a request line matters for framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestLine {
    /// HTTP/1.1; otherwise HTTP/1.0.
    pub(super) is_http_11: bool,
    /// Position of the host and port in the line, if the target is a URL.
    pub(super) authority: Option<Range<usize>>,
}

impl RequestLine {
    /// Reads a line without its line end. It has no control characters.
    ///
    /// # Errors
    ///
    /// For a line that is not `method SP target SP HTTP/1.0` or `HTTP/1.1`, and for a target that is not accepted.
    pub(super) fn parse(line: &[u8]) -> Result<Self, FramingError> {
        if line.is_empty() {
            return Err(FramingError::RequestLine);
        }
        let method = token(line);
        if method.is_empty() || line.get(method.len()).is_some_and(|byte| *byte != b' ') {
            return Err(FramingError::Method);
        }
        let rest = line.get(method.len() + 1..).ok_or(FramingError::RequestLine)?;
        let space = rest.iter().position(|byte| *byte == b' ').ok_or(FramingError::RequestLine)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        let is_http_11 = is_http_11(version)?;
        if target.is_empty() {
            return Err(FramingError::RequestLine);
        }
        if method == b"CONNECT" {
            return Err(FramingError::Connect);
        }
        let start = method.len() + 1;
        let authority = authority(method, target)?.map(|found| found.start + start..found.end + start);
        Ok(Self { is_http_11, authority })
    }
}

fn is_http_11(version: &[u8]) -> Result<bool, FramingError> {
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(FramingError::Version)
        }
        _ => Err(FramingError::RequestLine),
    }
}

/// Returns the position of host and port in a target that is a URL, `None` for a path or `*`.
fn authority(method: &[u8], target: &[u8]) -> Result<Option<Range<usize>>, FramingError> {
    if target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
        return Err(FramingError::Target);
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let start = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(FramingError::Target)?
        .len();
    let length = target[start..].iter().position(|byte| matches!(byte, b'/' | b'?'));
    let end = length.map_or(target.len(), |length| start + length);
    Ok(Some(start..end))
}
