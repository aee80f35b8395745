//! Mounts whose processes also run handlers and resident pages: requests of HTTP meet the object of a page.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::environment::mounts::{get, processes, replaced};
use crate::environment::{Node, Page, Token};
use crate::mount_processes::{mount, setup};

/// The folder of the application.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children");

/// Returns a mount with a view, handlers and a class of pages.
fn site(keys: &str) -> String {
    mount("/", "wsgi = \"counters:application\"", FOLDER, &format!("app = \"counters:app\"\n{keys}"))
}

async fn open(node: &Node, user: &str, pool: Option<&str>) -> Page {
    let resident = json!({"class": "Counter", "pool": pool});
    let mut page = Page::opening(node).token(&Token::of(user).sign()).with("resident", resident).open().await;
    assert_eq!(told(&mut page).await, "open");
    page
}

/// Waits for what the page is told about its object.
async fn told(page: &mut Page) -> String {
    loop {
        let frame = page.next().await;
        if frame["type"] == "resident" {
            return frame["state"].as_str().expect("a state").to_owned();
        }
    }
}

/// Raises the counter over the socket of its page.
async fn over_the_socket(page: &mut Page, pool: Option<&str>) -> (Value, Value) {
    let seen = page.result(json!({"type": "call", "method": "Counter.add", "pool": pool})).await;
    (seen["n"].clone(), seen["pid"].clone())
}

/// Raises the counter by `POST /_page`.
async fn by_a_call(node: &Node, page: &Page, user: &str) -> (Value, Value) {
    let path = format!("/_page/{}/add", page.id().replace('|', "%7C"));
    let request = node.api().request(Method::POST, &path).bearer_auth(Token::of(user).sign());
    let response = request.json(&Value::Null).send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let seen: Value = response.json().await.expect("JSON");
    (seen["n"].clone(), seen["pid"].clone())
}

/// Raises the counter by a thousand in a view of the application.
async fn by_a_view(node: &Node, page: &Page) -> (Value, Value) {
    let (status, text) = get(node, &format!("/{id}?page_id={id}", id = page.id().replace('|', "%7C"))).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let mut words = text.split(' ').map(|word| word.parse::<u64>().expect("a number"));
    let mut next = || json!(words.next().expect("a word"));
    (next(), next())
}

async fn a_counter_is_one_object_for_all_ways(server: &str) {
    let node = setup(&site(&format!("server = \"{server}\""))).set("welcome", false).users().start().await;
    let before = processes(&node, 1).await;
    let pid = before[0]["pid"].clone();
    let mut page = open(&node, "ann", None).await;
    assert_eq!(over_the_socket(&mut page, None).await, (json!(1), pid.clone()));
    assert_eq!(by_a_call(&node, &page, "ann").await, (json!(2), pid.clone()));
    assert_eq!(by_a_view(&node, &page).await, (json!(1002), pid.clone()));
    assert_eq!(over_the_socket(&mut page, None).await, (json!(1003), pid.clone()));
    node.hang_up();
    assert_eq!(told(&mut page).await, "restored");
    replaced(&node, 1, &before).await;
    let (n, next) = by_a_view(&node, &page).await;
    assert_eq!(n, 2003, "a reload keeps what the object has saved");
    assert_ne!(next, pid);
    assert_eq!(over_the_socket(&mut page, None).await, (json!(2004), next));
}

#[tokio::test]
async fn a_view_of_gunicorn_meets_the_object_of_a_page_that_its_socket_and_calls_meet() {
    a_counter_is_one_object_for_all_ways("gunicorn").await;
}

#[tokio::test]
async fn a_view_of_granian_meets_the_object_of_a_page_that_its_socket_and_calls_meet() {
    a_counter_is_one_object_for_all_ways("granian").await;
}

#[tokio::test]
async fn a_request_that_names_its_page_goes_to_the_one_of_several_processes_that_has_the_object() {
    let node = setup(&site("processes = 2\nsticky = \"page\"\npool = \"site\"")).users().start().await;
    processes(&node, 2).await;
    let mut pids = BTreeSet::new();
    for user in ["ann", "bob", "cleo", "dan"] {
        let mut page = open(&node, user, Some("site")).await;
        let (_, pid) = over_the_socket(&mut page, Some("site")).await;
        for n in [1001, 2001] {
            assert_eq!(by_a_view(&node, &page).await, (json!(n), pid.clone()), "{user}");
        }
        assert_eq!(by_a_call(&node, &page, user).await, (json!(2002), pid.clone()));
        pids.insert(pid.as_u64());
    }
    assert_eq!(pids.len(), 2, "both processes have objects");
}

#[tokio::test]
async fn handlers_of_the_application_are_called_in_the_process_of_the_mount() {
    let node = setup(&site("server = \"gunicorn\"")).users().start().await;
    let pid = processes(&node, 1).await[0]["pid"].clone();
    let mut page = Page::opening(&node).token(&Token::of("ann").sign()).open().await;
    let seen = page.result(json!({"type": "call", "method": "who"})).await;
    assert_eq!(seen, json!({"user": "ann", "pid": pid}));
    let body = json!({"method": "who", "user": "bob"});
    let request = node.api().request(Method::POST, "/api/v1/calls").json(&body);
    let seen: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(seen, json!({"user": "bob", "pid": pid}));
    let pools = node.api().get_json("/api/v1/executors").await;
    assert_eq!(pools["pools"][0]["pool"], "default", "{pools}");
}
