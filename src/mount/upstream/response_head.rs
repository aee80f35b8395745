//! The head of an upstream's response. Pure.
//!
//! Owns: its syntax, and where its body ends. Never: which headers the client receives (`forward`).
//!
//! A head that can be understood in two ways is an error: whatever follows on the connection may be an answer that was
//! not asked for.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use httparse::{Header, ParserConfig, Status};

use super::super::connection_header::names_close;

/// Maximum number of headers.
const MAX_HEADERS: usize = 128;
/// Maximum digits of a length.
const MAX_DIGITS: usize = 18;

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("its head is malformed: {0}")]
    Syntax(httparse::Error),
    #[error("a header has a character that is not allowed")]
    Header,
    #[error("its status is not one of HTTP")]
    Status,
    #[error("its Content-Length is repeated or not a number")]
    Length,
    #[error("its Transfer-Encoding is not chunked alone")]
    Coding,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// After this many bytes.
    Sized(u64),
    /// With an empty chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// A complete head.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: BodyEnd,
    /// Whether the connection can serve another request after the body.
    pub(super) is_kept: bool,
    /// Bytes of the head.
    pub(super) length: usize,
}

impl ResponseHead {
    /// Returns whether another head follows for the same request.
    pub(super) fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Reads the head of a response to a request with this method; `None` if it is not complete.
///
/// # Errors
///
/// [`HeadError`] for a head that must not be passed on.
pub(super) fn read(bytes: &[u8], method: &Method) -> Result<Option<ResponseHead>, HeadError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut space = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(HeadError::Syntax(error)),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(HeadError::Status)?;
    let headers = copied(bytes, length, parsed.headers)?;
    let is_1_1 = parsed.version == Some(1);
    let body = body_end(&headers, is_1_1, status, method)?;
    let is_kept = is_1_1 && body != BodyEnd::Close && !names_close(&headers);
    Ok(Some(ResponseHead { status, headers, body, is_kept, length }))
}

/// Returns the headers with values that share one copy of the head.
fn copied(bytes: &[u8], length: usize, parsed: &[Header<'_>]) -> Result<HeaderMap, HeadError> {
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let mut headers = HeaderMap::with_capacity(parsed.len() + 2);
    for Header { name, value } in parsed {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeadError::Header)?;
        let from = value.as_ptr().addr().saturating_sub(bytes.as_ptr().addr());
        // httparse gives an empty value no place in the head
        let value = if value.is_empty() { Bytes::new() } else { head.slice(from..from + value.len()) };
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| HeadError::Header)?);
    }
    Ok(headers)
}

fn body_end(
    headers: &HeaderMap,
    is_1_1: bool,
    status: StatusCode,
    method: &Method,
) -> Result<BodyEnd, HeadError> {
    let coding = only(headers, &header::TRANSFER_ENCODING).map_err(|()| HeadError::Coding)?;
    let length = only(headers, &header::CONTENT_LENGTH).map_err(|()| HeadError::Length)?;
    let length = length.map(|text| number(text.as_bytes()).ok_or(HeadError::Length)).transpose()?;
    if let Some(coding) = coding
        && (!is_1_1 || length.is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(HeadError::Coding);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(BodyEnd::Close);
    }
    let is_bodiless =
        method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match (is_bodiless, coding, length) {
        (true, ..) => BodyEnd::Sized(0),
        (false, Some(_), _) => BodyEnd::Chunked,
        (false, None, Some(length)) => BodyEnd::Sized(length),
        (false, None, None) => BodyEnd::Close,
    })
}

/// Returns the value of a header that must not be repeated.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(()),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = (1..=MAX_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
