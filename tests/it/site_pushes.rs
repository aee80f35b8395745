//! A site that keeps its daemon and pushes to the pages of this server: with an application that does so as a Genropy site
//! does.

use reqwest::Method;
use tempfile::TempDir;

use crate::environment::mounts::{get, served};
use crate::environment::site_socket::{CONNECTION, COOKIE, SiteSocket};
use crate::environment::{Node, SOON, eventually};
use crate::mount_processes::{SITES, mount, setup};

const PAGE: &str = "page1_bcdefghijklmnopq";
const CHILD: &str = "child_bcdefghijklmnopq";

/// A node with a site, and the folder of its socket.
struct Site {
    node: Node,
    folder: TempDir,
}

fn configuration(folder: &TempDir) -> String {
    let socket = folder.path().join("site/sockets/async.sock");
    let keys = format!(
        "server = \"gunicorn\"\nprocesses = 1\nasync_socket = {socket:?}\nenv = {{ ASYNC_SOCKET = {socket:?} }}"
    );
    mount("/", "wsgi = \"daemon_kept\"", SITES, &keys)
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let node = setup(&configuration(&folder)).start().await;
        served(&node, "/").await;
        Self { node, folder }
    }

    async fn asked(&self, path: &str) {
        let (status, body) = get(&self.node, path).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn open(&self, page: &str) {
        self.asked(&format!("/opened?page={page}&connection={CONNECTION}")).await;
    }

    async fn push(&self, to: &str, text: &str) {
        self.asked(&format!("/pushed?to={to}&text={text}")).await;
    }

    /// Returns the status and the text of a poll of the page with the cookie of its browser.
    async fn poll(&self, form: &'static str, cookie: &str) -> (u16, String) {
        let request = self.node.api().request(Method::POST, "/_ping").header("cookie", cookie);
        let form = format!("page_id={PAGE}&{form}");
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    }

    async fn socket(&self, page: &str) -> SiteSocket {
        let mut socket = SiteSocket::of_page(&self.node, page, COOKIE).await;
        socket.has_nothing_to_read().await;
        socket
    }
}

fn change(number: usize, path: &str, text: &str) -> (String, String) {
    (format!("<sc_{number} change_path=\"{path}\""), format!(">{text}</sc_{number}>"))
}

fn assert_has(answer: &str, change: &(String, String)) {
    assert!(answer.contains(&change.0) && answer.contains(&change.1), "{answer} has no {change:?}");
}

#[tokio::test]
async fn a_push_reaches_the_socket_of_its_page_once_and_one_to_all_reaches_everybody() {
    let site = Site::start().await;
    site.open(PAGE).await;
    site.open(CHILD).await;
    let (mut socket, mut other) = (site.socket(PAGE).await, site.socket(CHILD).await);
    for text in ["a", "b", "c"] {
        site.push(PAGE, text).await;
        let frame = socket.next().await.expect("a frame");
        assert!(frame.starts_with("<GenRoBag><command>setInClientData</command>"), "{frame}");
        assert!(frame.contains(&format!("<value>{text}</value>")), "{frame}");
    }
    for to in ["*", &format!("{PAGE},{CHILD}")] {
        site.push(to, "all").await;
        for socket in [&mut socket, &mut other] {
            assert!(socket.next().await.expect("a frame").contains("<value>all</value>"));
        }
    }
    assert!(!site.poll("", COOKIE).await.1.contains("dataChanges"), "what a socket has had is not polled");
}

#[tokio::test]
async fn what_no_socket_has_comes_with_the_next_poll_of_the_page_and_of_the_page_around_it() {
    let site = Site::start().await;
    site.open(PAGE).await;
    site.open(CHILD).await;
    site.push(PAGE, "kept").await;
    site.push(CHILD, "inside").await;
    let form = "own=1&_children_pages_info=%7B%22child_bcdefghijklmnopq%22%3A%7B%7D%7D%3A%3AJS";
    let (_, stranger) = site.poll(form, "shop=c2ln?connection_id=+hZB").await;
    assert!(!stranger.contains("kept") && !stranger.contains("inside"), "{stranger}");
    let (status, answer) = site.poll(form, COOKIE).await;
    assert_eq!(status, 200);
    for (number, path, text) in [(0, "own", "1"), (1, "a.b", "kept"), (0, "a.b", "inside")] {
        assert_has(&answer, &change(number, path, text));
    }
    assert!(answer.contains("<childDataChanges><child_bcdefghijklmnopq>"), "{answer}");
    let (_, again) = site.poll(form, COOKIE).await;
    assert!(!again.contains("kept") && !again.contains("inside"), "{again}");
}

#[tokio::test]
async fn a_page_that_a_restarted_node_does_not_know_is_known_again_by_its_poll() {
    let mut site = Site::start().await;
    site.node.kill();
    site.node.exit(SOON).await;
    site.node.restart().await;
    served(&site.node, "/").await;
    assert_eq!(site.poll("", COOKIE).await.0, 412, "the site forgets its pages here");
    let mut socket = SiteSocket::of_page(&site.node, PAGE, COOKIE).await;
    site.push(PAGE, "waiting").await;
    socket.has_nothing_to_read().await;
    site.asked(&format!("/known?page={PAGE}")).await;
    assert_has(&site.poll("", COOKIE).await.1, &change(0, "a.b", "waiting"));
    site.push(PAGE, "pushed").await;
    eventually("the page is found with a later ping", SOON, async || {
        socket.send(r#"{"command":"ping"}"#).await;
        socket.next().await.is_ok_and(|text| text.contains("pushed")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_node_at_the_same_socket_does_not_start() {
    let site = Site::start().await;
    let mut second = setup(&configuration(&site.folder)).launch();
    assert!(!second.exit(SOON).await.success());
    let log = second.log();
    assert!(log.contains("cannot listen on") && log.contains("async.sock"), "{log}");
}
