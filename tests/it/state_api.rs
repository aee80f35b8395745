//! State trees from the server API and from a terminal.

use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::environment::{Api, Node, Page, SOON, Token, pagewire};

struct ApiResponse {
    status: StatusCode,
    tag: Option<String>,
    body: Value,
}

async fn request(
    api: &Api,
    method: Method,
    path: &str,
    if_match: Option<&str>,
    body: Option<Value>,
) -> ApiResponse {
    let mut request =
        api.request(method, &format!("/api/v1{path}")).header("content-type", "application/json");
    if let Some(tag) = if_match {
        request = request.header("if-match", tag);
    }
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    let response = request.send().await.expect("an answer");
    let tag = response.headers().get("etag").map(|tag| tag.to_str().expect("ASCII").to_owned());
    ApiResponse { status: response.status(), tag, body: response.json().await.expect("JSON") }
}

#[tokio::test]
async fn a_tree_is_read_and_written_with_its_revision_as_the_tag() {
    let node = Node::start().await;
    let api = node.api();
    let path = "/users/ann/data/wizard.form";
    let put = request(&api, Method::PUT, path, None, Some(json!({"name": "ann"}))).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.body);
    let first = put.tag.expect("a tag");
    let get = request(&api, Method::GET, &format!("{path}.name"), None, None).await;
    assert_eq!((get.status, get.body, get.tag.as_ref()), (StatusCode::OK, json!("ann"), Some(&first)));
    let put = request(&api, Method::PUT, path, Some(&first), Some(json!({"name": "bob"}))).await;
    assert_eq!(put.status, StatusCode::OK);
    let late = request(&api, Method::PUT, path, Some(&first), Some(json!({"name": "eve"}))).await;
    assert_eq!(
        (late.status, &late.body["error"]["code"]),
        (StatusCode::PRECONDITION_FAILED, &json!("conflict"))
    );
    let changes =
        json!({"changes": [{"path": "a", "value": 1}, {"path": "wizard.form.name", "delete": true}]});
    assert_eq!(
        request(&api, Method::PATCH, "/users/ann/data", None, Some(changes)).await.status,
        StatusCode::OK
    );
    let tree = request(&api, Method::GET, "/users/ann/data", None, None).await.body;
    assert_eq!(tree.to_string(), r#"{"wizard":{"form":{}},"a":1}"#, "in the order in which it came");
    assert_eq!(
        request(&api, Method::DELETE, "/users/ann/data/wizard", None, None).await.status,
        StatusCode::OK
    );
    let missing = request(&api, Method::GET, "/users/ann/data/wizard.form", None, None).await;
    assert_eq!((missing.status, &missing.body["error"]["code"]), (StatusCode::NOT_FOUND, &json!("unknown")));
    assert_eq!(request(&api, Method::GET, "/users/nobody/data", None, None).await.body, json!({}));
}

#[tokio::test]
async fn what_no_tree_takes_is_refused_with_the_reason() {
    let node = Node::start().await;
    let api = node.api();
    let long = "x".repeat(300 * 1024);
    for (method, path, body, status, code) in [
        (Method::PUT, "/users/ann/data", Some(json!(1)), 400, "malformed"),
        (Method::PUT, "/users/ann/data/a..b", Some(json!(1)), 400, "malformed"),
        (Method::PUT, "/users/ann/data/a", Some(json!(long)), 413, "too_large"),
        (Method::PATCH, "/users/ann/data", Some(json!({"changes": [{"path": "a"}]})), 400, "malformed"),
        (Method::PUT, "/planets/mars/data/a", Some(json!(1)), 404, "unknown"),
        (Method::PUT, "/pages/0000000000000000000000/data/a", Some(json!(1)), 404, "unknown"),
        (Method::PUT, "/sessions/short/data/a", Some(json!(1)), 400, "malformed"),
    ] {
        let response = request(&api, method, path, None, body).await;
        assert_eq!(
            (response.status.as_u16(), &response.body["error"]["code"]),
            (status, &json!(code)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_a_program_writes_a_page_sees_and_the_other_way_round() {
    let node = Node::setup().users().set("state.write", "user").start().await;
    let api = node.api();
    let mut page = Page::opening(&node).token(&Token::of("a.b").sign()).open().await;
    page.result_without_value(json!({"type": "watch", "level": "user", "path": "form"})).await;
    assert_eq!(page.expect("data").await["missing"], true);
    request(&api, Method::PUT, "/users/a.b/data/form.name", None, Some(json!("x"))).await;
    assert_eq!(page.expect("data").await["changes"][0]["value"], json!({"name": "x"}), "the tree is new");
    request(&api, Method::PUT, "/users/a.b/data/form.name", None, Some(json!("z"))).await;
    let change = page.expect("data").await;
    assert_eq!(change["changes"][0], json!({"path": "form.name", "value": "z"}), "a program has no page");
    page.result(json!({"type": "set_user_data", "path": "form.name", "value": "y"})).await;
    let read = request(&api, Method::GET, "/users/~YS5i/data/form.name", None, None).await;
    assert_eq!(read.body, "y");
    let session = page.session().replace('|', "%7C");
    let put = request(&api, Method::PUT, &format!("/sessions/{session}/data/n"), None, Some(json!(1))).await;
    assert_eq!(put.status, StatusCode::OK);
    let read = page.result(json!({"type": "get_data", "level": "session", "path": "n"})).await;
    assert_eq!(read["value"], 1);
}

#[tokio::test]
async fn the_command_line_gets_sets_deletes_and_watches() {
    let node = Node::start().await;
    let run = async |arguments: &[&str]| pagewire(&node, &[&["state"], arguments].concat()).await;
    let set = run(&["set", "--user", "ann", "form.name", r#""ann""#]).await;
    assert!(set.code == 0 && set.out.starts_with("revision "), "{set:?}");
    assert_eq!(run(&["get", "--user", "ann", "form"]).await.json(), json!({"name": "ann"}));
    let late = run(&["set", "--user", "ann", "form.name", "1", "--if-revision", "999999"]).await;
    assert!(late.code == 1 && late.err.contains("(conflict)"), "{late:?}");
    let wrong = run(&["set", "--user", "ann", "form.name", "ann"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("the value is not JSON"), "{wrong:?}");
    assert_eq!(
        run(&["delete", "--user", "ann", "form", "--json"]).await.json()["revision"].as_u64(),
        Some(2)
    );
    assert_eq!(run(&["get", "--user", "ann", "form"]).await.code, 1);
    let mut watching = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagewire"));
    watching.args(["state", "watch", "--user", "ann", "n"]).env("PAGEWIRE_URL", node.url());
    let mut watching = watching.kill_on_drop(true).stdout(Stdio::piped()).spawn().expect("the command runs");
    let mut lines = BufReader::new(watching.stdout.take().expect("its output")).lines();
    let mut line = async || timeout(SOON, lines.next_line()).await.expect("in time").expect("output");
    assert_eq!(line().await.as_deref(), Some("revision 2: no value"));
    run(&["set", "--user", "ann", "n", "7"]).await;
    assert_eq!((line().await.as_deref(), line().await.as_deref()), (Some("revision 3"), Some("  n = 7")));
}
