//! The corpus against the follower.

#[path = "../../../../tests/corpus/http1/reader.rs"]
pub(super) mod reader;

use std::collections::BTreeSet;

use self::reader::{accepted, refused};
use super::super::FramingError;
use super::{follow, whole};

const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn every_malformed_request_is_refused_for_its_reason_and_nothing_behind_it_is_read() {
    let cases = refused();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    for case in cases {
        let stream = [&case.stream, SMUGGLED].concat();
        let outcome = whole(&stream);
        assert_eq!(
            outcome.refusal.map(|refusal| refusal.reason.word()),
            Some(case.expectation.as_str()),
            "{}",
            case.name
        );
        let refusal = outcome.refusal.unwrap();
        if !refusal.is_in_body && outcome.requests == 0 {
            assert_eq!(outcome.released, 0, "{}: nothing of a refused head is read", case.name);
        }
        assert!(outcome.released <= case.stream.len(), "{}", case.name);
        assert_eq!(follow(stream.chunks(1)), outcome, "{}: byte by byte", case.name);
    }
}

#[test]
fn every_unusual_request_is_accepted() {
    let cases = accepted();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for case in cases {
        let outcome = whole(&case.stream);
        assert_eq!(outcome.refusal, None, "{}", case.name);
        assert_eq!(outcome.requests.to_string(), case.expectation, "{}", case.name);
        assert!(outcome.is_last || outcome.released == case.stream.len(), "{}", case.name);
        assert_eq!(follow(case.stream.chunks(1)), outcome, "{}: byte by byte", case.name);
    }
}

#[test]
fn a_malformed_request_is_refused_behind_good_ones_too() {
    let good = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".repeat(2);
    for case in refused() {
        let outcome = whole(&[good.as_slice(), &case.stream, SMUGGLED].concat());
        assert_eq!(
            outcome.refusal.map(|refusal| refusal.reason.word()),
            Some(case.expectation.as_str()),
            "{}",
            case.name
        );
        assert!((good.len()..=good.len() + case.stream.len()).contains(&outcome.released), "{}", case.name);
    }
}

#[test]
fn the_corpus_has_a_case_of_every_reason() {
    let found: BTreeSet<_> = refused().into_iter().map(|case| case.expectation).collect();
    let reasons: BTreeSet<_> = FramingError::ALL.iter().map(|reason| reason.word().to_owned()).collect();
    assert_eq!(found, reasons);
}
