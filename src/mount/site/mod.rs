//! The pages of a Genropy site that are told of news over a WebSocket.
//!
//! Owns: which page a socket may have, when there are news for it, and where they come from. Never: sockets (`edge`), or what the
//! news are.
//!
//! The register of a site is kept here: only a process of the site can read what is published, because values are pickled. So the
//! news of a page are fetched with a poll of the page, as its browser does it, and an item of news is in one answer only. Polls of
//! browsers that find nothing are answered here where that is known (`quiet`).
//!
//! The daemon of a site is kept: the site pushes to a socket of this node (`wsproxy`), as to the framework's own server for
//! WebSockets. What it has pushed waits (`pushes`) until the socket of the page has it, or an answer to a poll (`poll`).

mod answer;
mod message;
pub(super) mod poll;
mod pushes;
mod quiet;
mod typed_json;
mod visitor;
mod wsproxy;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use pagewire_cluster::register::{ItemKey, ItemLevel, PageNews, RegisterError, Registers};
use pagewire_cluster::timing::Timing;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use self::message::announced;
use self::poll::Poll;
use self::pushes::{SiteMessage, SitePushes};
use self::quiet::QuietPolls;
pub(crate) use self::visitor::SiteVisitor;
use self::visitor::is_id;
pub(crate) use self::wsproxy::SiteListener;
use self::wsproxy::SiteRequest;
use super::body::{MountResponse, empty};
use super::{Mount, MountRequest, Mounts};
use crate::config::MountConfig;
use crate::telemetry::MountMetrics;

/// Polls of one mount that are in progress at a time, so that news for many pages leave room for other requests.
const POLLS: usize = 8;
/// Maximum size of the news of a page, in bytes.
const MAX_NEWS: usize = 8 * 1024 * 1024;

/// The pages of one site that have sockets at this node.
pub(super) struct SitePages {
    source: NewsSource,
    polls: Semaphore,
    /// The socket of each page: its number, and what ends it.
    sockets: Mutex<HashMap<String, (u64, CancellationToken)>>,
}

/// Where the news of the pages of a site are.
enum NewsSource {
    /// In the register of the site, which is kept here.
    Register(Registers, Box<QuietPolls>),
    /// Here, as the site has pushed them.
    Pushes(Arc<SitePushes>),
}

/// A page of a site that a socket has.
pub(crate) struct SitePage {
    hold: PageHold,
    news: SiteNews,
    /// Cancelled when another socket has the page.
    replaced: CancellationToken,
}

/// What tells of news for a page.
enum SiteNews {
    Register(PageNews),
    Pushes(Arc<SitePushes>, Arc<Notify>),
}

impl SitePages {
    /// The pages of a mount, if it has a Genropy site that has sockets here.
    pub(super) fn of(
        config: &MountConfig,
        registers: &Registers,
        timing: &Timing,
        metrics: &MountMetrics,
    ) -> Option<Arc<Self>> {
        let source = if config.process.has_genropy_register() {
            let quiet = QuietPolls::new(registers, timing.site_quiet, &config.path, metrics.clone());
            NewsSource::Register(registers.clone(), Box::new(quiet))
        } else if config.async_socket().is_some() {
            NewsSource::Pushes(Arc::new(SitePushes::new(&config.path, timing.site_forget, metrics.clone())))
        } else {
            return None;
        };
        let (polls, sockets) = (Semaphore::new(POLLS), Mutex::default());
        Some(Arc::new(Self { source, polls, sockets }))
    }

    /// Returns what the site has pushed, if it pushes to this server.
    pub(super) fn pushes(&self) -> Option<&Arc<SitePushes>> {
        match &self.source {
            NewsSource::Pushes(pushes) => Some(pushes),
            NewsSource::Register(..) => None,
        }
    }

    /// Answers a poll of a page, with the answer of the site as far as it is needed.
    ///
    /// # Errors
    ///
    /// The status of the refusal, if the answer of the site has broken off.
    pub(super) async fn answer(
        &self,
        poll: &Poll,
        site: impl Future<Output = MountResponse>,
    ) -> Result<MountResponse, StatusCode> {
        match &self.source {
            NewsSource::Register(_, quiet) => quiet.answer(poll, site).await,
            NewsSource::Pushes(pushes) => poll.answer(pushes, site.await).await,
        }
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

    /// Returns what tells of news for a page; `None` if it does not exist or is not the client's.
    async fn news_of(&self, id: &str, visitor: &SiteVisitor) -> Result<Option<SiteNews>, RegisterError> {
        match &self.source {
            NewsSource::Register(registers, _) => {
                let key = ItemKey::new(ItemLevel::Page, id)?;
                let Some((register, fields)) = registers.find(&key).await? else { return Ok(None) };
                let owner = fields.get("connection").and_then(|owner| owner.as_str());
                let is_own = owner.is_some_and(|owner| visitor.has_connection(owner));
                Ok(is_own.then(|| SiteNews::Register(PageNews::new(register, key))))
            }
            NewsSource::Pushes(pushes) => {
                let is_own = pushes.is_of(id, |connection| visitor.has_connection(connection));
                Ok(is_own.then(|| SiteNews::Pushes(pushes.clone(), pushes.news(id))))
            }
        }
    }
}

/// Obeys a message of a site: keeps it for its pages, or knows the page that it announces. Other messages to this server
/// have no meaning here.
fn obey(pushes: &SitePushes, sent: SiteRequest) {
    if !sent.pages.is_empty() {
        pushes.push(&sent.pages, SiteMessage::new(sent.envelope));
    } else if let Some(page) = announced(&sent.envelope) {
        pushes.know(page);
    }
}

impl SitePage {
    /// Resolves when something is published for the page after this position of the log, with the position of what it has seen.
    pub(crate) async fn published(&self, after: u64) -> u64 {
        match &self.news {
            SiteNews::Register(news) => news.published(after).await,
            SiteNews::Pushes(pushes, told) => {
                while pushes.is_empty(&self.hold.id) {
                    told.notified().await;
                }
                after
            }
        }
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
    /// Returns a mount with the pages of its site, if it has a Genropy site that has sockets here.
    fn site(&self, mount: usize) -> Option<(&Mount, &Arc<SitePages>)> {
        let mount = self.mounts.get(mount)?;
        Some((mount, mount.site_pages.as_ref()?))
    }

    /// Returns whether this is the address of the sockets of a Genropy site.
    pub(crate) fn is_site_socket(&self, mount: usize, path: &str) -> bool {
        self.site(mount)
            .is_some_and(|(site, _)| path.strip_prefix(site.path.trim_end_matches('/')) == Some("/websocket"))
    }

    /// Serves the socket at which the site of a mount pushes to its pages. Never returns.
    pub(crate) async fn serve_site(&self, path: &str, listener: SiteListener) {
        let mount = self.mounts.iter().find(|mount| mount.path == path);
        let Some(pushes) = mount.and_then(|mount| mount.site_pages.as_ref()?.pushes()) else { return };
        listener.serve(&self.timing, |sent| obey(pushes, sent)).await;
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
        let Some((_, pages)) = self.site(mount).filter(|_| is_id(id)) else { return Ok(None) };
        let Some(news) = pages.news_of(id, visitor).await? else { return Ok(None) };
        let (hold, replaced) = pages.hold(id);
        Ok(Some(SitePage { hold, news, replaced }))
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
        if let SiteNews::Pushes(pushes, _) = &page.news {
            return Ok(pushes.take(&page.hold.id).map(|message| message.text.clone()));
        }
        // never an error: it is not closed
        let _turn = pages.polls.acquire().await;
        let (path, id) = (site.path.trim_end_matches('/'), &page.hold.id);
        let uri = format!("{path}/_ping?page_id={id}&reason=push&position={position}");
        let mut request = Request::get(uri).body(empty()).map_err(|_| missing)?;
        *request.headers_mut() = visitor.headers.clone();
        let (peer, user) = (visitor.peer.clone(), visitor.user.clone());
        let asked = MountRequest { request, peer, user, body_failure: Box::new(|| None) };
        let response = self.respond(mount, Box::new(asked)).await;
        if response.status() != StatusCode::OK {
            return Err(NewsError::Status(response.status()));
        }
        let body =
            Limited::new(response.into_body(), MAX_NEWS).collect().await.map_err(|_| NewsError::Body)?;
        let text = String::from_utf8(body.to_bytes().to_vec()).map_err(|_| NewsError::Body)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}
