//! A poll of a page of a Genropy site that keeps its daemon.
//!
//! Owns: adding what the site has pushed to the pages of the poll to its answer. Never: what the site itself answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::{Map, Value};

use super::answer::{WaitingMessage, merged};
use super::message::NewPage;
use super::pushes::{SiteMessage, SitePushes};
use super::visitor::{connections, is_id};
use crate::mount::MountRequest;
use crate::mount::body::{MountResponse, empty, whole};

/// Maximum size of a poll, in bytes.
const MAX_POLL: usize = 1024 * 1024;
/// Maximum size of an answer that is changed, in bytes.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Maximum number of pages inside of a page that get messages with its polls.
const MAX_CHILDREN: usize = 100;
/// Parameters of a poll that change nothing but times: of the page, and of each page inside of it.
const TIMES: [&str; 3] = ["_lastUserEventTs", "_lastRpc", "_pageProfilers"];

/// A poll: the page, the pages inside of it, and the connection of its browser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::mount) struct Poll {
    page: String,
    children: Vec<String>,
    connections: Vec<String>,
    /// Whether it carries more than times.
    carries: bool,
}

/// The pages inside of the page that polls.
#[derive(Default)]
struct Children {
    ids: Vec<String>,
    carry: bool,
}

/// Returns whether a request is a poll of a site at this path. A longer one is for the site alone.
pub(in crate::mount) fn is_poll<B>(path: &str, request: &Request<B>) -> bool {
    let is_ping = request.uri().path().strip_prefix(path.trim_end_matches('/')) == Some("/_ping");
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let is_short =
        length.and_then(|length| length.parse().ok()).is_none_or(|length: usize| length <= MAX_POLL);
    is_ping && is_short && matches!(*request.method(), Method::POST | Method::GET)
}

/// Reads a poll. Its answer is not compressed, so that it can be added to.
///
/// # Errors
///
/// The status of the refusal, if its body does not arrive or is too large.
pub(in crate::mount) async fn read(
    mut asked: Box<MountRequest>,
) -> Result<(Box<MountRequest>, Poll), StatusCode> {
    let (mut head, body) = std::mem::replace(&mut asked.request, Request::new(empty())).into_parts();
    let body = match Limited::new(body, MAX_POLL).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Err((asked.body_failure)().unwrap_or(StatusCode::PAYLOAD_TOO_LARGE)),
    };
    head.headers.remove(header::ACCEPT_ENCODING);
    let poll = Poll::of(&head.headers, head.uri.query().unwrap_or_default(), &body);
    asked.request = Request::from_parts(head, whole(body));
    Ok((asked, poll))
}

#[cfg(test)]
impl Poll {
    /// A poll with this query, of a browser with these connections.
    pub(super) fn new(query: &str, connections: &[&str]) -> Self {
        let connections = connections.iter().map(|id| (*id).to_owned()).collect();
        Self { connections, ..Self::of(&HeaderMap::new(), query, b"") }
    }
}

impl Poll {
    fn of(headers: &HeaderMap, query: &str, body: &[u8]) -> Self {
        let mut poll = Self { connections: connections(headers).collect(), ..Self::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(body)) {
            match &*name {
                "page_id" if is_id(&value) && poll.page.is_empty() => poll.page = value.into_owned(),
                "_children_pages_info" => {
                    let Children { ids, carry } = children(&value);
                    poll.carries |= carry;
                    poll.children = ids;
                }
                "reason" | "_no_cache_" => {}
                name => poll.carries |= !TIMES.contains(&name),
            }
        }
        poll
    }

    /// Returns all of its pages, if it carries nothing but times.
    pub(super) fn plain_pages(&self) -> Option<impl Iterator<Item = &str>> {
        let is_plain = !self.page.is_empty() && !self.carries;
        is_plain.then(|| self.pages())
    }

    fn pages(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.page).chain(&self.children).map(String::as_str)
    }

    /// Returns whether its browser names this connection.
    pub(super) fn has_connection(&self, id: &str) -> bool {
        self.connections.iter().any(|connection| connection == id)
    }

    /// Adds what was pushed to its pages to the answer of the site. Only an answer that confirms the page is added to, and only in
    /// the browser that the page belongs to.
    ///
    /// # Errors
    ///
    /// The status of the refusal, if the answer of the site has broken off.
    pub(super) async fn answer(
        &self,
        pushes: &SitePushes,
        response: MountResponse,
    ) -> Result<MountResponse, StatusCode> {
        if response.status() != StatusCode::OK || self.page.is_empty() {
            return Ok(response);
        }
        let pages = self.own_pages(pushes);
        if pages.iter().all(|page| pushes.is_empty(page)) {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| StatusCode::BAD_GATEWAY)?.to_bytes();
        let taken: Vec<TakenMessages<'_>> =
            pages.iter().map(|page| TakenMessages::of(pushes, page)).collect();
        let Some(text) = self.added(&body, &taken) else { return Ok(response_of(head, body)) };
        taken.into_iter().for_each(TakenMessages::sent);
        Ok(response_of(head, text.into()))
    }

    /// Returns its pages that belong to its browser. The site has confirmed the page, so it becomes known if it was not
    /// announced to this server, for example because that was started later.
    fn own_pages(&self, pushes: &SitePushes) -> Vec<&str> {
        if let [connection] = self.connections.as_slice() {
            pushes.know(NewPage { id: self.page.clone(), connection: connection.clone() });
        }
        self.pages().filter(|page| pushes.is_of(page, |connection| self.has_connection(connection))).collect()
    }

    fn added(&self, answer: &Bytes, taken: &[TakenMessages<'_>]) -> Option<String> {
        let of = |page: &str| taken.iter().find(|taken| taken.page == page).map(TakenMessages::kept);
        let children: Vec<_> =
            self.children.iter().filter_map(|child| Some((child.as_str(), of(child)?))).collect();
        merged(std::str::from_utf8(answer).ok()?, &of(&self.page).unwrap_or_default(), &children)
    }
}

/// Messages that were taken for an answer. Those that are not sent are put back.
struct TakenMessages<'a> {
    pushes: &'a SitePushes,
    page: &'a str,
    messages: Vec<Arc<SiteMessage>>,
}

impl<'a> TakenMessages<'a> {
    fn of(pushes: &'a SitePushes, page: &'a str) -> Self {
        Self { pushes, page, messages: pushes.take_changes(page) }
    }

    fn kept(&self) -> Vec<WaitingMessage<'_>> {
        self.messages.iter().map(|message| WaitingMessage { text: &message.text, at: &message.at }).collect()
    }

    fn sent(mut self) {
        self.messages.clear();
    }
}

impl Drop for TakenMessages<'_> {
    fn drop(&mut self) {
        if !self.messages.is_empty() {
            self.pushes.put_back(self.page, std::mem::take(&mut self.messages));
        }
    }
}

/// Returns the pages that a poll reports of: the members of an object, which is written as typed text.
fn children(text: &str) -> Children {
    let json = text.strip_suffix("::JS").unwrap_or(text);
    let Ok(found) = serde_json::from_str::<Map<String, Value>>(json) else {
        return Children { carry: true, ..Children::default() };
    };
    let is_time = |info: &Map<String, Value>| info.keys().all(|name| TIMES.contains(&name.as_str()));
    let is_plain = |page: &str, info: &Value| is_id(page) && info.as_object().is_some_and(is_time);
    let carry = found.len() > MAX_CHILDREN || !found.iter().all(|(page, info)| is_plain(page, info));
    let ids = found.into_iter().map(|(page, _)| page).filter(|page| is_id(page)).take(MAX_CHILDREN).collect();
    Children { ids, carry }
}

fn response_of(mut head: http::response::Parts, body: Bytes) -> MountResponse {
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(head, whole(body))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::MountMetrics;

    const SET: &str = "<GenRoBag><command>set</command><data><data>x</data><path>p</path></data></GenRoBag>";

    fn poll(page: &str, children: &[&str], connections: &[&str]) -> Poll {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (children, connections) = (owned(children), owned(connections));
        Poll { page: page.to_owned(), children, connections, carries: false }
    }

    async fn answered(poll: &Poll, pushes: &SitePushes, status: u16, body: &'static str) -> String {
        let response = Response::builder().status(status).body(whole(body)).unwrap();
        let body =
            poll.answer(pushes, response).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn a_poll_names_its_page_and_those_inside_of_it() {
        let read = |query, body: &[u8]| Poll::of(&HeaderMap::new(), query, body);
        let carrying = |poll| Poll { carries: true, ..poll };
        let body = b"page_id=p1&reason=auto&_children_pages_info=%7B%22c1%22%3A%7B%7D%7D%3A%3AJS&_lastRpc=1";
        assert_eq!(read("_no_cache_=7", body), poll("p1", &["c1"], &[]));
        let body = b"page_id=p1&_children_pages_info=%7B%22c1%22%3A%7B%7D%2C%22-%22%3A1%7D%3A%3AJS";
        assert_eq!(read("", body), carrying(poll("p1", &["c1"], &[])));
        let body = b"page_id=p1&_children_pages_info=%7B%22c1%22%3A%7B%22set%22%3A1%7D%7D";
        assert_eq!(read("", body), carrying(poll("p1", &["c1"], &[])), "a change of the inner page");
        assert_eq!(read("page_id=p2", b"page_id=p1"), carrying(poll("p2", &[], &[])), "one of two pages");
        assert_eq!(read("page_id=p2&temp_dbstore=b", b""), carrying(poll("p2", &[], &[])));
        assert_eq!(read("page_id=<p>", b"_children_pages_info=x"), carrying(Poll::default()));
    }

    #[test]
    fn a_long_poll_and_any_other_request_are_for_the_site_alone() {
        let request = |method, uri, length: usize| {
            Request::builder().method(method).uri(uri).header("content-length", length).body(()).unwrap()
        };
        assert!(is_poll("/shop", &request("POST", "/shop/_ping?a", MAX_POLL)));
        assert!(!is_poll("/shop", &request("POST", "/shop/_ping", MAX_POLL + 1)));
        assert!(!is_poll("/shop", &request("PUT", "/shop/_ping", 1)));
        assert!(!is_poll("/", &request("POST", "/shop/_ping", 1)));
    }

    #[tokio::test]
    async fn messages_are_added_once_to_an_answer_that_confirms_the_page() {
        let pushes = SitePushes::new("/", Duration::from_secs(60), MountMetrics::default());
        let (own, foreign) = (poll("p", &[], &["c"]), poll("p", &[], &["d"]));
        let empty = "<GenRoBag><result _T=\"NN\"></result></GenRoBag>";
        assert_eq!(answered(&own, &pushes, 200, empty).await, empty);
        pushes.push("p", SiteMessage::new(SET.to_owned()));
        for (poll, status, body) in
            [(&own, 412, "no longer existing"), (&foreign, 200, empty), (&own, 200, "?")]
        {
            assert_eq!(answered(poll, &pushes, status, body).await, body, "it is not a confirmed page");
        }
        let text = answered(&own, &pushes, 200, empty).await;
        assert!(text.contains("change_path=\"p\""), "{text}");
        assert_eq!(answered(&own, &pushes, 200, empty).await, empty);
    }
}
