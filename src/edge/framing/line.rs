//! The end of a line: CR LF and nothing else.
//!
//! Owns: line ends and control characters, which no line may contain. Never: the meaning of a line.

use super::FramingError;

/// How far a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// CR LF is at this position.
    At(usize),
    /// No line end yet; the bytes before this position need not be searched again.
    Partial(usize),
    /// No line end within the limit.
    TooLong,
}

/// Searches the end of a line from `searched` on. The line must end, with CR LF, within the first `limit` bytes. Bytes
/// beyond the limit have no effect, so that the outcome does not depend on how the bytes arrive.
///
/// # Errors
///
/// For a line end that is not CR LF, and for a control character other than HTAB.
pub(super) fn end(bytes: &[u8], searched: usize, limit: usize) -> Result<LineEnd, FramingError> {
    let window = &bytes[..bytes.len().min(limit)];
    let rest = window.get(searched..).unwrap_or_default();
    let partial = |searched| if bytes.len() > limit { LineEnd::TooLong } else { LineEnd::Partial(searched) };
    let Some(offset) = rest.iter().position(|byte| is_control(*byte)) else {
        return Ok(partial(window.len()));
    };
    let at = searched + offset;
    match (window[at], window.get(at + 1)) {
        (b'\r', Some(b'\n')) => Ok(LineEnd::At(at)),
        (b'\r', None) => Ok(partial(at)),
        (b'\r', Some(_)) => Err(FramingError::BareCr),
        (b'\n', _) => Err(FramingError::BareLf),
        _ => Err(FramingError::ControlCharacter),
    }
}

const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}
