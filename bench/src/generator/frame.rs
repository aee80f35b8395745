//! Parses the server's frames as far as counting requires. Pure.

const FINAL: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG_FRAME: u8 = 0xA;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x5A, 0x17, 0xC3, 0x88];

/// The reply to a ping without payload.
pub(super) const PONG: [u8; 6] = [FINAL | PONG_FRAME, MASKED, MASK[0], MASK[1], MASK[2], MASK[3]];

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Text(&'a [u8]),
    Ping,
    /// Close code and reason.
    Close(&'a [u8]),
    Other,
}

/// Returns the first complete frame and the bytes after it.
pub(super) fn first(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (&[opcode, short], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match short {
        126 => {
            rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?
        }
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        short => (u64::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let frame = match opcode & 0x0F {
        TEXT => Frame::Text(payload),
        PING => Frame::Ping,
        CLOSE => Frame::Close(payload.get(2..).unwrap_or_default()),
        _ => Frame::Other,
    };
    Some((frame, rest))
}

/// Returns the number of a sequenced frame and the bytes after it; `None` for a frame without a number.
pub(super) fn numbered(payload: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = payload.strip_prefix(br#"{"seq":"#)?;
    let mut seq = 0u64;
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        seq = seq.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = after;
    }
    Some((seq, rest.strip_prefix(b",")?))
}

/// Returns the time at which a message was sent, if its payload begins with it.
pub(super) fn sent(text: &[u8]) -> Option<u64> {
    const MARK: &[u8] = br#""payload":{"sent":"#;
    let at = text.windows(MARK.len()).position(|window| window == MARK)?;
    let digits = text[at + MARK.len()..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Encodes a client's text frame. The payload must be shorter than 64 KiB.
pub(super) fn text(payload: &str) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.push(FINAL | TEXT);
    match u8::try_from(length) {
        Ok(short @ 0..=125) => frame.push(MASKED | short),
        _ => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    let masked = payload.bytes().take(usize::from(length)).zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagewire::edge::websocket::{FrameEvent, FrameReader, writer};

    #[test]
    fn what_the_server_writes_is_read_frame_by_frame() {
        let mut bytes = Vec::new();
        let long = "x".repeat(70_000);
        for payload in ["{}", &long[..300], &long] {
            writer::text(&mut bytes, &[payload.as_bytes()]);
        }
        writer::ping(&mut bytes);
        let mut rest = &bytes[..];
        let mut lengths = Vec::new();
        while let Some((Frame::Text(payload), after)) = first(rest) {
            lengths.push(payload.len());
            rest = after;
        }
        assert_eq!(lengths, [2, 300, 70_000]);
        assert_eq!(first(rest), Some((Frame::Ping, &[][..])));
        for end in 0..302 {
            let cut = &bytes[4..][..end];
            assert_eq!(first(cut), None, "{end} bytes are not a whole frame");
        }
    }

    #[test]
    fn what_a_client_writes_the_server_reads() {
        for payload in ["{}".to_owned(), "é".repeat(100)] {
            let mut bytes = text(&payload);
            let mut input = &mut bytes[..];
            let event = FrameReader::default().read(&mut input, 1 << 16).unwrap();
            assert_eq!(event, Some(FrameEvent::Text(payload.as_str().into())));
        }
        let mut pong = PONG;
        assert_eq!(FrameReader::default().read(&mut &mut pong[..], 100).unwrap(), Some(FrameEvent::Pong));
    }

    #[test]
    fn only_sequenced_frames_have_a_number() {
        assert_eq!(numbered(br#"{"seq":170,"type":"message"}"#), Some((170, &br#""type":"message"}"#[..])));
        assert_eq!(numbered(br#"{"type":"pong"}"#), None);
        assert_eq!(numbered(br#"{"seq":99999999999999999999,"#), None);
    }

    #[test]
    fn a_message_tells_when_it_was_sent() {
        assert_eq!(sent(br#""type":"message","payload":{"sent":17,"text":"x"}}"#), Some(17));
        assert_eq!(sent(br#""type":"message","payload":{"text":"sent"}}"#), None);
    }
}
