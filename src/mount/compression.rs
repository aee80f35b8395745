//! Compresses answers of mounts while they are sent.
//!
//! Owns: which answers are compressed, and how. Never: files that are compressed on disk (`static_files`).
//!
//! The encoders of `async-compression` are used directly instead of tower-http's layer around them, because that layer
//! calls the application first and then replaces its answer by 406 if no coding suits, keeps strong entity tags, and
//! cannot be applied to an answer that exists already.

use std::sync::Arc;

use async_compression::brotli::EncoderParams;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder};
use async_compression::{Level, brotli};
use futures_util::TryStreamExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use super::body::{MountBody, MountResponse, whole};
use super::coding::{Coding, add_vary};
use super::compressed_files::{CompressedFiles, KeepingBody};
use super::static_files::FileVersion;

/// Minimum size of a compressed answer, in bytes: a smaller one fits into one packet anyway.
const MIN_SIZE: u64 = 1024;

/// Quality of Brotli: the last one that is about as fast as gzip, while 11, the default, is 50 times as slow.
const BROTLI_QUALITY: i32 = 4;
/// Window of Brotli as a power of two: 512 KiB instead of 4 MiB, because each answer in progress has one.
const BROTLI_WINDOW: i32 = 19;
/// Level of gzip.
const GZIP_LEVEL: i32 = 5;

/// Maximum bytes of one chunk of compressed data.
const CHUNK: usize = 16 * 1024;

/// Media types that are text, in addition to `text/*` and to types that end in `+json` or `+xml`.
const TEXT: [&str; 6] = [
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/x-ndjson",
    "application/graphql",
];

/// Headers that describe the bytes of the body, which a coding changes.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Compresses the answer with the coding that the client prefers, if it is text of at least 1 KiB or of unknown length. Each
/// chunk of a slow body is flushed: the encoder writes out what it has when the body has no more data at the moment.
/// Trailers of a compressed answer are dropped. A whole file of a folder is compressed once and kept in `files`.
pub(super) fn compressed(
    response: MountResponse,
    coding: Option<Coding>,
    files: &Arc<CompressedFiles>,
) -> MountResponse {
    if !is_compressible(&response) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    add_vary(&mut head.headers, header::ACCEPT_ENCODING);
    let Some(coding) = coding else { return Response::from_parts(head, body) };
    head.headers.insert(header::CONTENT_ENCODING, coding.header_value());
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::ACCEPT_RANGES);
    if let Some(weak) = head.headers.get(header::ETAG).and_then(weak) {
        head.headers.insert(header::ETAG, weak);
    }
    let Some(version) = head.extensions.remove::<Arc<FileVersion>>() else {
        return Response::from_parts(head, encode(coding, body));
    };
    if let Some(content) = files.get(&version, coding) {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(content.len()));
        return Response::from_parts(head, whole(content));
    }
    Response::from_parts(head, KeepingBody::wrap(encode(coding, body), files.clone(), version, coding))
}

fn is_compressible(response: &MountResponse) -> bool {
    let headers = response.headers();
    let has_body = ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::PARTIAL_CONTENT]
        .contains(&response.status())
        && !response.status().is_informational();
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length: Option<u64> = length.or_else(|| response.body().size_hint().exact());
    has_body
        && length.is_none_or(|length| length >= MIN_SIZE)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !DIGESTS.iter().any(|digest| headers.contains_key(digest))
        && !forbids_transformation(headers)
        && headers.get(header::CONTENT_TYPE).is_some_and(is_text)
}

fn forbids_transformation(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|text| text.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

fn is_text(content_type: &HeaderValue) -> bool {
    let text = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        // each event is small, and a proxy on the way might collect them
        "text/event-stream" => false,
        text => {
            text.starts_with("text/")
                || text.ends_with("+json")
                || text.ends_with("+xml")
                || TEXT.contains(&text)
        }
    }
}

/// Returns the weak form of a strong entity tag: the compressed bytes are another representation of the same content.
fn weak(tag: &HeaderValue) -> Option<HeaderValue> {
    if !tag.as_bytes().starts_with(b"\"") {
        return None;
    }
    HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()
}

fn encode(coding: Coding, body: MountBody) -> MountBody {
    let reader = StreamReader::new(body.into_data_stream());
    match coding {
        Coding::Brotli => read(BrotliEncoder::with_params(reader, brotli_params())),
        Coding::Gzip => read(GzipEncoder::with_quality(reader, Level::Precise(GZIP_LEVEL))),
    }
}

fn brotli_params() -> EncoderParams {
    brotli::EncoderParams::default().quality(Level::Precise(BROTLI_QUALITY)).window_size(BROTLI_WINDOW)
}

fn read(reader: impl AsyncRead + Send + 'static) -> MountBody {
    StreamBody::new(ReaderStream::with_capacity(reader, CHUNK).map_ok(Frame::data)).boxed_unsync()
}

#[cfg(test)]
mod tests;
