//! The pages of a Genropy site that are told of news over a WebSocket.
//!
//! Owns: which page a socket may have, when something was published for it, and the request that fetches that from a process
//! of the site. Never: sockets (`edge`), or what the news are (the package `pagewire_genropy`).
//!
//! Only a process of the site can read what is published: values are pickled. So the news of a page are fetched with a poll
//! of the page, as its browser does it, and an item of news is in one answer only.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use pagewire_cluster::register::{ItemKey, ItemLevel, PageNews, RegisterError, Registers};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::body::empty;
use super::{Mount, MountRequest, Mounts};

/// Polls of one mount that are in progress at a time, so that news for many pages leave room for other requests.
const POLLS: usize = 8;
/// Maximum size of the news of a page, in bytes.
const MAX_NEWS: usize = 8 * 1024 * 1024;
/// Number of characters of the id of a page or connection.
const ID: usize = 22;
/// What stands before the connection in the cookie of a site.
const CONNECTION: &str = "?connection_id=";

/// The pages of one site that have sockets at this node.
pub(super) struct SitePages {
    registers: Registers,
    polls: Semaphore,
    /// The socket of each page: its number, and what ends it.
    sockets: Mutex<HashMap<String, (u64, CancellationToken)>>,
}

/// A client of a site, as the upgrade of its socket names it.
pub(crate) struct SiteVisitor {
    /// The headers of its requests.
    headers: HeaderMap,
    peer: IpAddr,
    user: Option<Arc<str>>,
}

/// A page of a site that a socket has.
pub(crate) struct SitePage {
    hold: PageHold,
    news: PageNews,
    /// Cancelled when another socket has the page.
    replaced: CancellationToken,
}

impl SitePages {
    pub(super) fn new(registers: Registers) -> Self {
        Self { registers, polls: Semaphore::new(POLLS), sockets: Mutex::default() }
    }

    /// Gives a page to a new socket; the one that had it before is told.
    fn hold(self: &Arc<Self>, id: &str) -> (PageHold, CancellationToken) {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = CancellationToken::new();
        let before = sockets.get(id).map_or(0, |(number, _)| *number);
        if let Some((_, older)) = sockets.insert(id.to_owned(), (before + 1, replaced.clone())) {
            older.cancel();
        }
        (PageHold { pages: self.clone(), id: id.to_owned(), number: before + 1 }, replaced)
    }
}

impl SiteVisitor {
    /// A client with the headers of its upgrade.
    pub(crate) fn new(mut headers: HeaderMap, peer: IpAddr, user: Option<Arc<str>>) -> Self {
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

    fn connections(&self) -> impl Iterator<Item = String> {
        let lines = self.headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(';')).filter_map(connection_of)
    }
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

const fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl SitePage {
    /// Resolves when something is published for the page after this position of the log, with the position of what it has seen.
    pub(crate) async fn published(&self, after: u64) -> u64 {
        self.news.published(after).await
    }

    /// Resolves when another socket has the page.
    pub(crate) fn replaced(&self) -> impl Future<Output = ()> + Send + use<> {
        self.replaced.clone().cancelled_owned()
    }
}

/// Gives a page up when it is dropped.
struct PageHold {
    pages: Arc<SitePages>,
    id: String,
    number: u64,
}

impl Drop for PageHold {
    fn drop(&mut self) {
        let mut sockets = self.pages.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        if sockets.get(&self.id).is_some_and(|(number, _)| *number == self.number) {
            sockets.remove(&self.id);
        }
    }
}

/// Why the news of a page were not fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewsError {
    /// The site has answered so.
    Status(StatusCode),
    /// The answer is too large or has broken off.
    Body,
}

impl fmt::Display for NewsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(out, "the site has answered {status}"),
            Self::Body => out.write_str("the answer of the site is too large or has broken off"),
        }
    }
}

impl Mounts {
    /// Returns a mount with the pages of its site, if it has a Genropy site that has its register here.
    fn site(&self, mount: usize) -> Option<(&Mount, &Arc<SitePages>)> {
        let mount = self.mounts.get(mount)?;
        Some((mount, mount.site_pages.as_ref()?))
    }

    /// Returns whether this is the address of the sockets of a Genropy site that has its register here.
    pub(crate) fn is_site_socket(&self, mount: usize, path: &str) -> bool {
        self.site(mount)
            .is_some_and(|(site, _)| path.strip_prefix(site.path.trim_end_matches('/')) == Some("/websocket"))
    }

    /// Gives the page that a client names to a new socket of it; `None` if it does not exist or is not the client's.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unavailable`] when the engine is unavailable.
    pub(crate) async fn site_page(
        &self,
        mount: usize,
        id: &str,
        visitor: &SiteVisitor,
    ) -> Result<Option<SitePage>, RegisterError> {
        let Some((_, pages)) = self.site(mount) else { return Ok(None) };
        if id.is_empty() || !id.bytes().all(is_of_id) {
            return Ok(None);
        }
        let key = ItemKey::new(ItemLevel::Page, id)?;
        let Some((register, fields)) = pages.registers.find(&key).await? else { return Ok(None) };
        let owner = fields.get("connection").and_then(|owner| owner.as_str());
        if !visitor.connections().any(|connection| Some(connection.as_str()) == owner) {
            return Ok(None);
        }
        let (hold, replaced) = pages.hold(id);
        Ok(Some(SitePage { hold, news: PageNews::new(register, key), replaced }))
    }

    /// Takes the news of a page up to a position of the log from a process of its site: a text for its socket, or `None` if
    /// another poll has them.
    ///
    /// # Errors
    ///
    /// [`NewsError`]: they stay where they are, or are lost with the answer.
    pub(crate) async fn site_news(
        &self,
        mount: usize,
        page: &SitePage,
        position: u64,
        visitor: &SiteVisitor,
    ) -> Result<Option<String>, NewsError> {
        let missing = NewsError::Status(StatusCode::NOT_FOUND);
        let Some((site, pages)) = self.site(mount) else { return Err(missing) };
        // never an error: it is not closed
        let _turn = pages.polls.acquire().await;
        let (path, id) = (site.path.trim_end_matches('/'), &page.hold.id);
        let uri = format!("{path}/_ping?page_id={id}&reason=push&position={position}");
        let mut request = Request::get(uri).body(empty()).map_err(|_| missing)?;
        *request.headers_mut() = visitor.headers.clone();
        let (peer, user) = (visitor.peer, visitor.user.clone());
        let response =
            self.respond(mount, MountRequest { request, peer, user, body_failure: Box::new(|| None) });
        let response = response.await;
        if response.status() != StatusCode::OK {
            return Err(NewsError::Status(response.status()));
        }
        let body =
            Limited::new(response.into_body(), MAX_NEWS).collect().await.map_err(|_| NewsError::Body)?;
        let text = String::from_utf8(body.to_bytes().to_vec()).map_err(|_| NewsError::Body)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
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
        let visitor = SiteVisitor::new(headers, IpAddr::from([127, 0, 0, 1]), None);
        let mut left: Vec<&str> = visitor.headers.keys().map(http::HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["cookie", "host"]);
    }
}
