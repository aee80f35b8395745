//! A request head, line by line.
//!
//! Owns: the fields that decide where the request ends, and how the connection goes on after it. Never: other fields,
//! apart from their syntax.

use super::FramingError;
use super::field::{FieldLine, lists};
use super::host;
use super::line::{self, LineEnd};
use super::request_line::RequestLine;

/// How the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// After this many bytes.
    Sized(u64),
    /// After the last chunk.
    Chunked,
}

/// What follows a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// The next request.
    Request,
    /// Nothing: the client asks to close the connection.
    Nothing,
    /// Bytes of another protocol, if the server switches; otherwise the connection ends with the response.
    OtherProtocol,
}

/// A request head of which the lines up to a position have been read.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Start of the line that has not ended yet.
    line_at: usize,
    /// Bytes in which its end has been searched.
    searched: usize,
    request: Option<RequestLine>,
    fields: FramingFields,
}

/// The fields of a head that decide its framing.
#[derive(Debug, Default)]
struct FramingFields {
    /// Whether `Host` agrees with the URL in the request line, if there is one. `None` before `Host`.
    host_agrees: Option<bool>,
    length: Option<u64>,
    is_chunked: bool,
    has_content_type: bool,
    asks_for_websocket: bool,
    asks_to_close: bool,
    asks_to_keep: bool,
}

/// A complete head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestFraming {
    /// Bytes of the head.
    pub(super) length: usize,
    pub(super) body: BodyFraming,
    pub(super) successor: Successor,
}

impl HeadReader {
    /// Reads the lines that have arrived. `bytes` begins with the head, and has all bytes of the call before. Returns
    /// `None` while the head is incomplete. The head must end within the first `limit` bytes.
    ///
    /// # Errors
    ///
    /// For the first line that is refused, or for fields that contradict each other.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        limit: usize,
    ) -> Result<Option<RequestFraming>, FramingError> {
        loop {
            let end = match line::end(bytes, self.searched, limit)? {
                LineEnd::At(end) => end,
                LineEnd::TooLong => return Err(FramingError::HeadTooLarge),
                LineEnd::Partial(searched) => {
                    self.searched = searched;
                    return Ok(None);
                }
            };
            let at = self.line_at;
            let line = &bytes[at..end];
            self.line_at = end + 2;
            self.searched = end + 2;
            match &self.request {
                // one empty line before a request, as some clients send after a body (RFC 9112, 2.2)
                None if line.is_empty() && at == 0 => {}
                None => {
                    let mut request = RequestLine::parse(line)?;
                    request.authority = request.authority.map(|found| found.start + at..found.end + at);
                    self.request = Some(request);
                }
                Some(request) if line.is_empty() => {
                    return self.fields.framing(request, end + 2).map(Some);
                }
                Some(request) => self.fields.add(FieldLine::parse(line)?, request, bytes)?,
            }
        }
    }
}

impl FramingFields {
    /// Adds a field of the head that `bytes` begins with.
    fn add(&mut self, field: FieldLine<'_>, request: &RequestLine, bytes: &[u8]) -> Result<(), FramingError> {
        let is = |name: &[u8]| field.name.eq_ignore_ascii_case(name);
        // the length decides first, because most fields are none of these
        match field.name.len() {
            4 if is(b"host") => {
                if self.host_agrees.is_some() {
                    return Err(FramingError::HostTwice);
                }
                if !host::is_valid(field.value) {
                    return Err(FramingError::HostInvalid);
                }
                let authority = request.authority.clone().and_then(|authority| bytes.get(authority));
                self.host_agrees = Some(authority.is_none_or(|host| host.eq_ignore_ascii_case(field.value)));
            }
            7 if is(b"upgrade") => self.asks_for_websocket |= lists(field.value, b"websocket"),
            10 if is(b"connection") => {
                self.asks_to_close |= lists(field.value, b"close");
                self.asks_to_keep |= lists(field.value, b"keep-alive");
            }
            12 if is(b"content-type") && std::mem::replace(&mut self.has_content_type, true) => {
                return Err(FramingError::ContentTypeTwice);
            }
            14 if is(b"content-length") => {
                let length = content_length(field.value)?;
                if self.length.replace(length).is_some() {
                    return Err(FramingError::LengthTwice);
                }
            }
            17 if is(b"transfer-encoding") => {
                if !request.is_http_11 {
                    return Err(FramingError::TransferEncodingVersion);
                }
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(FramingError::TransferEncodingUnknown);
                }
                if std::mem::replace(&mut self.is_chunked, true) {
                    return Err(FramingError::TransferEncodingTwice);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the framing of the request, whose head has `length` bytes.
    fn framing(&self, request: &RequestLine, length: usize) -> Result<RequestFraming, FramingError> {
        match self.host_agrees {
            None if request.is_http_11 => return Err(FramingError::HostMissing),
            None if request.authority.is_some() => return Err(FramingError::HostMismatch),
            Some(false) => return Err(FramingError::HostMismatch),
            None | Some(true) => {}
        }
        let body = match (self.length, self.is_chunked) {
            (Some(_), true) => return Err(FramingError::LengthAndChunks),
            (_, true) => BodyFraming::Chunked,
            (sized, false) => BodyFraming::Sized(sized.unwrap_or(0)),
        };
        let keeps = !self.asks_to_close && (request.is_http_11 || self.asks_to_keep);
        // a handshake has no body
        let is_handshake = self.asks_for_websocket && request.is_http_11 && body == BodyFraming::Sized(0);
        let successor = match (is_handshake, keeps) {
            (true, _) => Successor::OtherProtocol,
            (false, true) => Successor::Request,
            (false, false) => Successor::Nothing,
        };
        Ok(RequestFraming { length, body, successor })
    }
}

/// Returns the value of `Content-Length`.
fn content_length(value: &[u8]) -> Result<u64, FramingError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::LengthInvalid);
    }
    // 19 digits fit into 64 bits
    let number = value.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    if number > i64::MAX as u64 { Err(FramingError::LengthInvalid) } else { Ok(number) }
}
