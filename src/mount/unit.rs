//! What requests belong together, so that the same process serves them. Pure.
//!
//! Owns: where a request says it. Never: the process (`placement`). What a request says is not proven and decides
//! nothing but its process.

use http::header::HeaderValue;
use http::{HeaderMap, Uri};
use pagewire_cluster::id::{Address, Key, NodeNumber};
use sha2::{Digest, Sha256};

use super::cookie::cookie_value;
use crate::config::Sticky;

/// The cookie that tells one browser from another one.
const CONNECTION_COOKIE: &str = "pagewire_connection";
/// The header, and the parameter of the query, that name the page of a request.
const PAGE_HEADER: &str = "x-pagewire-page";
const PAGE_PARAMETER: &str = "page_id";

/// What the same process serves again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// A hash of what the request says.
    pub(super) key: Key,
    /// The node whose processes come first: the one that holds the page.
    pub(super) node: Option<NodeNumber>,
    /// The page that the request names. If it has an object in a process of this node, that process serves the request.
    pub(super) page: Option<Key>,
}

impl Unit {
    /// Returns the unit with a key, which names no page and no node.
    pub(super) const fn of(key: Key) -> Self {
        Self { key, node: None, page: None }
    }

    /// Returns the unit of a request that belongs to no other one.
    pub(super) fn alone() -> Self {
        Self::of(Key::random())
    }
}

/// What a request says about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnitFacts<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) uri: &'a Uri,
    /// The user whom its token names.
    pub(super) user: Option<&'a str>,
    /// The browser that it comes from.
    pub(super) browser: Option<Browser>,
}

/// The browser of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Browser {
    pub(super) connection: Key,
    /// Whether it has no cookie yet.
    pub(super) is_new: bool,
}

impl Browser {
    /// Returns the connection that the cookie names.
    pub(super) fn known(headers: &HeaderMap) -> Option<Key> {
        cookie_value(headers, CONNECTION_COOKIE)?.parse().ok()
    }

    /// Returns the browser that the cookie names, or a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let known = Self::known(headers);
        Self { connection: known.unwrap_or_else(Key::random), is_new: known.is_none() }
    }

    /// Returns the `Set-Cookie` that gives a new browser its cookie. Scripts do not see it, and it is sent over HTTPS only
    /// if it came so.
    pub(super) fn set_cookie(self, is_secure: bool) -> Option<HeaderValue> {
        let (connection, secure) = (self.connection, if is_secure { "; Secure" } else { "" });
        let text = format!("{CONNECTION_COOKIE}={connection}; Path=/; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&text).ok().filter(|_| self.is_new)
    }
}

/// Returns the unit of a request; `None` for a request that may go anywhere.
pub(super) fn unit(sticky: &Sticky, request: UnitFacts<'_>) -> Option<Unit> {
    let of = |text: &str| Some(Unit::of(hash(sticky, text)));
    match sticky {
        Sticky::Nothing => None,
        Sticky::User => of(request.user?),
        Sticky::Connection => of(&request.browser?.connection.to_string()),
        Sticky::Cookie(name) => of(cookie_value(request.headers, name).filter(|value| !value.is_empty())?),
        Sticky::Page => {
            let (page, node) = named_page(request.headers, request.uri)?;
            Some(Unit { key: hash(sticky, &page.to_string()), node, page: Some(page) })
        }
    }
}

/// Returns the page that a request names, which it need not have, with its node if that is said.
pub(super) fn named_page(headers: &HeaderMap, uri: &Uri) -> Option<(Key, Option<NodeNumber>)> {
    let header = headers.get(PAGE_HEADER).and_then(|value| value.to_str().ok());
    if let Some(found) = header.and_then(page_id) {
        return Some(found);
    }
    let parameters = uri.query().unwrap_or_default().split('&');
    let values = parameters.filter_map(|pair| pair.strip_prefix(PAGE_PARAMETER)?.strip_prefix('='));
    // `|` is the only character of an address that a URL encodes
    values.map(|value| value.replace("%7C", "|").replace("%7c", "|")).find_map(|value| page_id(&value))
}

/// Reads an address, or the key of a page alone.
fn page_id(text: &str) -> Option<(Key, Option<NodeNumber>)> {
    let address = text.parse::<Address>().map(|address| (address.key, Some(address.node)));
    address.or_else(|_| text.parse().map(|key| (key, None))).ok()
}

fn hash(sticky: &Sticky, text: &str) -> Key {
    let hash = Sha256::new().chain_update(sticky.to_string()).chain_update([0]).chain_update(text).finalize();
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash[..16]);
    Key::from_bits(u128::from_be_bytes(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "0123456789abcdefghABCD";

    fn of(sticky: &Sticky, headers: &[(&'static str, &str)], path: &str, user: Option<&str>) -> Option<Unit> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        unit(sticky, UnitFacts { headers: &map, uri: &path.parse().unwrap(), user, browser: None })
    }

    #[test]
    fn each_kind_of_unit_is_read_where_it_is_said() {
        let cookie = Sticky::Cookie("sid".to_owned());
        let cookies = [("cookie", "a=1; sid=x?&=+")];
        let same = |sticky: &Sticky, user| of(sticky, &cookies, "/", user);
        assert_eq!(same(&Sticky::Nothing, Some("ann")), None);
        assert!(same(&Sticky::User, Some("ann")).is_some() && same(&Sticky::User, None).is_none());
        assert!(same(&cookie, None).is_some());
        assert_ne!(same(&cookie, None), of(&cookie, &[("cookie", "sid=other")], "/", None));
        assert_eq!(same(&cookie, None), of(&cookie, &[("cookie", "sid=x?&=+")], "/any", Some("bob")));
        assert_eq!(of(&cookie, &[("cookie", "sid=; other=1")], "/", None), None);
    }

    #[test]
    fn a_page_is_named_by_a_header_or_the_query_with_its_node_or_without_it() {
        let address = format!("{PAGE}|p02");
        let in_query = |query: String| of(&Sticky::Page, &[], &format!("/x?{query}"), None);
        let header = of(&Sticky::Page, &[("x-pagewire-page", &address)], "/", None).unwrap();
        assert_eq!(header.node, NodeNumber::new(2));
        assert_eq!(in_query(format!("a=1&page_id={PAGE}%7Cp02")), Some(header));
        let alone = in_query(format!("page_id={PAGE}")).unwrap();
        assert_eq!((alone.key, alone.node), (header.key, None));
        assert_eq!(in_query("page_id=7".to_owned()), None);
        assert_eq!(in_query(format!("my_page_id={PAGE}")), None);
    }

    #[test]
    fn a_browser_without_the_cookie_is_one_unit_from_its_first_request_on() {
        let new = Browser::of(&HeaderMap::new());
        let set = new.set_cookie(true).unwrap().to_str().unwrap().to_owned();
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Secure");
        let again = HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from_str(cookie).unwrap())]);
        let known = Browser::of(&again);
        assert_eq!(known, Browser { is_new: false, ..new });
        assert_eq!(known.set_cookie(false), None);
        let uri = Uri::from_static("/");
        let of = |browser, headers| {
            unit(&Sticky::Connection, UnitFacts { headers, uri: &uri, user: None, browser: Some(browser) })
        };
        assert_eq!(of(new, &HeaderMap::new()), of(known, &again));
        let forged =
            HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from_static("pagewire_connection=x"))]);
        assert!(Browser::of(&forged).is_new);
    }
}
