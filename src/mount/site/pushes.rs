//! What a Genropy site that keeps its daemon has pushed to its pages, until a socket or a poll has it.
//!
//! Owns: the pages that the site has announced or that have polled, and the messages that wait for each, within limits. Never:
//! sockets, or the form of a message.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pagewire_cluster::clock::wall;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;

use super::message::NewPage;
use crate::telemetry::MountMetrics;

/// Pages that are known at a time.
const MAX_PAGES: usize = 20_000;
/// Messages that wait for one page.
const MAX_MESSAGES: usize = 1000;
/// Their size, in bytes.
const MAX_PAGE: usize = 1024 * 1024;
/// The size of all messages that wait, in bytes.
const MAX_ALL: usize = 64 * 1024 * 1024;

/// A message of a site.
#[derive(Debug)]
pub(super) struct SiteMessage {
    /// The framework's XML.
    pub(super) text: String,
    /// When it has arrived, in ISO 8601.
    pub(super) at: String,
    /// Whether it is a change of data, which a poll can have.
    pub(super) is_change: bool,
}

impl SiteMessage {
    /// A message that arrives now.
    pub(super) fn new(text: String) -> Self {
        let at = OffsetDateTime::from(wall()).format(&Rfc3339).unwrap_or_default();
        let is_change = super::message::change(&text, 0, &at).is_some();
        Self { text, at, is_change }
    }
}

/// The pages of one site.
pub(in crate::mount) struct SitePushes {
    pages: Mutex<PushedPages>,
    /// How long a page is known that has no socket and does not poll.
    forget: Duration,
    mount: String,
    metrics: MountMetrics,
}

#[derive(Default)]
struct PushedPages {
    by_id: HashMap<String, PushedPage>,
    swept: Option<Instant>,
    /// The size of all messages that wait.
    bytes: usize,
}

struct PushedPage {
    /// The connection of its browser, as far as it is known.
    connection: Option<String>,
    waiting: VecDeque<Arc<SiteMessage>>,
    bytes: usize,
    seen: Instant,
    /// Tells the one that has the socket of the page, which shares it.
    news: Arc<Notify>,
}

impl SitePushes {
    /// No page.
    pub(super) fn new(mount: &str, forget: Duration, metrics: MountMetrics) -> Self {
        Self { pages: Mutex::default(), forget, mount: mount.to_owned(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, PushedPages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Knows a page that the site has created, or that has polled. The first connection of a page is the one that it keeps.
    pub(super) fn know(&self, page: NewPage) {
        let mut pages = self.lock();
        let known = pages.page(&page.id, self.forget);
        known.connection.get_or_insert(page.connection);
    }

    /// Returns whether a page is known and is one of this connection.
    pub(super) fn is_of(&self, page: &str, has_connection: impl FnOnce(&str) -> bool) -> bool {
        let pages = self.lock();
        pages.by_id.get(page).and_then(|page| page.connection.as_deref()).is_some_and(has_connection)
    }

    /// Returns what tells of messages for a page, and keeps the page known for as long as it is kept.
    pub(super) fn news(&self, page: &str) -> Arc<Notify> {
        self.lock().page(page, self.forget).news.clone()
    }

    /// Keeps a message for pages: those that are named, or all that are known for `*`. The oldest messages of a page that has
    /// too many are dropped.
    pub(super) fn push(&self, named: &str, message: SiteMessage) {
        let (mut pages, message) = (self.lock(), Arc::new(message));
        let is_for_all = named.split(',').any(|page| page == "*");
        let ids: Vec<String> = match is_for_all {
            true => pages.by_id.keys().cloned().collect(),
            false => named.split(',').filter(|id| super::visitor::is_id(id)).map(str::to_owned).collect(),
        };
        let dropped: u64 = ids.iter().map(|id| pages.push(id, &message, self.forget)).sum();
        drop(pages);
        if dropped > 0 {
            self.metrics.pushes_dropped(&self.mount, dropped);
        }
    }

    /// Takes the oldest message for the socket of a page.
    pub(super) fn take(&self, page: &str) -> Option<Arc<SiteMessage>> {
        let mut pages = self.lock();
        let found = pages.by_id.get_mut(page)?;
        let message = found.waiting.pop_front()?;
        found.bytes -= message.text.len();
        pages.bytes -= message.text.len();
        Some(message)
    }

    /// Takes the messages that a poll of a page can have, the oldest first.
    pub(super) fn take_changes(&self, page: &str) -> Vec<Arc<SiteMessage>> {
        let mut pages = self.lock();
        let Some(found) = pages.by_id.get_mut(page) else { return Vec::new() };
        found.seen = Instant::now();
        let (taken, left): (VecDeque<_>, _) = found.waiting.drain(..).partition(|message| message.is_change);
        found.waiting = left;
        let bytes: usize = taken.iter().map(|message| message.text.len()).sum();
        found.bytes -= bytes;
        pages.bytes -= bytes;
        taken.into()
    }

    /// Puts messages back that have not been sent.
    pub(super) fn put_back(&self, page: &str, messages: Vec<Arc<SiteMessage>>) {
        let mut pages = self.lock();
        let bytes: usize = messages.iter().map(|message| message.text.len()).sum();
        let found = pages.page(page, self.forget);
        messages.into_iter().rev().for_each(|message| found.waiting.push_front(message));
        found.bytes += bytes;
        found.news.notify_one();
        pages.bytes += bytes;
    }

    /// Returns whether nothing waits for a page.
    pub(super) fn is_empty(&self, page: &str) -> bool {
        self.lock().by_id.get(page).is_none_or(|page| page.waiting.is_empty())
    }
}

impl PushedPages {
    /// Returns a page that is seen now.
    fn page(&mut self, id: &str, forget: Duration) -> &mut PushedPage {
        let now = Instant::now();
        if !self.by_id.contains_key(id) {
            self.make_room(now, forget);
        }
        let page = self.by_id.entry(id.to_owned()).or_insert_with(|| PushedPage {
            connection: None,
            waiting: VecDeque::new(),
            bytes: 0,
            seen: now,
            news: Arc::default(),
        });
        page.seen = now;
        page
    }

    /// Forgets pages that are not in use: those that were not seen for long, and the oldest ones if there are too many.
    fn make_room(&mut self, now: Instant, forget: Duration) {
        let is_full = self.by_id.len() >= MAX_PAGES;
        if !is_full && self.swept.is_some_and(|swept| now.duration_since(swept) < forget / 4) {
            return;
        }
        self.swept = Some(now);
        self.by_id.retain(|_, page| page.has_socket() || now.duration_since(page.seen) < forget);
        if self.by_id.len() >= MAX_PAGES {
            let mut seen: Vec<Instant> = self.by_id.values().map(|page| page.seen).collect();
            let (_, &mut median, _) = seen.select_nth_unstable(MAX_PAGES / 2);
            self.by_id.retain(|_, page| page.has_socket() || page.seen > median);
        }
        self.bytes = self.by_id.values().map(|page| page.bytes).sum();
    }

    /// Keeps a message for a page. Returns the number of messages that were dropped.
    fn push(&mut self, id: &str, message: &Arc<SiteMessage>, forget: Duration) -> u64 {
        let size = message.text.len();
        if size > MAX_PAGE || self.bytes + size > MAX_ALL {
            return 1;
        }
        let seen = self.by_id.get(id).map(|page| page.seen);
        let page = self.page(id, forget);
        // pushes alone do not keep a page known
        page.seen = seen.unwrap_or(page.seen);
        page.waiting.push_back(message.clone());
        page.bytes += size;
        let (mut freed, mut dropped) = (0, 0);
        while page.waiting.len() > MAX_MESSAGES || page.bytes > MAX_PAGE {
            let Some(oldest) = page.waiting.pop_front() else { break };
            page.bytes -= oldest.text.len();
            freed += oldest.text.len();
            dropped += 1;
        }
        page.news.notify_one();
        self.bytes = self.bytes + size - freed;
        dropped
    }
}

impl PushedPage {
    fn has_socket(&self) -> bool {
        Arc::strong_count(&self.news) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "<GenRoBag><command>set</command><data><data>x</data><path>p</path></data></GenRoBag>";
    const ALERT: &str = "<GenRoBag><command>alert</command><data>x</data></GenRoBag>";

    fn pushes() -> SitePushes {
        SitePushes::new("/", Duration::from_secs(60), MountMetrics::default())
    }

    fn new_page(id: &str, connection: &str) -> NewPage {
        NewPage { id: id.to_owned(), connection: connection.to_owned() }
    }

    fn push(pushes: &SitePushes, named: &str, text: &str) {
        pushes.push(named, SiteMessage::new(text.to_owned()));
    }

    fn taken(pushes: &SitePushes, page: &str) -> Option<String> {
        pushes.take(page).map(|message| message.text.clone())
    }

    #[test]
    fn a_message_is_taken_once_by_a_socket_or_by_a_poll() {
        let pushes = pushes();
        push(&pushes, "a,b", SET);
        push(&pushes, "a", ALERT);
        assert_eq!(taken(&pushes, "a").as_deref(), Some(SET));
        assert!(pushes.take_changes("a").is_empty(), "a poll has changes of data only");
        assert_eq!(taken(&pushes, "a").as_deref(), Some(ALERT));
        let polled = pushes.take_changes("b");
        assert_eq!(polled.len(), 1);
        assert!(pushes.is_empty("b"));
        pushes.put_back("b", polled);
        assert_eq!(taken(&pushes, "b").as_deref(), Some(SET));
        assert_eq!(pushes.lock().bytes, 0);
    }

    #[test]
    fn a_message_for_all_is_for_the_pages_that_are_known() {
        let pushes = pushes();
        pushes.know(new_page("a", "c"));
        push(&pushes, "*", SET);
        assert_eq!(taken(&pushes, "a").as_deref(), Some(SET));
        assert_eq!(taken(&pushes, "b"), None);
        push(&pushes, "not an id,,", SET);
        assert_eq!(pushes.lock().by_id.len(), 1);
    }

    #[test]
    fn a_page_keeps_its_first_connection() {
        let pushes = pushes();
        push(&pushes, "a", SET);
        assert!(!pushes.is_of("a", |_| true), "nothing is known of its browser");
        pushes.know(new_page("a", "c1"));
        pushes.know(new_page("a", "c2"));
        assert!(pushes.is_of("a", |connection| connection == "c1"));
        assert!(!pushes.is_of("b", |_| true));
    }

    #[test]
    fn the_oldest_messages_of_a_page_are_dropped_when_it_has_too_many() {
        let pushes = pushes();
        for number in 0..MAX_MESSAGES + 2 {
            push(&pushes, "a", &number.to_string());
        }
        assert_eq!(taken(&pushes, "a").as_deref(), Some("2"));
        push(&pushes, "a", &"x".repeat(MAX_PAGE + 1));
        push(&pushes, "a", &"x".repeat(MAX_PAGE));
        assert_eq!(pushes.lock().by_id["a"].waiting.len(), 1, "the large one alone has room");
        assert_eq!(pushes.lock().bytes, MAX_PAGE);
    }

    #[test]
    fn pages_without_a_socket_are_forgotten() {
        let pushes = SitePushes::new("/", Duration::ZERO, MountMetrics::default());
        let news = pushes.news("held");
        push(&pushes, "held", SET);
        push(&pushes, "gone", SET);
        pushes.know(new_page("new", "c"));
        assert_eq!(taken(&pushes, "gone"), None);
        assert_eq!(taken(&pushes, "held").as_deref(), Some(SET));
        drop(news);
        pushes.know(new_page("newer", "c"));
        assert!(!pushes.lock().by_id.contains_key("held"));
        assert_eq!(pushes.lock().bytes, 0);
    }

    #[test]
    fn the_pages_are_limited() {
        let pushes = pushes();
        for number in 0..=MAX_PAGES {
            pushes.know(new_page(&number.to_string(), "c"));
        }
        assert!(pushes.lock().by_id.len() <= MAX_PAGES);
        assert!(pushes.is_of(&MAX_PAGES.to_string(), |_| true), "the newest is known");
    }
}
