//! hyper finds the same requests and bodies in the released bytes as the follower.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::corpus::reader::accepted;
use super::properties::{hostile, request};
use super::{LIMIT, RequestFollower, whole};

/// Returns the bodies of the requests that hyper finds in a stream. A body that does not arrive whole is `None`.
fn bodies(stream: &[u8]) -> Vec<Option<Bytes>> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let found = found.clone();
        async move {
            let body = request.into_body().collect().await.ok().map(|body| body.to_bytes());
            found.lock().unwrap().push(body);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(stream).await.unwrap();
        client.shutdown().await.unwrap();
        // without `half_close`, the end of the stream cancels the last request
        let serving = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
        let mut responses = Vec::new();
        let (served, _) = tokio::join!(serving, client.read_to_end(&mut responses));
        // a stream that ends within a request is an error of hyper
        drop(served);
    });
    std::mem::take(&mut *found.lock().unwrap())
}

/// Returns how many bytes of a stream are released and followed: those behind a request for a WebSocket are not.
fn followed(stream: &[u8]) -> usize {
    let mut follower = RequestFollower::new(LIMIT);
    let (mut begin, mut end) = (0, 0);
    while end < stream.len() && !follower.is_released() {
        end += 1;
        begin += follower.follow(&stream[begin..end]);
    }
    begin
}

/// Checks that hyper finds as many requests as the follower. Only the last body can be incomplete.
fn agree(stream: &[u8]) -> Result<(), TestCaseError> {
    let bodies = bodies(&stream[..followed(stream)]);
    prop_assert_eq!(bodies.len() as u64, whole(stream).requests, "{}", stream.escape_ascii());
    prop_assert!(bodies.iter().rev().skip(1).all(Option::is_some), "{}", stream.escape_ascii());
    Ok(())
}

#[test]
fn hyper_finds_the_same_requests_in_every_unusual_stream() {
    for case in accepted() {
        agree(&case.stream).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}

proptest! {
    #[test]
    fn hyper_finds_the_same_requests_in_random_ones(requests in vec(request(), 1..5)) {
        agree(&requests.concat())?;
    }

    #[test]
    fn hyper_finds_the_same_requests_in_what_is_released_of_any_stream(
        first in request(), streams in vec(hostile(), 1..4), last in request()
    ) {
        agree(&[first, streams.concat(), last].concat())?;
    }

    #[test]
    fn each_released_byte_belongs_to_a_request_that_hyper_finds(requests in vec(request(), 1..4)) {
        let stream = requests.concat();
        let mut follower = RequestFollower::new(LIMIT);
        prop_assert_eq!(follower.follow(&stream), stream.len());
        prop_assert!(bodies(&stream).iter().all(Option::is_some), "no body is cut");
    }
}
