use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pagewire_cluster::timing::Timing;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::body_reader::{BodyPart, BodyReader, ChunkError};
use super::input::Input;
use super::response_head::{BodyEnd, HeadError, read};
use super::*;
use crate::mount::body::{empty, whole};

fn head(text: &str) -> Result<Option<ResponseHead>, HeadError> {
    read(text.as_bytes(), &Method::GET)
}

#[test]
fn the_end_of_a_body_is_that_of_the_head() {
    for (lines, end, is_kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5", BodyEnd::Sized(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close", BodyEnd::Sized(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5", BodyEnd::Sized(5), false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", BodyEnd::Chunked, true),
        ("HTTP/1.1 200 OK\r\nX-Empty:", BodyEnd::Close, false),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5", BodyEnd::Sized(0), true),
        ("HTTP/1.1 204 No Content", BodyEnd::Sized(0), true),
        ("HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0", BodyEnd::Close, false),
    ] {
        let text = format!("{lines}\r\n\r\nrest");
        let head = head(&text).unwrap().expect("a complete head");
        assert_eq!((head.body, head.is_kept, head.length), (end, is_kept, text.len() - 4), "{lines}");
    }
    let of_head = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", &Method::HEAD).unwrap().unwrap();
    assert_eq!((of_head.body, of_head.headers.len()), (BodyEnd::Sized(0), 1));
}

#[test]
fn a_head_that_can_be_understood_in_two_ways_is_refused() {
    for (lines, error) in [
        ("Content-Length: 5\r\nContent-Length: 5", HeadError::Length),
        ("Content-Length: 5, 5", HeadError::Length),
        ("Content-Length: +5", HeadError::Length),
        ("Content-Length: ", HeadError::Length),
        ("Content-Length: 1234567890123456789", HeadError::Length),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", HeadError::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", HeadError::Coding),
        ("Transfer-Encoding: gzip, chunked", HeadError::Coding),
        ("Transfer-Encoding: identity", HeadError::Coding),
    ] {
        let refused = head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n")).unwrap_err();
        assert_eq!(refused, error, "{lines}");
    }
    assert_eq!(head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err(), HeadError::Coding);
    for text in
        ["HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"]
    {
        assert!(matches!(head(text), Err(HeadError::Syntax(_))), "{text}");
    }
    assert_eq!(head("HTTP/1.1 099 Odd\r\n\r\n").unwrap_err(), HeadError::Status);
}

/// Reads a body that arrives in parts of this size. Returns what was read, and whether that was all.
fn body(end: BodyEnd, bytes: &[u8], part: usize) -> Result<(Vec<u8>, bool), ChunkError> {
    let (mut reader, mut input, mut found) = (BodyReader::new(end), Input::new(), Vec::new());
    for arrived in bytes.chunks(part) {
        input.space()[..arrived.len()].copy_from_slice(arrived);
        input.add(arrived.len());
        loop {
            match reader.next(&mut input)? {
                BodyPart::Data(data) => found.extend_from_slice(&data),
                BodyPart::Missing => break,
                BodyPart::End => return Ok((found, true)),
            }
        }
    }
    Ok((found, false))
}

#[test]
fn malformed_chunks_are_an_error() {
    for text in
        ["\r\n", "x\r\n", "-1\r\n", "0x5\r\n", "5\n", "5 5\r\n", "1234567890123456\r\n", "1\r\naX", "0\r\n\n"]
    {
        assert_eq!(body(BodyEnd::Chunked, text.as_bytes(), 1), Err(ChunkError), "{text:?}");
    }
    let long = format!("5;{}\r\n", "a".repeat(5000));
    assert_eq!(body(BodyEnd::Chunked, long.as_bytes(), 100), Err(ChunkError));
    let fine = b"5;a=b\r\nhello\r\n1 \r\n!\r\n00\r\nTrailer: x\r\n\r\n";
    assert_eq!(body(BodyEnd::Chunked, fine, 1), Ok((b"hello!".to_vec(), true)));
}

proptest! {
    #[test]
    fn a_body_is_the_same_however_it_arrives(
        chunks in proptest::collection::vec("[a-z\r\n]{1,9}", 0..5), part in 1_usize..9, behind in "[a-z]{0,3}"
    ) {
        let data = chunks.concat();
        let chunked: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        let sent = format!("{chunked}0\r\n\r\n{behind}");
        prop_assert_eq!(body(BodyEnd::Chunked, sent.as_bytes(), part), Ok((data.clone().into_bytes(), true)));
        let sized = BodyEnd::Sized(data.len() as u64);
        let (found, _) = body(sized, format!("{data}{behind}").as_bytes(), part).unwrap();
        prop_assert_eq!(found, data.into_bytes());
    }

    #[test]
    fn no_bytes_of_an_upstream_cause_a_panic(bytes in "(HTTP/1.1 200 OK\r\n)?[0-9a-f;:\r\n \\PC]{0,60}", part in 1_usize..9) {
        let _ = read(bytes.as_bytes(), &Method::GET);
        let _ = body(BodyEnd::Chunked, bytes.as_bytes(), part);
    }
}

/// A listener as an upstream, and its client.
async fn upstream() -> (TcpListener, UpstreamClient) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, UpstreamClient::new(UpstreamAddress::Tcp(authority), &Timing::TEST))
}

fn get() -> Request<MountBody> {
    Request::get("/a?b").header("host", "x").body(empty()).unwrap()
}

/// Receives a request up to these bytes, and answers it.
async fn answer(stream: &mut TcpStream, until: &str, answer: &str) -> String {
    let mut received = String::new();
    while !received.ends_with(until) {
        received.push(char::from(stream.read_u8().await.expect("more of the request")));
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    received
}

async fn text(response: Response<UpstreamBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn one_connection_serves_requests_whose_responses_have_an_end() {
    let (listener, client) = upstream().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let first = answer(&mut stream, "\r\n\r\n", HELLO).await;
        let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                       HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        answer(&mut stream, "\r\n\r\n", chunked).await;
        let rest = "HTTP/1.1 200 OK\r\n\r\nuntil the end";
        answer(&mut stream, "\r\n\r\n", rest).await;
        first
    });
    for expected in ["hello", "abc", "until the end"] {
        let response = client.send(get(), None).await.unwrap();
        assert!(response.headers().get(header::LINK).is_none());
        assert_eq!(text(response).await, expected);
    }
    assert_eq!(serving.await.unwrap(), "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n");
}

#[tokio::test]
async fn a_head_waits_for_the_first_bytes_of_a_body_of_known_length() {
    let (listener, client) = upstream().await;
    let mut response = tokio::spawn(async move { client.send(get(), None).await.unwrap() });
    let (mut stream, _) = listener.accept().await.unwrap();
    answer(&mut stream, "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    tokio::time::timeout(Duration::from_millis(50), &mut response).await.expect_err("it waits");
    stream.write_all(b"he").await.unwrap();
    let response = response.await.unwrap();
    stream.write_all(b"llo").await.unwrap();
    assert_eq!(text(response).await, "hello");
}

#[tokio::test]
async fn what_an_upstream_sends_behind_a_response_is_no_response() {
    let (listener, client) = upstream().await;
    let forged = format!("{HELLO}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged");
    let serving = tokio::spawn(async move {
        for text in [forged.as_str(), HELLO] {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "\r\n\r\n", text).await;
        }
    });
    for _ in 0..2 {
        assert_eq!(text(client.send(get(), None).await.unwrap()).await, "hello");
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn a_body_has_its_length_or_chunks() {
    let (listener, client) = upstream().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let sized = answer(&mut stream, "hello", HELLO).await;
        let chunked = answer(&mut stream, "0\r\n\r\n", HELLO).await;
        (sized, chunked)
    });
    let parts = ["he", "", "llo"].map(|part| Ok(Frame::data(Bytes::from(part))));
    for body in [whole("hello"), StreamBody::new(stream::iter(parts)).boxed_unsync()] {
        let mut request = Request::post("/").body(body).unwrap();
        // the framing of the client is that of another connection
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        assert_eq!(text(client.send(request, None).await.unwrap()).await, "hello");
    }
    let (sized, chunked) = serving.await.unwrap();
    assert_eq!(sized, "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(
        chunked,
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    );
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_does_not_stop_the_request() {
    let (listener, client) = upstream().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream, "\r\n\r\n", HELLO).await;
        answer(&mut stream, "0\r\n\r\n", "").await
    });
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<io::Result<Frame<Bytes>>>();
    let body = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let request = Request::post("/").body(StreamBody::new(body).boxed_unsync()).unwrap();
    let response = client.send(request, None).await.unwrap();
    assert_eq!(text(response).await, "hello");
    sender.send(Ok(Frame::data(Bytes::from("late")))).unwrap();
    drop(sender);
    assert_eq!(serving.await.unwrap(), "4\r\nlate\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_connection_is_closed_after_a_time_out_and_after_a_response_that_was_given_up() {
    let (listener, client) = upstream().await;
    let late = client.send(get(), Some(Duration::from_millis(20))).await;
    assert!(matches!(late, Err(UpstreamError::TimedOut)));
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert!(received.starts_with(b"GET /a?b "));
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream, "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel").await;
        stream.read_to_end(&mut Vec::new()).await.unwrap()
    });
    drop(client.send(get(), None).await.unwrap());
    assert_eq!(serving.await.unwrap(), 0);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_understood_has_not_answered() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "SSH-2.0-server\r\n",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    ] {
        let (listener, client) = upstream().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "\r\n\r\n", text).await;
        });
        assert!(matches!(client.send(get(), None).await, Err(UpstreamError::Broken(_))), "{text}");
    }
    let (listener, client) = upstream().await;
    drop(listener);
    assert!(matches!(client.send(get(), None).await, Err(UpstreamError::Unreachable(_))));
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_an_error() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
    ] {
        let (listener, client) = upstream().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, "\r\n\r\n", text).await;
        });
        let response = client.send(get(), None).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.into_body().collect().await.is_err(), "{text}");
    }
}
