//! Random bytes, random requests, and random divisions of both.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Outcome, follow, whole};

/// Bytes that matter to the follower occur often enough to reach every state.
pub(super) fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let words = select(vec![
        "GET / HTTP/1.1",
        "POST / HTTP/1.0",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n",
        " ",
        ":",
        "\0",
        "Host: a",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Connection: keep-alive",
        "Upgrade: websocket",
        "3\r\nabc",
        "0\r\n",
        ";x=y",
        "abc",
        "X: y",
    ]);
    let piece = prop_oneof![
        8 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Divides a stream at these places.
fn divided(stream: &[u8], places: &[Index]) -> Outcome {
    let mut places: Vec<_> = places.iter().map(|place| place.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    follow(places.windows(2).map(|pair| &stream[pair[0]..pair[1]]))
}

/// A request that is in order.
pub(super) fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = select(vec!["GET", "POST", "PUT", "DELETE", "X-Y"]);
    let field = ("X-[A-Za-z0-9_-]{1,20}", "[ \t]{0,3}", "[!-~]{0,30}", "[ \t]{0,3}");
    let fields = vec(field, 0..8).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(name, before, value, behind)| format!("{name}:{before}{value}{behind}\r\n"))
            .collect::<String>()
    });
    (method, "/[a-z0-9/?&=._~%-]{0,40}", "[a-z0-9.-]{1,20}(:[0-9]{1,4})?", fields, body()).prop_map(
        |(method, target, host, fields, (framing, body))| {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}{framing}\r\n");
            [head.into_bytes(), body].concat()
        },
    )
}

/// The framing field of a body, and the body.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    prop_oneof![
        Just((String::new(), Vec::new())),
        vec(any::<u8>(), 0..200).prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body)),
        (vec(vec(any::<u8>(), 1..60), 0..5), "(;[a-z]{1,9}=[a-z]{1,9})?", "(X-Sum: [a-z]{0,9}\r\n){0,2}")
            .prop_map(|(chunks, extension, trailers)| {
                let line = |chunk: &Vec<u8>| format!("{:x}{extension}\r\n", chunk.len()).into_bytes();
                let chunks = chunks.iter().map(|chunk| [&line(chunk)[..], chunk, b"\r\n"].concat());
                let mut body: Vec<u8> = chunks.flatten().collect();
                body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
                ("Transfer-Encoding: chunked\r\n".to_owned(), body)
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_outcome_does_not_depend_on_how_the_bytes_arrive(stream in hostile(), places in vec(any::<Index>(), 0..10)) {
        prop_assert_eq!(divided(&stream, &places), whole(&stream));
        prop_assert_eq!(follow(stream.chunks(1)), whole(&stream));
    }

    #[test]
    fn no_bytes_make_the_follower_fail(stream in vec(any::<u8>(), 0..300), places in vec(any::<Index>(), 0..5)) {
        let outcome = divided(&stream, &places);
        prop_assert!(outcome.released <= stream.len());
    }

    #[test]
    fn requests_that_are_in_order_pass(requests in vec(request(), 1..5), places in vec(any::<Index>(), 0..10)) {
        let stream = requests.concat();
        let outcome = Outcome { requests: requests.len() as u64, released: stream.len(), refusal: None, is_last: false };
        prop_assert_eq!(divided(&stream, &places), outcome);
    }

    #[test]
    fn a_released_prefix_is_understood_alike_without_what_follows(stream in hostile()) {
        let outcome = whole(&stream);
        let prefix = whole(&stream[..outcome.released]);
        prop_assert_eq!((prefix.requests, prefix.released, prefix.refusal), (outcome.requests, outcome.released, None));
    }
}
