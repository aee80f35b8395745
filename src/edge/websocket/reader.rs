//! Decodes the frames of a client from chunks of any size.
//!
//! A frame that is complete within one chunk is unmasked in place and borrowed from it. Only the bytes of an
//! incomplete frame or message are kept, and freed with the last byte: a page at rest owns no buffer.

use std::borrow::Cow;

use super::{MAX_CONTROL, Opcode};

/// A frame of the client. Each frame is one event, so that the caller can count them.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameEvent<'a> {
    /// A text message, with its fragments joined.
    Text(Cow<'a, str>),
    /// A part of a text message that is not complete yet.
    Fragment,
    /// A ping, to be answered with the same payload.
    Ping(Cow<'a, [u8]>),
    /// A pong: the client is alive.
    Pong,
    /// The client closes, with its code if it sent one.
    Close(Option<u16>),
}

/// Violation of the protocol after which a socket must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A reserved bit without an extension, or a reserved opcode.
    #[error("reserved bit or opcode")]
    Reserved,
    /// A frame without a mask; frames of a client must be masked.
    #[error("unmasked frame")]
    Unmasked,
    /// A fragmented control frame, or one over 125 bytes.
    #[error("invalid control frame")]
    Control,
    /// A continuation without a message, or a new message inside a fragmented one.
    #[error("invalid fragmentation")]
    Fragmentation,
    /// A text or a close reason that is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// A close payload of one byte, or with a code that must not be sent.
    #[error("invalid close code")]
    CloseCode,
    /// A binary message; `pagewire.v1` has none.
    #[error("binary messages are not supported")]
    Binary,
    /// A message over the limit.
    #[error("message too large")]
    TooLarge,
}

/// The state of the decoder between two chunks.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// An incomplete frame, as received.
    pub(super) frame: Vec<u8>,
    /// The unmasked fragments of an incomplete message.
    message: Option<Vec<u8>>,
}

struct Header {
    last: bool,
    opcode: Opcode,
    mask: [u8; 4],
    length: usize,
    payload: usize,
}

/// A complete frame and its unmasked payload.
type Frame<'i> = (Header, Cow<'i, [u8]>);

impl FrameReader {
    /// Takes the next event off the front of `input`. Returns `None` when all of `input` was consumed and more is
    /// needed. `max` is the largest message in bytes.
    ///
    /// # Errors
    ///
    /// The [`Violation`] of the client. The reader must not be used again after it.
    pub fn read<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        max: usize,
    ) -> Result<Option<FrameEvent<'i>>, Violation> {
        match self.next_frame(input, max)? {
            Some((header, payload)) => self.assemble(&header, payload).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the bytes so far end between two messages.
    #[cfg(test)]
    pub fn at_rest(&self) -> bool {
        self.frame.is_empty() && self.message.is_none()
    }

    /// Takes the next complete frame off `input`, unmasked.
    fn next_frame<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        max: usize,
    ) -> Result<Option<Frame<'i>>, Violation> {
        let room = max.saturating_sub(self.message.as_ref().map_or(0, Vec::len));
        if self.frame.is_empty() {
            match header(input, room)? {
                Some(header) if input.len() - header.payload >= header.length => {
                    let frame = take(input, header.payload + header.length);
                    let payload = &mut frame[header.payload..];
                    unmask(payload, header.mask);
                    return Ok(Some((header, Cow::Borrowed(payload))));
                }
                _ => {}
            }
        }
        // one byte decides how long the header is, the header how long the frame is
        loop {
            let header = header(&self.frame, room)?;
            let missing = match &header {
                Some(header) => header.payload + header.length - self.frame.len(),
                None => 1,
            };
            if let (0, Some(header)) = (missing, header) {
                let mut frame = std::mem::take(&mut self.frame);
                frame.drain(..header.payload);
                unmask(&mut frame, header.mask);
                return Ok(Some((header, Cow::Owned(frame))));
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.frame.extend_from_slice(take(input, missing.min(input.len())));
        }
    }

    fn assemble<'i>(&mut self, header: &Header, payload: Cow<'i, [u8]>) -> Result<FrameEvent<'i>, Violation> {
        match (header.opcode, header.last) {
            (Opcode::Ping, _) => Ok(FrameEvent::Ping(payload)),
            (Opcode::Pong, _) => Ok(FrameEvent::Pong),
            (Opcode::Close, _) => close_code(&payload).map(FrameEvent::Close),
            (Opcode::Binary, _) => Err(Violation::Binary),
            (Opcode::Text, _) if self.message.is_some() => Err(Violation::Fragmentation),
            (Opcode::Text, true) => text(payload),
            (Opcode::Text, false) => {
                self.message = Some(payload.into_owned());
                Ok(FrameEvent::Fragment)
            }
            (Opcode::Continuation, last) => {
                let mut message = self.message.take().ok_or(Violation::Fragmentation)?;
                message.extend_from_slice(&payload);
                if last {
                    return text(Cow::Owned(message));
                }
                self.message = Some(message);
                Ok(FrameEvent::Fragment)
            }
        }
    }
}

/// Decodes a header from the front of `bytes`. Refuses a frame as early as its bytes allow. `None`: incomplete.
fn header(bytes: &[u8], room: usize) -> Result<Option<Header>, Violation> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Violation::Reserved);
    }
    let opcode = Opcode::from_bits(first & 0x0F).ok_or(Violation::Reserved)?;
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    let last = first & 0x80 != 0;
    let short = second & 0x7F;
    if opcode.control() && (!last || usize::from(short) > MAX_CONTROL) {
        return Err(Violation::Control);
    }
    let (length, rest) = match (short, rest) {
        (126, &[a, b, ref rest @ ..]) => (u16::from_be_bytes([a, b]).into(), rest),
        (127, &[a, b, c, d, e, f, g, h, ref rest @ ..]) => {
            (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
        }
        (126 | 127, _) => return Ok(None),
        (short, rest) => (short.into(), rest),
    };
    let length = usize::try_from(length).map_err(|_| Violation::TooLarge)?;
    if length > room && !opcode.control() {
        return Err(Violation::TooLarge);
    }
    let &[a, b, c, d, ref rest @ ..] = rest else { return Ok(None) };
    Ok(Some(Header { last, opcode, mask: [a, b, c, d], length, payload: bytes.len() - rest.len() }))
}

fn take<'i>(input: &mut &'i mut [u8], length: usize) -> &'i mut [u8] {
    let (taken, rest) = std::mem::take(input).split_at_mut(length);
    *input = rest;
    taken
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn text(payload: Cow<'_, [u8]>) -> Result<FrameEvent<'_>, Violation> {
    let text = match payload {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Violation::Utf8)?,
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Violation::Utf8)?,
    };
    Ok(FrameEvent::Text(text))
}

/// Decodes a close payload. Accepts the codes that an endpoint may send: the registered ones and those of
/// applications.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::CloseCode),
        &[a, b, ref reason @ ..] => (u16::from_be_bytes([a, b]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
    Ok(Some(code))
}
