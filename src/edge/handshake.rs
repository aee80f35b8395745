//! Checks a WebSocket upgrade request (RFC 6455, 4.2.1) and reads the facts that it carries. Pure.

use axum::http::header::{
    AUTHORIZATION, CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::mount::cookie::cookie_value;
use crate::protocol::{BEARER_SUBPROTOCOL, SUBPROTOCOL};

/// Constant appended to the client's key. The hash of both proves that the server understood the request (RFC 6455,
/// 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A valid WebSocket upgrade request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    /// Value of `Sec-WebSocket-Accept`.
    pub(super) accept: String,
    /// Whether the client offers Pagewire's subprotocol.
    pub(super) subprotocol: bool,
}

/// Reads the head of a request.
///
/// # Errors
///
/// The HTTP status of the refusal: 400 for a wrong method, HTTP version or key, 426 without `Upgrade: websocket` or
/// with another version of the protocol.
pub(super) fn read(head: &Parts) -> Result<Handshake, StatusCode> {
    let headers = &head.headers;
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let named = |name: HeaderName, wanted: &str| list(headers, name).any(|n| n.eq_ignore_ascii_case(wanted));
    let upgrades = named(CONNECTION, "upgrade") && named(UPGRADE, "websocket");
    if !upgrades || headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(StatusCode::UPGRADE_REQUIRED);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(StatusCode::BAD_REQUEST)?.as_bytes();
    if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        let accept = accept(key);
        let subprotocol = list(headers, SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == SUBPROTOCOL);
        Ok(Handshake { accept, subprotocol })
    } else {
        Err(StatusCode::BAD_REQUEST)
    }
}

/// Returns the value of `Sec-WebSocket-Accept` for a client's key.
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(MAGIC).finalize())
}

/// Returns the token of the request. Tokens that the caller sets explicitly (`Authorization`, then the subprotocol)
/// come before the cookie. A browser adds cookies to requests of any web page, so `cookie` is passed only after the
/// origin was checked.
pub(super) fn token(headers: &HeaderMap, cookie: Option<&str>) -> Option<String> {
    authorization(headers)
        .or_else(|| {
            list(headers, SEC_WEBSOCKET_PROTOCOL).find_map(|offered| offered.strip_prefix(BEARER_SUBPROTOCOL))
        })
        .or_else(|| cookie.and_then(|name| cookie_value(headers, name)))
        .map(str::to_owned)
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The items of a list header, over all its lines.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn head(changes: &[(&'static str, &str)]) -> Parts {
        let mut headers = vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        headers.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        headers.extend(changes);
        let mut request = Request::get("/_ws");
        for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(read(&head(&[])), Ok(Handshake { accept, subprotocol: false }));
        let offer = head(&[("sec-websocket-protocol", "other,  pagewire.v1")]);
        assert!(read(&offer).is_ok_and(|handshake| handshake.subprotocol));
    }

    #[test]
    fn a_bad_handshake_is_told_what_is_wrong() {
        let (bad, required) = (StatusCode::BAD_REQUEST, StatusCode::UPGRADE_REQUIRED);
        let table = [
            (("connection", "keep-alive"), required),
            (("upgrade", "h2c"), required),
            (("upgrade", ""), required),
            (("sec-websocket-version", "8"), required),
            (("sec-websocket-version", ""), required),
            (("sec-websocket-key", ""), bad),
            (("sec-websocket-key", "c2hvcnQ="), bad),
            (("sec-websocket-key", "not base64 at all!!!!!!!"), bad),
        ];
        for (change, status) in table {
            assert_eq!(read(&head(&[change])).err(), Some(status), "{change:?}");
        }
        let mut post = head(&[]);
        post.method = Method::POST;
        assert_eq!(read(&post).err(), Some(bad));
    }

    #[test]
    fn a_token_comes_by_header_subprotocol_or_checked_cookie() {
        let token = |changes: &[(&'static str, &str)], cookie| super::token(&head(changes).headers, cookie);
        let header = ("authorization", "bearer abc");
        let subprotocol = ("sec-websocket-protocol", "pagewire.v1, bearer.def");
        let cookies = ("cookie", "a=1; sid=\"ghi\"; b=2");
        assert_eq!(token(&[header, subprotocol, cookies], Some("sid")).as_deref(), Some("abc"));
        assert_eq!(token(&[subprotocol, cookies], Some("sid")).as_deref(), Some("def"));
        assert_eq!(token(&[cookies], Some("sid")).as_deref(), Some("ghi"));
        assert_eq!(token(&[cookies], None), None);
        assert_eq!(token(&[("authorization", "Basic abc")], None), None);
    }
}
