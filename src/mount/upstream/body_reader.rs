//! Finds the body of a response in the bytes of a connection. Pure.
//!
//! Owns: chunks and lengths. Never: the connection.

use bytes::Bytes;

use super::input::Input;
use super::response_head::BodyEnd;

/// Maximum bytes of the line before a chunk, and of all trailers.
const MAX_LINE: usize = 4096;
/// Maximum hexadecimal digits of the size of a chunk.
const MAX_DIGITS: usize = 15;

/// The place in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyReader {
    /// This many bytes are left.
    Sized(u64),
    /// Before the size of a chunk.
    ChunkLine,
    /// In a chunk with this many bytes left.
    Chunk(u64),
    /// Behind the data of a chunk.
    ChunkEnd,
    /// Behind the last chunk, where trailers of this many bytes may follow.
    Trailers(usize),
    /// In a body that ends with the connection.
    Close,
}

/// The next part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyPart {
    Data(Bytes),
    End,
    /// More bytes have to arrive.
    Missing,
}

/// The chunks of a body are malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunks of the upstream are malformed")]
pub(super) struct ChunkError;

impl BodyReader {
    pub(super) const fn new(end: BodyEnd) -> Self {
        match end {
            BodyEnd::Sized(length) => Self::Sized(length),
            BodyEnd::Chunked => Self::ChunkLine,
            BodyEnd::Close => Self::Close,
        }
    }

    /// Returns how many bytes are left, if that is known.
    pub(super) const fn left(self) -> Option<u64> {
        match self {
            Self::Sized(left) => Some(left),
            _ => None,
        }
    }

    /// Returns whether the end of the connection is the end of the body.
    pub(super) const fn ends_with_connection(self) -> bool {
        matches!(self, Self::Close)
    }

    /// Takes the next part out of what has arrived.
    ///
    /// # Errors
    ///
    /// [`ChunkError`] for anything but a chunk where one begins or ends.
    pub(super) fn next(&mut self, input: &mut Input) -> Result<BodyPart, ChunkError> {
        loop {
            let arrived = input.filled();
            match self {
                Self::Sized(0) => return Ok(BodyPart::End),
                _ if arrived.is_empty() => return Ok(BodyPart::Missing),
                Self::Sized(left) => return Ok(BodyPart::Data(data(left, input))),
                Self::Chunk(left) => {
                    let part = data(left, input);
                    if *left == 0 {
                        *self = Self::ChunkEnd;
                    }
                    return Ok(BodyPart::Data(part));
                }
                Self::Close => {
                    let length = arrived.len();
                    return Ok(BodyPart::Data(input.take(length)));
                }
                Self::ChunkEnd => match arrived {
                    [b'\r', b'\n', ..] => {
                        input.skip(2);
                        *self = Self::ChunkLine;
                    }
                    [b'\r'] => return Ok(BodyPart::Missing),
                    _ => return Err(ChunkError),
                },
                Self::ChunkLine => {
                    let Some(line) = line(arrived, MAX_LINE)? else { return Ok(BodyPart::Missing) };
                    *self = match chunk_size(&arrived[..line])? {
                        0 => Self::Trailers(MAX_LINE),
                        size => Self::Chunk(size),
                    };
                    input.skip(line + 2);
                }
                Self::Trailers(room) => {
                    let Some(line) = line(arrived, *room)? else { return Ok(BodyPart::Missing) };
                    *self = if line == 0 { Self::Sized(0) } else { Self::Trailers(*room - line - 2) };
                    input.skip(line + 2);
                }
            }
        }
    }
}

fn data(left: &mut u64, input: &mut Input) -> Bytes {
    let arrived = input.filled().len();
    let length = usize::try_from(*left).map_or(arrived, |left| left.min(arrived));
    *left -= length as u64;
    input.take(length)
}

/// Returns the length of the first line, which must end with CR LF within `limit` bytes; `None` if it is not complete.
fn line(bytes: &[u8], limit: usize) -> Result<Option<usize>, ChunkError> {
    let window = &bytes[..bytes.len().min(limit)];
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    let end = window.iter().position(is_control);
    match end.map(|end| (end, &window[end..])) {
        Some((end, [b'\r', b'\n', ..])) => Ok(Some(end)),
        Some((_, [b'\r'])) | None if bytes.len() < limit => Ok(None),
        _ => Err(ChunkError),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, ChunkError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let extension = line[digits..].trim_ascii_start();
    if !(1..=MAX_DIGITS).contains(&digits) || !matches!(extension.first(), None | Some(b';')) {
        return Err(ChunkError);
    }
    let digit = |byte: &u8| u64::from(char::from(*byte).to_digit(16).unwrap_or_default());
    Ok(line[..digits].iter().fold(0, |size, byte| size << 4 | digit(byte)))
}
