//! Answers as clients receive them: what is compressed, and when its bytes arrive.

use std::io;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder};
use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::sync::mpsc;

use super::super::body::{empty, whole};
use super::*;

fn compressed(response: MountResponse, coding: Option<Coding>) -> MountResponse {
    super::compressed(response, coding, &Arc::default())
}

const LONG: usize = 5000;

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let fields = fields.iter();
    fields.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn answer(fields: &[(&str, &str)], body: MountBody) -> Response<MountBody> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers(fields);
    response
}

fn accepting(coding: &str) -> Option<Coding> {
    match coding {
        "br" => Some(Coding::Brotli),
        _ => Some(Coding::Gzip),
    }
}

fn text(response: &Response<MountBody>, name: &str) -> String {
    let values = response.headers().get_all(name).iter().map(|value| value.to_str().unwrap());
    values.collect::<Vec<_>>().join(", ")
}

async fn collected(body: MountBody) -> Vec<u8> {
    body.collect().await.unwrap().to_bytes().to_vec()
}

async fn decoded(coding: &str, body: MountBody) -> Vec<u8> {
    let bytes = collected(body).await;
    let (mut plain, bytes) = (Vec::new(), BufReader::new(bytes.as_slice()));
    match coding {
        "br" => BrotliDecoder::new(bytes).read_to_end(&mut plain).await.unwrap(),
        _ => GzipDecoder::new(bytes).read_to_end(&mut plain).await.unwrap(),
    };
    plain
}

#[tokio::test]
async fn a_long_text_is_compressed_and_its_headers_are_changed() {
    let content = "<li>a row of a table</li>\n".repeat(LONG);
    for coding in ["br", "gzip"] {
        let length = content.len().to_string();
        let fields = [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", &length),
            ("etag", "\"1\""),
            ("accept-ranges", "bytes"),
            ("vary", "cookie"),
        ];
        let response = compressed(answer(&fields, whole(content.clone())), accepting(coding));
        assert_eq!(text(&response, "content-encoding"), coding);
        assert_eq!(text(&response, "etag"), "W/\"1\"");
        assert_eq!(text(&response, "vary"), "cookie, accept-encoding");
        assert_eq!((text(&response, "content-length"), text(&response, "accept-ranges")), Default::default());
        assert!(decoded(coding, response.into_body()).await == content.as_bytes());
    }
}

#[tokio::test]
async fn what_would_gain_nothing_or_be_wrong_is_left_as_it_is() {
    let html = ("content-type", "text/html");
    let table: [(u16, &[(&str, &str)]); 16] = [
        (200, &[("content-type", "image/png")]),
        (200, &[("content-type", "application/octet-stream")]),
        (200, &[("content-type", "text/event-stream")]),
        (200, &[]),
        (200, &[html, ("content-encoding", "br")]),
        (200, &[html, ("content-encoding", "identity")]),
        (200, &[html, ("content-range", "bytes 0-4999/9000")]),
        (200, &[html, ("cache-control", "private, No-Transform")]),
        (200, &[html, ("repr-digest", "sha-256=:AA==:")]),
        (200, &[html, ("content-md5", "AA==")]),
        (200, &[html, ("content-length", "1023")]),
        (206, &[html]),
        (204, &[html]),
        (304, &[html]),
        (101, &[html]),
        (416, &[html, ("content-range", "bytes */9000")]),
    ];
    for (status, fields) in table {
        let mut response = answer(fields, whole(vec![b'a'; LONG]));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let before = response.headers().clone();
        let response = compressed(response, accepting("br"));
        assert_eq!(response.headers(), &before, "{status} {fields:?}");
        assert_eq!(collected(response.into_body()).await.len(), LONG, "{status} {fields:?}");
    }
}

#[tokio::test]
async fn text_of_every_kind_is_compressed_from_1_kib_on() {
    for kind in
        ["application/json", "image/svg+xml", "application/ld+json; a=b", "TEXT/XML", "text/javascript"]
    {
        for (length, coding) in [(1023, ""), (1024, "gzip")] {
            let body = whole(vec![b'a'; length]);
            let response = compressed(answer(&[("content-type", kind)], body), accepting("gzip"));
            assert_eq!(text(&response, "content-encoding"), coding, "{length} of {kind}");
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_client_without_codings_says_that_others_get_another_one() {
    let response = compressed(answer(&[("content-type", "text/css")], whole(vec![b'a'; LONG])), None);
    assert_eq!(
        (text(&response, "vary"), text(&response, "content-encoding")),
        ("accept-encoding".into(), String::new())
    );
    assert_eq!(collected(response.into_body()).await.len(), LONG);
}

#[tokio::test]
async fn the_answer_to_head_has_the_headers_of_the_answer_to_get() {
    let fields = [("content-type", "text/css"), ("content-length", "5000")];
    let response = compressed(answer(&fields, empty()), accepting("br"));
    assert_eq!(text(&response, "content-encoding"), "br");
    assert_eq!(text(&response, "content-length"), "");
}

/// A body that gets its chunks from a channel and has no length.
fn streamed() -> (mpsc::Sender<io::Result<Bytes>>, MountBody) {
    let (sender, receiver) = mpsc::channel(1);
    let chunks = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<io::Result<Bytes>>| {
        Some((receiver.recv().await?.map(Frame::data), receiver))
    });
    (sender, StreamBody::new(Box::pin(chunks)).boxed_unsync())
}

#[tokio::test]
async fn each_chunk_of_a_slow_body_reaches_the_client_before_the_next_one_exists() {
    for coding in ["br", "gzip"] {
        let (sender, body) = streamed();
        let response = compressed(answer(&[("content-type", "text/plain")], body), accepting(coding));
        let bytes = StreamReader::new(response.into_body().into_data_stream());
        let mut plain: Box<dyn AsyncRead + Unpin> = match coding {
            "br" => Box::new(BrotliDecoder::new(bytes)),
            _ => Box::new(GzipDecoder::new(bytes)),
        };
        for number in 0..20 {
            let chunk = format!("chunk {number}\n");
            sender.send(Ok(chunk.clone().into())).await.unwrap();
            let mut received = vec![0; chunk.len()];
            plain.read_exact(&mut received).await.unwrap();
            assert_eq!(received, chunk.as_bytes());
        }
        drop(sender);
        assert_eq!(plain.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_body_that_breaks_is_an_error_and_not_a_short_answer() {
    for coding in ["br", "gzip"] {
        let (sender, body) = streamed();
        let response = compressed(answer(&[("content-type", "text/plain")], body), accepting(coding));
        sender.send(Ok("the beginning".into())).await.unwrap();
        let breaking = async move {
            sender.send(Err(io::ErrorKind::ConnectionReset.into())).await.unwrap();
        };
        let (collected, ()) = tokio::join!(response.into_body().collect(), breaking);
        assert_eq!(collected.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{coding}");
    }
}
