//! Follows the requests in the bytes of a connection.
//!
//! Owns: where each request, body and chunk begins and ends. Never: bytes; the caller keeps those that are not released.

use super::chunk;
use super::field::FieldLine;
use super::head::{BodyFraming, HeadReader, RequestFraming, Successor};
use super::line::{self, LineEnd};
use super::{FramingError, FramingRefusal};

/// Fields that a trailer must not have, because they decide framing, route or identity (RFC 9110, 6.5.1).
const NO_TRAILERS: [&[u8]; 17] = [
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];
/// Prefix of further fields that a trailer must not have.
const NO_TRAILER_PREFIX: &[u8] = b"x-forwarded-";

/// A connection whose requests are followed from their first byte on.
///
/// [`RequestFollower::follow`] gets the bytes that have arrived and returns how many of them are checked. A head counts
/// as checked when it is complete, so the caller never passes a part of a head that is refused later. Bodies are
/// checked as they arrive, and data of known length is skipped without a look at it.
#[derive(Debug)]
pub struct RequestFollower {
    position: Position,
    successor: Successor,
    /// Maximum bytes of a head, and of all trailer fields of a body.
    limit: usize,
    requests: u64,
}

#[derive(Debug)]
enum Position {
    Head(HeadReader),
    /// In a body with this many bytes left.
    Sized(u64),
    /// In the line before a chunk, in which the line end was searched up to here.
    ChunkLine(usize),
    /// In a chunk with this many bytes left.
    ChunkData(u64),
    /// At the line end behind the data of a chunk.
    ChunkEnd,
    /// In the trailer fields, which may have `room` more bytes. The line end was searched up to `searched`.
    Trailers {
        room: usize,
        searched: usize,
    },
    /// Behind the last request of the connection.
    Ended,
    /// Behind a request for another protocol.
    Released,
    Refused(FramingRefusal),
}

impl RequestFollower {
    /// A follower of a new connection. A request head, and the trailer fields of a body, have at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            position: Position::Head(HeadReader::default()),
            successor: Successor::Request,
            limit,
            requests: 0,
        }
    }

    /// Checks bytes and returns how many of them may be passed on. `pending` begins with the first byte that was not
    /// passed on: the next call gets the rest again, followed by the bytes that have arrived since. After a refusal and
    /// after the last request of a connection no further bytes are passed on.
    pub fn follow(&mut self, pending: &[u8]) -> usize {
        let mut checked = 0;
        loop {
            match self.step(&pending[checked..]) {
                Ok(0) => return checked,
                Ok(length) => checked += length,
                Err(reason) => {
                    let is_in_body = !matches!(self.position, Position::Head(_));
                    self.position = Position::Refused(FramingRefusal { reason, is_in_body });
                    return checked;
                }
            }
        }
    }

    /// Returns why the bytes after the checked ones are refused.
    pub fn refusal(&self) -> Option<FramingRefusal> {
        match self.position {
            Position::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Returns the number of complete heads.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Returns whether the last request of the connection is complete, because the client asked to close it then.
    pub fn has_ended(&self) -> bool {
        matches!(self.position, Position::Ended)
    }

    /// Returns whether the last request asks for a WebSocket, so that the bytes behind it may be of another protocol.
    /// They are not followed: the connection must not go on with HTTP.
    pub fn is_released(&self) -> bool {
        matches!(self.position, Position::Released)
    }

    /// Checks the next element. Returns its length, and 0 when its end has not arrived yet.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, FramingError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match &mut self.position {
            Position::Head(reader) => {
                let Some(head) = reader.read(bytes, self.limit)? else { return Ok(0) };
                Ok(self.enter_body(&head))
            }
            Position::Sized(left) => {
                let length = skip(left, bytes);
                if *left == 0 {
                    self.position = self.behind_body();
                }
                Ok(length)
            }
            Position::ChunkLine(_) => self.chunk_line(bytes),
            Position::ChunkData(left) => {
                let length = skip(left, bytes);
                if *left == 0 {
                    self.position = Position::ChunkEnd;
                }
                Ok(length)
            }
            Position::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.position = Position::ChunkLine(0);
                    Ok(2)
                }
                [b'\r'] => Ok(0),
                _ => Err(FramingError::ChunkEnd),
            },
            Position::Trailers { .. } => self.trailer(bytes),
            Position::Released => Ok(bytes.len()),
            Position::Ended | Position::Refused(_) => Ok(0),
        }
    }

    fn enter_body(&mut self, head: &RequestFraming) -> usize {
        self.requests += 1;
        self.successor = head.successor;
        self.position = match head.body {
            BodyFraming::Sized(0) => self.behind_body(),
            BodyFraming::Sized(length) => Position::Sized(length),
            BodyFraming::Chunked => Position::ChunkLine(0),
        };
        head.length
    }

    fn behind_body(&self) -> Position {
        match self.successor {
            Successor::Request => Position::Head(HeadReader::default()),
            Successor::Nothing => Position::Ended,
            Successor::OtherProtocol => Position::Released,
        }
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> Result<usize, FramingError> {
        let Position::ChunkLine(searched) = &mut self.position else { return Ok(0) };
        match line::end(bytes, *searched, chunk::MAX_LINE)? {
            LineEnd::At(end) => {
                self.position = match chunk::size(&bytes[..end])? {
                    0 => Position::Trailers { room: self.limit, searched: 0 },
                    size => Position::ChunkData(size),
                };
                Ok(end + 2)
            }
            LineEnd::Partial(end) => {
                *searched = end;
                Ok(0)
            }
            // a line of this length has a size or an extension that is too long
            LineEnd::TooLong => chunk::size(&bytes[..chunk::MAX_LINE]).and(Err(FramingError::ChunkExtension)),
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<usize, FramingError> {
        let Position::Trailers { room, searched } = &mut self.position else { return Ok(0) };
        match line::end(bytes, *searched, *room)? {
            LineEnd::At(0) => {
                self.position = self.behind_body();
                Ok(2)
            }
            LineEnd::At(end) => {
                check_trailer(FieldLine::parse(&bytes[..end])?)?;
                *room -= end + 2;
                *searched = 0;
                Ok(end + 2)
            }
            LineEnd::Partial(end) => {
                *searched = end;
                Ok(0)
            }
            LineEnd::TooLong => Err(FramingError::TrailersTooLarge),
        }
    }
}

/// Takes bytes of known length, and returns how many.
fn skip(left: &mut u64, bytes: &[u8]) -> usize {
    let length = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= length as u64;
    length
}

fn check_trailer(field: FieldLine<'_>) -> Result<(), FramingError> {
    let is_forbidden = NO_TRAILERS.iter().any(|name| field.name.eq_ignore_ascii_case(name))
        || field
            .name
            .get(..NO_TRAILER_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(NO_TRAILER_PREFIX));
    if is_forbidden { Err(FramingError::TrailerField) } else { Ok(()) }
}
