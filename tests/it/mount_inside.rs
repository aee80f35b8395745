//! Pagewire inside the requests of a WSGI application: real servers, from the Python that `WSGI_PYTHON` names.

use futures_util::join;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::mounts::served;
use crate::environment::{Nats, Node, Page, Refusal, SOON, Token, children, eventually};
use crate::mount_processes::{SITES, mount, setup};

/// Starts a node with two mounts of the application: `/` has only views, `/both` has the handlers as well.
async fn node(server: &str) -> Node {
    let own = mount("/", "wsgi = \"inside\"", SITES, &format!("processes = 1\nserver = \"{server}\""));
    let keys = format!("processes = 1\napp = \"inside:app\"\nserver = \"{server}\"");
    let both = mount("/both", "wsgi = \"inside\"", SITES, &keys);
    // two servers start at once, which may take longer than the time-outs of tests on a busy machine
    let setup = setup(&format!("{own}{both}")).real_timing();
    let node = setup.users().set("auth.cookie", "token").start().await;
    join!(served(&node, "/who"), served(&node, "/both/who"));
    node
}

/// Starts a node of a cluster with the views at `/`.
async fn member(nats: &Nats) -> Node {
    let own = mount("/", "wsgi = \"inside\"", SITES, "processes = 1\nserver = \"gunicorn\"");
    let node = setup(&own).real_timing().users().set("auth.cookie", "token").nats(nats).start().await;
    served(&node, "/who").await;
    node
}

/// A request to a view: its path and its headers.
struct View<'a> {
    node: &'a Node,
    path: String,
    headers: HeaderMap,
}

impl<'a> View<'a> {
    fn of(node: &'a Node, path: &str) -> Self {
        Self { node, path: path.to_owned(), headers: HeaderMap::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// Has the token of a user in its cookie.
    fn by(self, user: &str) -> Self {
        let cookie = format!("token={}", Token::of(user).sign());
        self.with("cookie", &cookie)
    }

    /// Names a page.
    fn from(self, page: &Page) -> Self {
        self.with("x-pagewire-page", page.id())
    }

    async fn answer(self) -> Value {
        let request = self.node.api().request(Method::GET, &self.path).headers(self.headers);
        let response = request.send().await.expect("an answer");
        let (status, body) = (response.status(), response.text().await.expect("a body"));
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

async fn page_of(node: &Node, user: &str) -> Page {
    Page::opening(node).token(&Token::of(user).sign()).open().await
}

async fn a_view_works_for_its_page(server: &str, base: &str) {
    let node = node(server).await;
    let at = |view: &str| View::of(&node, &format!("{base}/{view}"));
    let mut page = page_of(&node, "ann").await;
    let seen = at("who").by("ann").from(&page).answer().await;
    let expected = json!({
        "user": "ann", "page": page.id(), "session": page.session(), "connection": page.connection(),
        "lane": "stable", "headers": [],
    });
    assert_eq!(seen, expected);
    assert_eq!(at("push").by("ann").from(&page).answer().await, json!({"reached": 1}));
    assert_eq!(page.message().await["from"], "the view");
    for visits in [1, 2] {
        let seen = at("visit").by("ann").from(&page).answer().await;
        assert_eq!(seen, json!({"visits": visits, "of_ann": visits}));
    }
    let seen = at("work").by("ann").answer().await;
    assert_eq!(seen["call"], json!({"greeting": "hello view", "user": "ann"}));
    let job = format!("/api/v1/jobs/{}", seen["job"].as_str().expect("an id"));
    eventually("the job has succeeded", SOON, async || {
        (node.api().get_json(&job).await["state"] == "succeeded").then_some(())
    })
    .await;
    let tree = node.api().get_json("/api/v1/users/ann/data").await;
    assert_eq!(tree["remembered"], "by a view", "{tree}");
    assert!(at("locked").answer().await["token"].as_u64() > Some(0));
    let seen = at("thread").answer().await;
    assert_eq!((seen["lane"].as_str(), seen["revision"].is_u64()), (Some("stable"), true));
    assert_eq!(at("pages").answer().await, json!({"pages": [page.id()], "none": []}));
    assert_eq!(at("close").answer().await, json!({"closed": 1}));
    page.closed().await;
}

#[tokio::test]
async fn a_view_of_gunicorn_works_for_the_page_and_the_user_that_call_it() {
    a_view_works_for_its_page("gunicorn", "").await;
}

#[tokio::test]
async fn a_view_of_granian_works_for_the_page_and_the_user_that_call_it() {
    a_view_works_for_its_page("granian", "").await;
}

#[tokio::test]
async fn a_view_beside_handlers_of_the_same_process_works_for_the_page_and_the_user_that_call_it() {
    a_view_works_for_its_page("gunicorn", "/both").await;
}

#[tokio::test]
async fn a_request_is_from_whom_it_proves_and_not_from_whom_it_names() {
    let node = node("gunicorn").await;
    let page = page_of(&node, "ann").await;
    let anonymous = Page::opening(&node).open().await;
    let nobody = json!({
        "user": null, "page": null, "session": null, "connection": null, "lane": "stable", "headers": [],
    });
    let forged = View::of(&node, "/who")
        .with("x-pagewire-user", "ann")
        .with("x-pagewire-connection", page.connection())
        .from(&page);
    assert_eq!(forged.answer().await, nobody);
    let wrong = View::of(&node, "/who").with("authorization", "Bearer no.token.atall");
    assert_eq!(wrong.answer().await, nobody);
    let of_other = View::of(&node, "/who").by("bob").from(&page).answer().await;
    assert_eq!((&of_other["user"], &of_other["page"]), (&json!("bob"), &json!(null)));
    let named = View::of(&node, "/who").from(&anonymous).answer().await;
    assert_eq!(named, nobody, "the id of a page proves nothing");
    let proven = View::of(&node, "/who")
        .from(&anonymous)
        .with("pagewire-page-token", anonymous.token())
        .answer()
        .await;
    assert_eq!((&proven["user"], &proven["page"]), (&json!(null), &json!(anonymous.id())));
    let other =
        View::of(&node, "/who").from(&page).with("pagewire-page-token", anonymous.token()).answer().await;
    assert_eq!(other["page"], json!(null));
}

#[tokio::test]
async fn requests_of_many_threads_get_their_own_answers() {
    let node = node("gunicorn").await;
    let threads = async || View::of(&node, "/threads").by("ann").answer().await;
    let (one, other) = join!(threads(), threads());
    assert_eq!((one, other), (json!({"wrong": []}), json!({"wrong": []})));
}

#[tokio::test]
async fn a_process_that_an_application_forks_gets_an_error_and_disturbs_no_request() {
    let node = node("gunicorn").await;
    let seen = View::of(&node, "/forked").answer().await;
    let said = seen["child"].as_str().expect("a text");
    assert!(said.starts_with("unsupported: this process was forked"), "{said}");
    assert_eq!(seen["value"], 7);
}

#[tokio::test]
async fn a_request_without_a_user_names_whom_it_is_for() {
    let node = node("gunicorn").await;
    let seen = View::of(&node, "/nameless").answer().await;
    assert_eq!(seen, json!({"state": "malformed", "bare": "malformed", "topic": 0}));
}

/// Returns the cookie that an answer sets, and its body.
async fn with_cookie(view: View<'_>) -> (String, Value) {
    let request = view.node.api().request(Method::GET, &view.path).headers(view.headers);
    let response = request.send().await.expect("an answer");
    let cookie =
        response.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok()).map(str::to_owned);
    (cookie.unwrap_or_default(), response.json().await.expect("JSON"))
}

/// Opens a page as a browser with this cookie.
async fn browsing(node: &Node, cookie: &str) -> Page {
    Page::opening(node).header("origin", &node.url()).header("cookie", cookie).open().await
}

async fn user_of(node: &Node, page: &Page) -> Value {
    let id = page.id().replace('|', "%7C");
    node.api().get_json(&format!("/api/v1/pages/{id}")).await["user"].clone()
}

#[tokio::test]
async fn a_login_of_the_application_is_the_user_of_pages_until_the_logout_closes_them() {
    let node = node("gunicorn").await;
    let (set, seen) = with_cookie(View::of(&node, "/login")).await;
    assert_eq!(seen, json!({"user": "ann"}));
    let (cookie, attributes) = set.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/; Max-Age=600; HttpOnly; SameSite=Lax");
    let mut page = browsing(&node, cookie).await;
    assert_eq!(user_of(&node, &page).await, "ann");
    let at = |view: &str| View::of(&node, view).with("cookie", cookie);
    assert_eq!(at("/who").from(&page).answer().await["page"], json!(page.id()));
    let mut elsewhere = page_of(&node, "ann").await;
    let (deleted, seen) = with_cookie(at("/logout").from(&page)).await;
    assert_eq!(deleted, "token=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    assert_eq!(seen, json!({"closed": 1, "user": null}));
    page.closed().await;
    elsewhere.has_nothing_to_read().await;
    assert_eq!(with_cookie(at("/logout")).await.1, json!({"closed": 1, "user": null}));
    elsewhere.closed().await;
}

#[tokio::test]
async fn a_changed_password_ends_the_logins_of_all_browsers_at_every_node_and_a_new_one_begins() {
    let nats = Nats::start().await;
    let (one, other) = join!(member(&nats), member(&nats));
    let (set, _) = with_cookie(View::of(&one, "/login")).await;
    let (before, _) = set.split_once("; ").expect("attributes");
    let (mut here, mut elsewhere) = (browsing(&one, before).await, browsing(&other, before).await);
    let (set, seen) = with_cookie(View::of(&one, "/changed").with("cookie", before)).await;
    assert_eq!(seen, json!({"closed": 2}));
    here.closed().await;
    elsewhere.closed().await;
    let (after, _) = set.split_once("; ").expect("attributes");
    for node in [&one, &other] {
        eventually("the old login is refused", SOON, async || {
            let opening = Page::opening(node).header("origin", &node.url()).header("cookie", before);
            opening
                .try_open()
                .await
                .err()
                .filter(|refusal| matches!(refusal, Refusal::Closed(closed) if closed.code == 4001))
        })
        .await;
        assert_eq!(View::of(node, "/who").with("cookie", before).answer().await["user"], Value::Null);
        assert_eq!(user_of(node, &browsing(node, after).await).await, "ann");
    }
}

#[tokio::test]
async fn a_login_without_a_cookie_of_the_configuration_says_what_to_set() {
    let node = setup(&mount("/", "wsgi = \"inside\"", SITES, "processes = 1")).users().start().await;
    served(&node, "/who").await;
    let response = node.api().request(Method::GET, "/login").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    eventually("the log says what to set", SOON, async || node.log().contains("auth.cookie").then_some(()))
        .await;
}

#[tokio::test]
async fn a_child_that_serves_no_http_makes_no_request_without_work() {
    let node = children::setup(&[]).start().await;
    let message = json!({"to": {"all": true}, "payload": 1});
    let ask = json!({"method": "push.send", "params": message, "without_work": true});
    let refused = children::result(&node.api(), "ask", ask).await;
    assert_eq!(refused["code"], "unsupported", "{refused}");
    let pages = json!({"method": "page.list", "params": {"user": "ann"}});
    let refused = children::result(&node.api(), "ask", pages).await;
    assert_eq!(refused["code"], "unsupported", "work has no pages of others: {refused}");
}
