//! Tests of the codec against tungstenite as the reference, and the cases of the Autobahn suite that apply to a
//! server without extensions.

use std::io::{Cursor, Read, Write};

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::{FrameEvent, FrameReader, Violation, writer};

const MAX: usize = 1 << 20;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An event of the reader, with owned data.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ReadEvent {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Feeds the stream in chunks of the given sizes, repeated in a cycle.
fn read_all(stream: &[u8], chunks: &[usize], max: usize) -> Result<Vec<ReadEvent>, Violation> {
    let mut reader = FrameReader::default();
    let mut events = Vec::new();
    let mut sizes = chunks.iter().copied().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        rest = later;
        let mut chunk = now.to_vec();
        let mut input = chunk.as_mut_slice();
        while let Some(event) = reader.read(&mut input, max)? {
            events.push(match event {
                FrameEvent::Fragment => continue,
                FrameEvent::Text(text) => ReadEvent::Text(text.into_owned()),
                FrameEvent::Ping(payload) => ReadEvent::Ping(payload.into_owned()),
                FrameEvent::Pong => ReadEvent::Pong,
                FrameEvent::Close(code) => ReadEvent::Close(code),
            });
        }
        assert!(input.is_empty(), "nothing is left behind");
    }
    Ok(events)
}

/// Encodes a frame like a client.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// One direction of a socket in memory.
struct Pipe {
    incoming: Cursor<Vec<u8>>,
    outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.incoming.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.outgoing.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn oracle(incoming: Vec<u8>) -> WebSocket<Pipe> {
    let pipe = Pipe { incoming: Cursor::new(incoming), outgoing: Vec::new() };
    WebSocket::from_raw_socket(pipe, Role::Client, Some(WebSocketConfig::default()))
}

fn events() -> impl Strategy<Value = ReadEvent> {
    prop_oneof![
        4 => "\\PC{0,200}".prop_map(ReadEvent::Text),
        1 => (120usize..70_000).prop_map(|length| ReadEvent::Text("é".repeat(length / 2))),
        1 => prop::collection::vec(any::<u8>(), 0..=125).prop_map(ReadEvent::Ping),
        1 => Just(ReadEvent::Pong),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_client_library_sends_is_read_in_any_chunks(
        sent in prop::collection::vec(events(), 0..12),
        chunks in prop::collection::vec(1usize..9000, 1..5),
    ) {
        let mut client = oracle(Vec::new());
        for message in &sent {
            let message = match message.clone() {
                ReadEvent::Text(text) => Message::text(text),
                ReadEvent::Ping(payload) => Message::Ping(payload.into()),
                ReadEvent::Pong => Message::Pong(Vec::new().into()),
                ReadEvent::Close(_) => continue,
            };
            client.send(message).unwrap();
        }
        client.close(None).unwrap();
        let read = read_all(&client.get_ref().outgoing, &chunks, MAX).unwrap();
        let mut expected = sent;
        expected.push(ReadEvent::Close(None));
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn whatever_the_writer_writes_a_client_library_reads(
        texts in prop::collection::vec(("\\PC{0,40}", 0usize..70_000), 1..8),
        ping in prop::collection::vec(any::<u8>(), 0..=125),
    ) {
        let mut stream = Vec::new();
        for (head, length) in &texts {
            writer::text(&mut stream, &[head.as_bytes(), &b"x".repeat(*length)]);
        }
        writer::ping(&mut stream);
        writer::pong(&mut stream, &ping);
        writer::close(&mut stream, 4500, r#"{"retry_after_ms":1500}"#);

        let mut client = oracle(stream);
        for (head, length) in &texts {
            prop_assert_eq!(client.read().unwrap(), Message::text(head.clone() + &"x".repeat(*length)));
        }
        prop_assert_eq!(client.read().unwrap(), Message::Ping(Vec::new().into()));
        prop_assert_eq!(client.read().unwrap(), Message::Pong(ping.into()));
        let Message::Close(Some(frame)) = client.read().unwrap() else { panic!("a close") };
        prop_assert_eq!(u16::from(frame.code), 4500);
        prop_assert_eq!(frame.reason.as_str(), r#"{"retry_after_ms":1500}"#);
    }

    #[test]
    fn chunks_never_change_what_is_read(
        stream in prop::collection::vec(any::<u8>(), 0..200),
        chunks in prop::collection::vec(1usize..40, 1..5),
    ) {
        let at_once = read_all(&stream, &[stream.len()], 64);
        prop_assert_eq!(read_all(&stream, &chunks, 64), at_once);
    }

    #[test]
    fn what_is_accepted_is_what_a_server_library_accepts(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 1..6),
    ) {
        let mut stream: Vec<u8> = frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect();
        // this reader checks the text of a complete message, tungstenite checks it at its first wrong byte
        if frames.iter().rev().find(|(first, _)| first & 0x08 == 0).is_some_and(|(first, _)| first & 0x80 == 0) {
            stream.extend(masked(0x80, &[]));
        }
        let ours = read_all(&stream, &[7], MAX);
        let pipe = Pipe { incoming: Cursor::new(stream), outgoing: Vec::new() };
        let mut server = WebSocket::from_raw_socket(pipe, Role::Server, None);
        let refused = loop {
            match server.read() {
                Ok(Message::Binary(_) | Message::Close(_)) => return Ok(()),
                Ok(_) => {}
                Err(tungstenite::Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                )) => break false,
                Err(tungstenite::Error::Io(_)) => break false,
                Err(_) => break true,
            }
        };
        // this reader refuses the first binary fragment, tungstenite reports it with the last one
        if ours != Err(Violation::Binary) {
            prop_assert_eq!(ours.is_err(), refused, "{:?}", ours);
        }
    }
}

proptest! {
    #[test]
    fn any_reason_fits_into_a_close_frame_as_json(text in any::<String>(), repeat in 1usize..20) {
        let text = text.repeat(repeat);
        let reason = writer::reason(&text);
        prop_assert!(reason.len() <= 123);
        let read: serde_json::Value = serde_json::from_str(&reason).unwrap();
        prop_assert!(text.starts_with(read["reason"].as_str().unwrap()));
    }
}

const TEXT: u8 = 0x81;
const TEXT_MORE: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

fn joined(frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect()
}

fn text(text: &str) -> ReadEvent {
    ReadEvent::Text(text.to_owned())
}

type Case<'a> = (&'a str, Vec<(u8, &'a [u8])>, Result<Vec<ReadEvent>, Violation>);

fn cases() -> Vec<Case<'static>> {
    let kappa = "κόσμε";
    let mut cases: Vec<Case<'static>> = vec![
        ("1.1.1 empty text", vec![(TEXT, b"")], Ok(vec![text("")])),
        ("1.2.1 binary", vec![(0x82, b"x")], Err(Violation::Binary)),
        ("2.1 empty ping", vec![(PING, b"")], Ok(vec![ReadEvent::Ping(vec![])])),
        ("2.3 binary ping", vec![(PING, b"\0\xff\xfe")], Ok(vec![ReadEvent::Ping(b"\0\xff\xfe".to_vec())])),
        ("2.4 ping of 125", vec![(PING, &[0xfe; 125])], Ok(vec![ReadEvent::Ping(vec![0xfe; 125])])),
        ("2.5 ping of 126", vec![(PING, &[0xfe; 126])], Err(Violation::Control)),
        ("2.7 unasked pong", vec![(PONG, b"")], Ok(vec![ReadEvent::Pong])),
        ("3.1 RSV 1", vec![(TEXT | 0x10, b"x")], Err(Violation::Reserved)),
        ("3.4 RSV 4 after text", vec![(TEXT, b"a"), (TEXT | 0x40, b"x")], Err(Violation::Reserved)),
        ("5.1 fragmented ping", vec![(0x09, b"a"), (LAST, b"b")], Err(Violation::Control)),
        ("5.2 fragmented pong", vec![(0x0A, b"a"), (LAST, b"b")], Err(Violation::Control)),
        ("5.3 two fragments", vec![(TEXT_MORE, b"a"), (LAST, b"b")], Ok(vec![text("ab")])),
        (
            "5.6 ping between fragments",
            vec![(TEXT_MORE, b"a"), (PING, b"p"), (LAST, b"b")],
            Ok(vec![ReadEvent::Ping(b"p".to_vec()), text("ab")]),
        ),
        ("5.9 continuation of nothing", vec![(LAST, b"a"), (TEXT, b"b")], Err(Violation::Fragmentation)),
        ("5.12 the same, not last", vec![(MORE, b"a"), (TEXT, b"b")], Err(Violation::Fragmentation)),
        ("5.18 text inside text", vec![(TEXT_MORE, b"a"), (TEXT, b"b")], Err(Violation::Fragmentation)),
        (
            "5.15 continuation after the last",
            vec![(TEXT_MORE, b"a"), (LAST, b"b"), (MORE, b"c")],
            Err(Violation::Fragmentation),
        ),
        ("6.1.2 three empty fragments", vec![(TEXT_MORE, b""), (MORE, b""), (LAST, b"")], Ok(vec![text("")])),
        ("6.2.1 UTF-8", vec![(TEXT, kappa.as_bytes())], Ok(vec![text(kappa)])),
        (
            "6.2.2 a character over two fragments",
            vec![(TEXT_MORE, &kappa.as_bytes()[..1]), (LAST, &kappa.as_bytes()[1..])],
            Ok(vec![text(kappa)]),
        ),
        ("6.3.1 invalid UTF-8", vec![(TEXT, b"\xce\xba\xed\xa0\x80e")], Err(Violation::Utf8)),
        ("6.4.1 over fragments", vec![(TEXT_MORE, b"\xf4"), (LAST, b"\x90\x80\x80")], Err(Violation::Utf8)),
        ("7.3.1 close without payload", vec![(CLOSE, b"")], Ok(vec![ReadEvent::Close(None)])),
        ("7.3.2 close of one byte", vec![(CLOSE, b"a")], Err(Violation::CloseCode)),
        ("7.3.4 close with reason", vec![(CLOSE, b"\x03\xe8Hello")], Ok(vec![ReadEvent::Close(Some(1000))])),
        ("7.5.1 invalid UTF-8 as reason", vec![(CLOSE, b"\x03\xe8\xce\xba\xed\xa0")], Err(Violation::Utf8)),
    ];
    for (name, first) in [("4.1 reserved data opcode", 0x83), ("4.2 reserved control opcode", 0x8B)] {
        cases.push((name, vec![(first, b"x")], Err(Violation::Reserved)));
    }
    cases
}

#[test]
fn every_ported_case_of_the_autobahn_suite_holds_in_whole_and_byte_by_byte() {
    for (name, frames, expected) in cases() {
        let stream = joined(&frames);
        for chunk in [stream.len(), 1, 3] {
            assert_eq!(read_all(&stream, &[chunk], MAX), expected, "{name} in chunks of {chunk}");
        }
    }
}

#[test]
fn only_close_codes_that_may_be_sent_are_accepted() {
    for code in [1000u16, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999] {
        assert_eq!(
            read_all(&masked(CLOSE, &code.to_be_bytes()), &[9], MAX),
            Ok(vec![ReadEvent::Close(Some(code))])
        );
    }
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535] {
        let read = read_all(&masked(CLOSE, &code.to_be_bytes()), &[9], MAX);
        assert_eq!(read, Err(Violation::CloseCode), "{code}");
    }
}

#[test]
fn an_unmasked_frame_is_refused() {
    assert_eq!(read_all(&[TEXT, 1, b'a'], &[3], MAX), Err(Violation::Unmasked));
}

#[test]
fn a_message_over_the_limit_is_refused_before_its_payload_arrives() {
    assert_eq!(read_all(&masked(TEXT, &[b'a'; 300])[..4], &[4], 299), Err(Violation::TooLarge));
    assert!(read_all(&masked(TEXT, &[b'a'; 300]), &[4], 300).is_ok());
    let fragments = joined(&[(TEXT_MORE, &[b'a'; 200]), (LAST, &[b'a'; 100])]);
    assert_eq!(read_all(&fragments, &[50], 299), Err(Violation::TooLarge));
    assert!(read_all(&fragments, &[50], 300).is_ok());
    let huge = [TEXT, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(read_all(&huge, &[10], 300), Err(Violation::TooLarge));
}

#[test]
fn nothing_is_kept_between_messages() {
    let mut reader = FrameReader::default();
    let mut frame = masked(TEXT, b"hello");
    let (front, back) = frame.split_at_mut(4);
    let (mut front, mut back) = (front, back);
    assert_eq!(reader.read(&mut front, MAX), Ok(None));
    assert!(!reader.at_rest());
    assert_eq!(reader.read(&mut back, MAX), Ok(Some(FrameEvent::Text("hello".into()))));
    assert!(reader.at_rest());
    assert_eq!(reader.frame.capacity(), 0, "the buffer went with its frame");
}
