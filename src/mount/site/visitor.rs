//! The client of a Genropy site.
//!
//! Owns: what the upgrade of its socket says about it, and which connection a cookie names. Never: pages.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap};

use crate::mount::trust::ClientAddress;

/// Number of characters of the id of a page or connection.
const ID: usize = 22;
/// What stands before the connection in the cookie of a site.
const CONNECTION: &str = "?connection_id=";

/// A client of a site, as the upgrade of its socket names it.
pub(crate) struct SiteVisitor {
    /// The headers of its requests.
    pub(super) headers: HeaderMap,
    pub(super) peer: ClientAddress,
    pub(super) user: Option<Arc<str>>,
}

impl SiteVisitor {
    /// A client with the headers of its upgrade.
    pub(crate) fn new(mut headers: HeaderMap, peer: ClientAddress, user: Option<Arc<str>>) -> Self {
        let of_the_socket = [
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
            header::SEC_WEBSOCKET_PROTOCOL,
            header::ACCEPT_ENCODING,
        ];
        for name in of_the_socket {
            headers.remove(name);
        }
        Self { headers, peer, user }
    }

    /// Returns whether its cookies name this connection.
    pub(super) fn has_connection(&self, id: &str) -> bool {
        connections(&self.headers).any(|connection| connection == id)
    }
}

/// Returns the connections that the cookies of a request name.
pub(super) fn connections(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(connection_of)
}

/// Returns the connection that a cookie of a site names. The signature is not checked: the page of a connection is a secret of
/// its own, as in a poll.
fn connection_of(cookie: &str) -> Option<String> {
    let (_, named) = cookie.split_once(CONNECTION)?;
    let is_base64 = |letter: char| letter.is_ascii_alphanumeric() || "+/=".contains(letter);
    let end = named.find(|letter| !is_base64(letter)).unwrap_or(named.len());
    let bytes = STANDARD.decode(&named[..end]).ok()?;
    let id = bytes.windows(ID).find(|window| window.iter().all(|&byte| is_of_id(byte)))?;
    String::from_utf8(id.to_vec()).ok()
}

/// Returns whether a text can be the id of a page or connection.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID && text.bytes().all(is_of_id)
}

const fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_is_read_off_the_cookie_of_a_site() {
        // marshal of Python: a type, the length, the text
        let named = |id: &str| STANDARD.encode([&[0xfa, id.len() as u8], id.as_bytes()].concat());
        let id = "Abcdefghij_klmnopqrst1";
        let cookie = format!(" shop=\"c2lnbmF0dXJl?connection_id={}&data=kA&user=TgA\"", named(id));
        assert_eq!(connection_of(&cookie).as_deref(), Some(id));
        for other in ["", "a=1", "a=?connection_id=", "a=?connection_id=%%%", "a=?connection_id=+"] {
            assert_eq!(connection_of(other), None, "{other}");
        }
        assert_eq!(connection_of(&format!("a=?connection_id={}", named("short"))), None);
    }

    #[test]
    fn headers_of_the_socket_are_no_headers_of_its_polls() {
        let mut headers = HeaderMap::new();
        for name in ["connection", "upgrade", "sec-websocket-key", "accept-encoding", "cookie", "host"] {
            headers.insert(name, "a".parse().unwrap());
        }
        let visitor = SiteVisitor::new(headers, ClientAddress::new([127, 0, 0, 1].into()), None);
        let mut left: Vec<&str> = visitor.headers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["cookie", "host"]);
    }
}
