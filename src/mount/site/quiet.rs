//! Polls that are answered here, because a process of the site has just answered them with nothing.
//!
//! Owns: for which pages nothing has changed since then. Never: what is for a page.
//!
//! Most polls find nothing, but only a process can read the data of a page and of its user, which say what of the changes of
//! the user the page follows. So a process answers first. The same polls are then answered here, until something is published
//! for a page of the poll, the data of the page or of its user change, or the page belongs to another user. A process still sees
//! each page now and then, because it keeps the times at which pages were seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use pagewire_cluster::register::{ItemKey, ItemLevel, PageState, Register, Registers};
use tokio::time::Instant;

use super::poll::Poll;
use crate::mount::body::{MountResponse, whole};
use crate::telemetry::MountMetrics;

/// What a process of a site answers if there is nothing for the pages of a poll.
const NOTHING: &str =
    "<?xml version='1.0' encoding='UTF-8'?>\n<GenRoBag><result _T=\"NN\"></result></GenRoBag>";
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/xml; charset=utf-8");
/// Maximum number of pages that are remembered.
const MAX_PAGES: usize = 20_000;

/// The polls of one site that find nothing.
pub(super) struct QuietPolls {
    registers: Registers,
    /// How long a page is answered for here before a process sees it again.
    time: Duration,
    /// Path of the mount of the site.
    mount: String,
    metrics: MountMetrics,
    pages: Mutex<HashMap<String, QuietPage>>,
}

/// A page for which there was nothing.
struct QuietPage {
    state: PageState,
    until: Instant,
}

/// A page of a poll, before a process is asked.
struct PolledPage {
    register: Register,
    key: ItemKey,
    state: PageState,
}

impl QuietPolls {
    pub(super) fn new(registers: &Registers, time: Duration, mount: &str, metrics: MountMetrics) -> Self {
        Self { registers: registers.clone(), time, mount: mount.to_owned(), metrics, pages: Mutex::default() }
    }

    /// Answers a poll: here if nothing has changed, else with the answer of the site.
    ///
    /// # Errors
    ///
    /// The status of the refusal, if the answer of the site has broken off.
    pub(super) async fn answer(
        &self,
        poll: &Poll,
        site: impl Future<Output = MountResponse>,
    ) -> Result<MountResponse, StatusCode> {
        let Some(pages) = self.polled(poll).await else { return Ok(site.await) };
        if self.have_nothing(&pages).await {
            self.metrics.quiet_poll(&self.mount);
            return Ok(nothing());
        }
        let (response, is_nothing) = read(site.await).await?;
        if is_nothing {
            self.remember(pages);
        }
        Ok(response)
    }

    /// Returns the pages of a poll as they are now; `None` if only a process can answer it: it carries more than times, or a page
    /// is not known or not one of the browser.
    async fn polled(&self, poll: &Poll) -> Option<Vec<PolledPage>> {
        let mut pages = Vec::new();
        for id in poll.plain_pages()? {
            let key = ItemKey::new(ItemLevel::Page, id).ok()?;
            let (register, state) = self.registers.page_state(&key).await.ok()??;
            if !poll.has_connection(state.connection()) {
                return None;
            }
            pages.push(PolledPage { register, key, state });
        }
        Some(pages)
    }

    async fn have_nothing(&self, pages: &[PolledPage]) -> bool {
        if !pages.iter().all(|page| self.is_remembered(page)) {
            return false;
        }
        for PolledPage { register, key, .. } in pages {
            if register.has_news(key).await != Ok(false) {
                return false;
            }
        }
        true
    }

    fn is_remembered(&self, page: &PolledPage) -> bool {
        let pages = self.lock();
        let known = pages.get(&*page.key.id);
        known.is_some_and(|known| known.until > Instant::now() && known.state == page.state)
    }

    fn remember(&self, polled: Vec<PolledPage>) {
        let (now, mut pages) = (Instant::now(), self.lock());
        if pages.len() >= MAX_PAGES {
            pages.retain(|_, page| page.until > now);
        }
        for PolledPage { key, state, .. } in polled {
            if pages.len() < MAX_PAGES {
                pages.insert(key.id.to_string(), QuietPage { state, until: now + self.time });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, QuietPage>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nothing() -> MountResponse {
    let mut response = Response::new(whole(NOTHING));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_LENGTH, NOTHING.len().into());
    response
}

/// Reads an answer of the site that may say nothing. Returns it, and whether it does.
async fn read(response: MountResponse) -> Result<(MountResponse, bool), StatusCode> {
    let headers = response.headers();
    let is_so_long = headers.get(header::CONTENT_LENGTH) == Some(&HeaderValue::from(NOTHING.len()));
    let is_plain = headers.get(header::CONTENT_TYPE) == Some(&CONTENT_TYPE)
        && !headers.contains_key(header::SET_COOKIE)
        && !headers.contains_key(header::CONTENT_ENCODING);
    if response.status() != StatusCode::OK || !is_so_long || !is_plain {
        return Ok((response, false));
    }
    let (head, body) = response.into_parts();
    let body = Limited::new(body, NOTHING.len()).collect().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let body = body.to_bytes();
    let is_nothing = body == NOTHING;
    Ok((Response::from_parts(head, whole(body)), is_nothing))
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::engine::{Engine, Memory};
    use pagewire_cluster::register::{Creation, ItemEdit, Publication, RegisterName};
    use serde_json::json;

    use super::*;

    const TIME: Duration = Duration::from_secs(5);

    struct Site {
        polls: QuietPolls,
        register: Register,
        asked: u32,
    }

    impl Site {
        async fn new() -> Self {
            let registers = Registers::new(&Engine::Memory(Memory::new()));
            let register = registers.open(RegisterName::new("site").unwrap()).await.unwrap();
            let polls = QuietPolls::new(&registers, TIME, "/", MountMetrics::default());
            let site = Self { polls, register, asked: 0 };
            for (level, id, above) in [
                (ItemLevel::User, "ann", json!({})),
                (ItemLevel::Connection, "c", json!({"user": "ann"})),
                (ItemLevel::Page, "p", json!({"connection": "c"})),
                (ItemLevel::Page, "inner", json!({"connection": "c"})),
            ] {
                let fields = above.as_object().unwrap().clone();
                site.edit(level, id, ItemEdit { create: Some(Creation::New), fields, ..ItemEdit::default() })
                    .await;
            }
            site
        }

        async fn edit(&self, level: ItemLevel, id: &str, edit: ItemEdit) {
            self.register.write(&ItemKey::new(level, id).unwrap(), &edit).await.unwrap();
        }

        async fn set(&self, level: ItemLevel, id: &str, value: &str) {
            let data = [("x".to_owned(), serde_json::from_str(value).unwrap())].into();
            self.edit(level, id, ItemEdit { data, ..ItemEdit::default() }).await;
        }

        async fn publish(&self, page: &str) {
            let to = serde_json::from_value(json!({ "page": page })).unwrap();
            let changes = vec![serde_json::from_str("{}").unwrap()];
            let publication = Publication { to, changes, origin: None, reason: None };
            self.register.publish(&[publication]).await.unwrap();
        }

        /// Polls, with this body of the site's answer. Returns whether the site was asked.
        async fn polls(&mut self, poll: &Poll, body: &'static str) -> bool {
            let before = self.asked;
            let site = async {
                self.asked += 1;
                let mut response = nothing();
                response.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
                *response.body_mut() = whole(body);
                response
            };
            let response = self.polls.answer(poll, site).await.unwrap();
            let is_asked = self.asked > before;
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, if is_asked { body } else { NOTHING });
            is_asked
        }
    }

    fn poll(query: &str) -> Poll {
        Poll::new(query, &["c"])
    }

    #[tokio::test]
    async fn a_poll_is_answered_here_after_a_process_has_found_nothing_until_something_is_for_its_page() {
        let mut site = Site::new().await;
        let own = poll("page_id=p&reason=auto&_lastRpc=x");
        assert!(site.polls(&own, "<news/>").await);
        assert!(site.polls(&own, NOTHING).await, "news were no answer to remember");
        assert!(!site.polls(&own, NOTHING).await);
        site.publish("inner").await;
        assert!(!site.polls(&own, NOTHING).await, "it is for another page");
        site.publish("p").await;
        assert!(site.polls(&own, NOTHING).await);
        site.register.take(&ItemKey::new(ItemLevel::Page, "p").unwrap(), false).await.unwrap();
        assert!(!site.polls(&own, NOTHING).await);
        for (level, id) in [(ItemLevel::Page, "p"), (ItemLevel::User, "ann")] {
            site.set(level, id, "1").await;
            assert!(site.polls(&own, NOTHING).await);
            assert!(!site.polls(&own, NOTHING).await);
        }
        site.edit(ItemLevel::Page, "p", ItemEdit::deletion()).await;
        assert!(site.polls(&own, NOTHING).await);
        assert!(site.polls(&own, NOTHING).await, "a page that has ended is the site's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_sees_each_page_now_and_then() {
        let mut site = Site::new().await;
        let own = poll("page_id=p");
        assert!(site.polls(&own, NOTHING).await);
        for _ in 0..4 {
            tokio::time::advance(TIME / 5).await;
            assert!(!site.polls(&own, NOTHING).await);
        }
        tokio::time::advance(TIME / 5).await;
        assert!(site.polls(&own, NOTHING).await);
    }

    #[tokio::test]
    async fn pages_inside_of_a_page_are_polled_with_it() {
        let mut site = Site::new().await;
        let both =
            poll("page_id=p&_children_pages_info=%7B%22inner%22%3A%7B%22_lastRpc%22%3A1%7D%7D%3A%3AJS");
        assert!(site.polls(&poll("page_id=p"), NOTHING).await);
        assert!(site.polls(&both, NOTHING).await, "the inner page has not been polled yet");
        assert!(!site.polls(&both, NOTHING).await);
        site.publish("inner").await;
        assert!(site.polls(&both, NOTHING).await);
        assert!(!site.polls(&poll("page_id=p"), NOTHING).await);
    }

    #[tokio::test]
    async fn what_carries_more_than_times_or_comes_from_another_browser_is_for_a_process() {
        let mut site = Site::new().await;
        assert!(site.polls(&poll("page_id=p"), NOTHING).await);
        let carried = "_children_pages_info=%7B%22inner%22%3A%7B%22x%22%3A1%7D%7D";
        for query in ["page_id=p&_serverstore_changes=1", &format!("page_id=p&{carried}"), "page_id=x", ""] {
            assert!(site.polls(&poll(query), NOTHING).await, "{query}");
        }
        assert!(site.polls(&Poll::new("page_id=p", &["d"]), NOTHING).await);
        assert!(!site.polls(&poll("page_id=p"), NOTHING).await);
    }
}
