//! The headers that the engine writes and reads.
//!
//! Owns: the conversion of messages and entries to NATS headers and back. Never: decisions based on them.
//!
//! Avoids: async-nats keeps its parser private, and the server returns the headers of a read from the leader as one
//! block of text.

use async_nats::{HeaderMap, HeaderName, Message as Raw};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use crate::engine::{Entry, Headers, Message, OperationId};
use crate::id::{KEY_LENGTH, Key};
use crate::trace::TraceParent;

const TRACE: HeaderName = HeaderName::from_static("traceparent");
const ENTRY: HeaderName = HeaderName::from_static("Pw-Entry");
const KV_OPERATION: HeaderName = HeaderName::from_static("KV-Operation");

/// The separator between an operation id and a meta: `TEXT` before plain text, `BINARY` before base64.
const TEXT: char = ' ';
const BINARY: char = '=';

/// The number of matching messages after this one.
pub(super) const PENDING: HeaderName = HeaderName::from_static("Nats-Num-Pending");
/// The id of a work item that was pushed.
pub(super) const ID: HeaderName = HeaderName::from_static("Pw-Id");

/// A delete marker, which remains for a while after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    /// Whether the TTL removed the key.
    pub(super) expired: bool,
}

/// Converts the headers of a message on the Bus. Returns `None` for most messages, because they have none.
pub(super) fn encode(headers: &Headers) -> Option<HeaderMap> {
    let trace = headers.trace.as_ref()?;
    let mut map = HeaderMap::new();
    map.insert(TRACE, trace.as_str());
    Some(map)
}

/// Converts a message received on the Bus.
pub(super) fn message(raw: Raw) -> Message {
    let trace = raw.headers.as_ref().and_then(|map| text(map, &TRACE)).and_then(TraceParent::parse);
    let headers = Headers { trace };
    Message {
        subject: raw.subject.into_string(),
        reply: raw.reply.map(|reply| reply.into_string()),
        headers,
        payload: raw.payload,
    }
}

/// Creates the header of an entry: its operation id, then its meta, so that a consumer of headers alone
/// receives both. Text is stored unchanged, other bytes in base64. Both are in one header, because the
/// overhead of a header is as large as its content.
pub(super) fn entry(op: OperationId, meta: &[u8]) -> HeaderMap {
    let mut line = Key::from_bits(u128::from_be_bytes(op.0)).to_string();
    match std::str::from_utf8(meta) {
        Ok("") => {}
        Ok(text) if text.trim() == text && !text.contains(char::is_control) => {
            line.reserve(1 + text.len());
            line.push(TEXT);
            line.push_str(text);
        }
        _ => {
            line.push(BINARY);
            BASE64.encode_string(meta, &mut line);
        }
    }
    let mut map = HeaderMap::new();
    map.insert(ENTRY, line);
    map
}

/// Converts a stored message into an entry. A message without this header has an empty operation id and meta,
/// because another client wrote it.
pub(super) fn stored(key: String, rev: u64, map: &HeaderMap, value: Bytes) -> Entry {
    let (op, meta) = text(map, &ENTRY).and_then(read).unwrap_or_default();
    Entry { key, rev, op, meta, value }
}

fn read(line: &str) -> Option<(OperationId, Bytes)> {
    let (op, rest) = line.split_at_checked(KEY_LENGTH)?;
    let op = OperationId(op.parse::<Key>().ok()?.bits().to_be_bytes());
    let meta = match rest.strip_prefix(TEXT) {
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
        None => rest.strip_prefix(BINARY).map_or(Some(Vec::new()), |meta| BASE64.decode(meta).ok())?.into(),
    };
    Some((op, meta))
}

/// Creates the headers of a deletion. The TTL removes the marker; without it the marker would remain for
/// ever.
pub(super) fn deletion(ttl: std::time::Duration) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(KV_OPERATION, "PURGE");
    expire(&mut map, ttl);
    map
}

/// Sets the TTL of a message, in whole seconds.
pub(super) fn expire(map: &mut HeaderMap, ttl: std::time::Duration) {
    map.insert(async_nats::header::NATS_MESSAGE_TTL, format!("{}s", ttl.as_secs()));
}

/// Returns the delete marker, if the message is one: written by this engine, or by the server after a TTL.
pub(super) fn marker(map: &HeaderMap) -> Option<Marker> {
    if let Some(reason) = text(map, &async_nats::header::NATS_MARKER_REASON) {
        return Some(Marker { expired: reason == "MaxAge" });
    }
    matches!(text(map, &KV_OPERATION), Some("PURGE" | "DEL")).then_some(Marker { expired: false })
}

/// Returns the value of a header.
pub(super) fn text<'a>(map: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    map.get(name.clone()).map(|value| value.as_str())
}

/// Returns the value of a numeric header.
pub(super) fn number(map: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(map, name)?.parse().ok()
}

/// Parses headers in wire format, as `STREAM.MSG.GET` returns them: a status line, then `name: value` lines.
pub(super) fn parse(wire: &[u8]) -> HeaderMap {
    let wire = String::from_utf8_lossy(wire);
    let lines = wire.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.trim().parse().ok()?)))
        .collect::<HeaderMap>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_entry_survives_its_headers(op: [u8; 16], meta: Vec<u8>) {
            let read = stored("k".to_owned(), 7, &entry(OperationId(op), &meta), Bytes::from_static(b"v"));
            prop_assert_eq!((read.op, read.meta.to_vec(), read.rev), (OperationId(op), meta, 7));
        }

        #[test]
        fn so_does_one_whose_meta_is_text(op: [u8; 16], meta in "\\PC{0,20}") {
            let written = entry(OperationId(op), meta.as_bytes());
            let read = stored("k".to_owned(), 7, &written, Bytes::new());
            prop_assert_eq!((read.op, &read.meta[..]), (OperationId(op), meta.as_bytes()));
            // the form in which the server returns it
            let line = format!("NATS/1.0\r\nPw-Entry: {}\r\n\r\n", text(&written, &ENTRY).unwrap());
            prop_assert_eq!(stored("k".to_owned(), 7, &parse(line.as_bytes()), Bytes::new()), Entry { value: Bytes::new(), ..read });
        }

        #[test]
        fn any_bytes_parse_as_headers_without_panic(wire: Vec<u8>) {
            parse(&wire);
        }
    }

    #[test]
    fn deletions_are_told_apart_from_expiry() {
        let ours = parse(b"NATS/1.0\r\nKV-Operation: PURGE\r\nNats-TTL: 900s\r\n\r\n");
        assert_eq!(marker(&ours), Some(Marker { expired: false }));
        let aged = parse(b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 15m0s\r\n\r\n");
        assert_eq!(marker(&aged), Some(Marker { expired: true }));
        assert_eq!(marker(&entry(OperationId([1; 16]), b"meta")), None);
        assert_eq!(marker(&deletion(std::time::Duration::from_secs(900))), Some(Marker { expired: false }));
    }
}
