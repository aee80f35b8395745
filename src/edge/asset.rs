//! Files that are compiled into the binary.
//!
//! Owns: the headers, the entity tags and the compressed forms of every such file. Never: which file is at which path
//! (`client`, `welcome`).

use std::io;

use async_compression::Level;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder};
use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;

use crate::mount::coding::{Coding, accepted, add_vary};

/// Media type of a script.
pub(super) const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Minimum size of a compressed file, in bytes: a smaller one fits into one packet anyway.
const MIN_COMPRESSED: usize = 1024;

/// Quality of Brotli: above it, the time grows much faster than the size shrinks.
const BROTLI_QUALITY: i32 = 9;

/// Number of bytes of the hash that an entity tag has.
const TAG_BYTES: usize = 12;

/// A file as it is served.
#[derive(Debug)]
pub(super) struct Asset {
    content_type: &'static str,
    content: &'static str,
    /// The hash of the content as text.
    hash: String,
    /// The compressed forms, which are made when the first client asks for them.
    brotli: OnceCell<Bytes>,
    gzip: OnceCell<Bytes>,
}

impl Asset {
    /// A file with its media type and content.
    pub(super) fn new(content_type: &'static str, content: &'static str) -> Self {
        let hash = Sha256::digest(content).iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self { content_type, content, hash, brotli: OnceCell::new(), gzip: OnceCell::new() }
    }

    /// Answers a request for the file: with the form that the client prefers, or without content if it has that form.
    pub(super) async fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let (coding, content) = self.content_for(request).await;
        let tag = format!("\"{}{}\"", self.hash, coding.map_or("", Coding::extension));
        let is_known = is_known(request, &tag);
        let mut response = Response::new(if is_known { Body::empty() } else { Body::from(content) });
        let headers = response.headers_mut();
        // another release of the server has other files at the same paths
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(header::ETAG, tag);
        }
        add_vary(headers, header::ACCEPT_ENCODING);
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(coding) = coding {
            headers.insert(header::CONTENT_ENCODING, coding.header_value());
        }
        response
    }

    /// Returns the content in the coding that the client prefers.
    async fn content_for(&self, request: &HeaderMap) -> (Option<Coding>, Bytes) {
        if self.content.len() >= MIN_COMPRESSED
            && let Some(coding) = accepted(request).first().copied()
        {
            let form = match coding {
                Coding::Brotli => &self.brotli,
                Coding::Gzip => &self.gzip,
            };
            match form.get_or_try_init(|| encoded(coding, self.content)).await {
                Ok(bytes) => return (Some(coding), bytes.clone()),
                Err(error) => tracing::error!(%error, "a file of the server cannot be compressed"),
            }
        }
        (None, Bytes::from_static(self.content.as_bytes()))
    }
}

async fn encoded(coding: Coding, content: &str) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    let (content, quality) = (content.as_bytes(), Level::Precise(BROTLI_QUALITY));
    match coding {
        Coding::Brotli => BrotliEncoder::with_quality(content, quality).read_to_end(&mut bytes).await?,
        Coding::Gzip => GzipEncoder::with_quality(content, Level::Best).read_to_end(&mut bytes).await?,
    };
    Ok(bytes.into())
}

/// Whether `If-None-Match` has the tag. A proxy may have made it weak.
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|text| text.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn each_form_has_a_tag_that_stays_and_spares_the_content() {
        let content: &'static str = "a line of text\n".repeat(200).leak();
        let asset = Asset::new(JAVASCRIPT, content);
        let mut tags = Vec::new();
        for accept in ["identity", "gzip", "br"] {
            let first = asset.answer(&request(&[("accept-encoding", accept)])).await;
            let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
            for (known, status) in [
                (tag.clone(), 304),
                (format!("W/{tag}"), 304),
                (format!("\"a\", {tag}"), 304),
                ("*".to_owned(), 304),
                (tag.replace('"', ""), 200),
                ("\"a\"".to_owned(), 200),
            ] {
                let again =
                    asset.answer(&request(&[("accept-encoding", accept), ("if-none-match", &known)])).await;
                assert_eq!(again.status(), status, "{accept} {known}");
                assert_eq!(again.headers()[header::ETAG], tag.as_str());
            }
            tags.push(tag);
        }
        tags.dedup();
        assert_eq!(tags.len(), 3, "{tags:?}");
        let other = Asset::new(JAVASCRIPT, "another").answer(&request(&[("accept-encoding", "br")])).await;
        assert!(!other.headers().contains_key(header::CONTENT_ENCODING), "it is short");
        assert!(!tags.contains(&other.headers()[header::ETAG].to_str().unwrap().to_owned()));
    }
}
