use std::task::Waker;

use tokio::net::TcpListener;

use super::*;

const ALLOWED: FrameLimits = FrameLimits { max_frame: 1000, frames_per_second: 1000 };
const PATIENCE: Duration = Duration::from_secs(10);

async fn pair() -> (Box<WebSocketStream>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (WebSocketStream::new(server, Vec::new()), client)
}

/// A text frame of a client, with a mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()
}

fn kept(wire: &WebSocketStream) -> usize {
    wire.unread.capacity() + wire.unwritten.capacity() + usize::from(!wire.reader.at_rest())
}

/// Writes until the stream accepts no more bytes. Returns the written bytes.
fn stuff(wire: &mut WebSocketStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        while wire.is_writable() {
            let chunk: Vec<u8> = (0..100_000).map(|n| (n + all.len()) as u8).collect();
            wire.write(PATIENCE, |out| out.extend_from_slice(&chunk)).unwrap();
            all.extend_from_slice(&chunk);
        }
        // after a partial write only the next write shows that the stream is full
        match wire.poll_flow(&mut context) {
            Poll::Pending => return all,
            Poll::Ready(flows) => flows.unwrap(),
        }
        wire.write(PATIENCE, |_| ()).unwrap();
    }
}

#[tokio::test]
async fn a_text_that_takes_time_holds_up_those_behind_it() {
    let (mut wire, mut client) = pair().await;
    client.write_all(&[frame("a"), frame("b"), frame("c")].concat()).await.unwrap();
    for expected in ["a", "b", "c"] {
        assert_eq!(wire.recv_text(ALLOWED).await.unwrap(), expected);
    }
    assert_eq!(kept(&wire), 0);
}

#[tokio::test]
async fn at_rest_a_socket_owns_no_buffer() {
    let (mut wire, mut client) = pair().await;
    client.write_all(&frame("hello")).await.unwrap();
    wire.recv_text(ALLOWED).await.unwrap();
    wire.ping();
    wire.write(PATIENCE, |out| writer::text(out, &[b"x"])).unwrap();
    assert_eq!(kept(&wire), 0);
    let mut received = [0; 5];
    client.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"\x89\x00\x81\x01x", "the ping that waited goes first, in the same write");
}

#[tokio::test]
async fn what_the_stream_does_not_take_follows_in_order() {
    let (mut wire, mut client) = pair().await;
    let expected = stuff(&mut wire);
    assert!(kept(&wire) > 0);
    let length = expected.len();
    let reading = tokio::spawn(async move {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).await.map(|_| bytes)
    });
    while kept(&wire) > 0 {
        poll_fn(|cx| wire.poll_flow(cx)).await.unwrap();
        wire.write(PATIENCE, |_| ()).unwrap();
    }
    assert!(reading.await.unwrap().unwrap() == expected);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_nothing_for_too_long_is_given_up() {
    let (mut wire, _client) = pair().await;
    stuff(&mut wire);
    let end = poll_fn(|cx| wire.poll_flow(cx)).await.unwrap_err();
    assert_eq!(end.code(), CloseCode::SlowConsumer);
}

#[tokio::test]
async fn every_fragment_counts_as_a_frame_even_an_empty_one() {
    let (mut wire, mut client) = pair().await;
    let allowed = FrameLimits { frames_per_second: 10, ..ALLOWED };
    let fragment = |first: u8| [first, 0x80, 0, 0, 0, 0];
    client.write_all(&fragment(0x01)).await.unwrap();
    client.write_all(&fragment(0x00).repeat(10)).await.unwrap();
    let end = tokio::time::timeout(PATIENCE, wire.recv_text(allowed)).await.expect("an end").unwrap_err();
    assert!(matches!(end, Disconnect::Close(close) if close.code == CloseCode::RateLimit), "{end:?}");
}

#[test]
fn only_a_socket_that_its_client_or_its_node_has_not_closed_says_that_the_node_is_bad() {
    let closed = |code| Disconnect::Close(Close::new(code, "")).of_page();
    assert_eq!(Disconnect::Lost.of_page(), Some(SocketEnd::Broken));
    for code in [CloseCode::Silent, CloseCode::SlowConsumer] {
        assert_eq!(closed(code), Some(SocketEnd::Broken), "{code:?}");
    }
    assert_eq!(Disconnect::Closed(Some(1001)).of_page(), Some(SocketEnd::Left));
    for code in [CloseCode::Draining, CloseCode::Replaced, CloseCode::Unregistered, CloseCode::RateLimit] {
        assert_eq!(closed(code), None, "{code:?}");
    }
}
