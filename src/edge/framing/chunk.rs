//! The line before the data of a chunk: its size and extensions.
//!
//! Owns: the syntax of this line. Never: the data (`follower`).

use super::FramingError;

/// Maximum hexadecimal digits of a size, so that every size fits into 60 bits.
const MAX_DIGITS: usize = 15;
/// Maximum bytes of the extensions of a chunk. No known client sends any.
const MAX_EXTENSION: usize = 256;
/// Maximum bytes of the line with its line end.
pub(super) const MAX_LINE: usize = MAX_DIGITS + MAX_EXTENSION + 2;

/// Returns the size of a chunk from a line without its line end. The line has no control characters.
///
/// # Errors
///
/// When the size is not a number of at most 15 hexadecimal digits, or its extensions are too long or not ASCII.
pub(super) fn size(line: &[u8]) -> Result<u64, FramingError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, extension) = line.split_at(digits);
    if !(1..=MAX_DIGITS).contains(&digits) || !matches!(extension.first(), None | Some(b';')) {
        return Err(FramingError::ChunkSize);
    }
    if extension.len() > MAX_EXTENSION || !extension.is_ascii() {
        return Err(FramingError::ChunkExtension);
    }
    let digit = |byte: &u8| u64::from((*byte as char).to_digit(16).unwrap_or(0));
    Ok(number.iter().fold(0, |size, byte| size << 4 | digit(byte)))
}
