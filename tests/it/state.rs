//! State trees as pages see them: one value at four levels, the same from any node.

use serde_json::{Value, json};

use crate::environment::{Nats, Node, Page, Setup, Token};

fn set(level: &str, path: &str, value: Value) -> Value {
    json!({"type": format!("set_{level}_data"), "path": path, "value": value})
}

async fn get(page: &mut Page, level: &str, path: &str) -> Value {
    page.result(json!({"type": "get_data", "level": level, "path": path})).await
}

/// Applies the `data` frames of a watching client until the value is as expected.
async fn sees(page: &mut Page, level: &str, expected: &Value) {
    let mut view = View::default();
    while view.value.as_ref() != Some(expected) {
        let data = page.expect("data").await;
        assert_eq!(data["level"], level);
        view.take(&data);
    }
}

#[derive(Default)]
struct View {
    revision: u64,
    value: Option<Value>,
}

impl View {
    fn take(&mut self, data: &Value) {
        let revision = data["revision"].as_u64().unwrap_or(0);
        if let Some(snapshot) = data.get("snapshot") {
            assert!(revision >= self.revision, "revisions never go back: {data}");
            self.value = Some(snapshot.clone());
        } else if data.get("missing").is_some() {
            self.value = None;
        } else if let Some(changes) = data["changes"].as_array() {
            assert!(
                data["base"].as_u64().is_some_and(|base| base >= self.revision),
                "no change twice: {data}"
            );
            for change in changes {
                let root = self.value.get_or_insert_with(|| json!({}));
                apply(root, change);
            }
        }
        self.revision = revision;
    }
}

/// Applies a change. The paths in these tests have no special characters.
fn apply(root: &mut Value, change: &Value) {
    let path = change["path"].as_str().expect("a path");
    let mut node = root;
    let keys: Vec<_> = path.split('.').filter(|key| !key.is_empty()).collect();
    let Some((last, above)) = keys.split_last() else {
        *node = change.get("value").cloned().unwrap_or_else(|| json!({}));
        return;
    };
    for key in above {
        if !node[*key].is_object() {
            node[*key] = json!({});
        }
        node = &mut node[*key];
    }
    match change.get("value") {
        Some(value) => node[*last] = value.clone(),
        None => drop(node.as_object_mut().expect("a branch").shift_remove(*last)),
    }
}

fn everything(setup: Setup) -> Setup {
    setup.set("state.write", "page,session,connection,user").users()
}

#[tokio::test]
async fn a_page_writes_reads_and_watches_every_tree_of_its_chain() {
    let node = everything(Node::setup()).start().await;
    let mut page = Page::opening(&node).token(&Token::of("ann").sign()).open().await;
    for level in ["page", "session", "connection", "user"] {
        assert_eq!(get(&mut page, level, "").await, json!({"revision": 0}), "there is no value yet");
        let written = page.result(set(level, "wizard.form.name", json!("ann"))).await;
        let revision = written["revision"].as_u64().expect("a revision");
        let read = get(&mut page, level, "wizard.form").await;
        assert_eq!(read, json!({"revision": revision, "value": {"name": "ann"}}));
        let watch = json!({"type": "watch", "level": level, "path": "wizard"});
        page.result_without_value(watch.clone()).await;
        let snapshot = page.expect("data").await;
        assert_eq!(snapshot["snapshot"], json!({"form": {"name": "ann"}}));
        assert_eq!((&snapshot["path"], &snapshot["revision"]), (&json!("wizard"), &json!(revision)));
        page.result(set(level, "wizard.step", json!(2))).await;
        page.result(set(level, "elsewhere", json!(1))).await;
        let change = page.expect("data").await;
        assert_eq!(change["base"], json!(revision));
        assert_eq!(change["changes"][0]["path"], "wizard.step");
        assert_eq!(change["changes"][0]["from"], page.id());
        page.result_without_value(json!({"type": "unwatch", "level": level, "path": "wizard"})).await;
        page.result(set(level, "wizard.step", json!(3))).await;
        page.has_nothing_to_read().await;
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_the_reason_and_changes_nothing() {
    let node = Node::setup().users().start().await;
    let mut page = Page::open(&node).await;
    for (frame, code) in [
        (set("user", "a", json!(1)), "forbidden"),
        (set("connection", "a", json!(1)), "forbidden"),
        (set("page", "a..b", json!(1)), "malformed"),
        (set("page", "", json!(1)), "malformed"),
        (set("page", "#3", json!(1)), "unknown"),
        (set("page", &"k".repeat(300), json!(1)), "malformed"),
        (json!({"type": "set_page_data", "path": "a"}), "malformed"),
        (json!({"type": "get_data", "level": "user"}), "forbidden"),
        (json!({"type": "watch", "level": "user"}), "forbidden"),
        (json!({"type": "watch", "level": "page", "path": "#0"}), "malformed"),
        (json!({"type": "patch", "level": "page", "changes": [{"path": "a"}]}), "malformed"),
        (
            json!({"type": "patch", "level": "page", "changes": [{"path": "a", "value": 1}, {"path": "#9", "value": 1}]}),
            "unknown",
        ),
        (json!({"type": "set_page_data", "path": "a", "value": 1, "if_revision": 7}), "conflict"),
    ] {
        assert_eq!(page.error(frame.clone()).await, code, "{frame}");
    }
    assert_eq!(get(&mut page, "page", "").await, json!({"revision": 0}), "all or nothing");
}

#[tokio::test]
async fn frames_of_one_page_are_acted_upon_in_their_order() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    for n in 0..50 {
        page.send(set("session", "n", json!(n))).await;
    }
    assert_eq!(get(&mut page, "session", "n").await["value"], 49, "a page reads what it has written");
}

#[tokio::test]
async fn an_equal_value_is_no_change() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let first = page.result(set("page", "a", json!({"b": 1, "c": [1, 2]}))).await;
    page.result_without_value(json!({"type": "watch", "level": "page"})).await;
    page.expect("data").await;
    assert_eq!(page.result(set("page", "a.b", json!(1.0))).await, first, "1 equals 1.0");
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn pages_on_two_nodes_edit_one_form_and_see_the_same() {
    let nats = Nats::start().await;
    let (here, there) = (
        everything(Node::setup()).nats(&nats).start().await,
        everything(Node::setup()).nats(&nats).start().await,
    );
    let token = Token::of("ann").sign();
    let mut ann = Page::opening(&here).token(&token).open().await;
    let mut also = Page::opening(&there).token(&token).open().await;
    let mut bob = Page::opening(&there).token(&Token::of("bob").sign()).open().await;
    for page in [&mut ann, &mut also, &mut bob] {
        page.send(json!({"type": "watch", "level": "user"})).await;
    }
    bob.expect("data").await;
    let mut expected = serde_json::Map::new();
    for n in 0..20 {
        let (page, key) = if n % 2 == 0 { (&mut ann, format!("a{n}")) } else { (&mut also, format!("b{n}")) };
        page.send(set("user", &format!("form.{key}"), json!(n))).await;
        expected.insert(key, json!(n));
    }
    let read = async |page: &mut Page| {
        let mut view = View::default();
        loop {
            let value = view.value.clone().unwrap_or_default();
            if value["form"].as_object().is_some_and(|form| form.len() == expected.len()) {
                return value["form"].clone();
            }
            view.take(&page.expect("data").await);
        }
    };
    let (one, other) = (read(&mut ann).await, read(&mut also).await);
    assert_eq!(one, other);
    assert_eq!(one, Value::Object(expected), "nothing is lost");
    assert_eq!(one.to_string(), other.to_string(), "in the same order");
    bob.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_page_that_moves_goes_on_watching_and_sees_nothing_go_back() {
    let nats = Nats::start().await;
    let (first, second) = (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let mut page = Page::open(&first).await;
    let mut writer = Page::opening(&first).beside(&page).open().await;
    page.result_without_value(json!({"type": "watch", "level": "session"})).await;
    writer.result(set("session", "n", json!(1))).await;
    sees(&mut page, "session", &json!({"n": 1})).await;
    let away = page.lose_socket();
    writer.result(set("session", "n", json!(2))).await;
    let mut page = away.resume(&second).await;
    assert_eq!(page.recovered(), "recovered");
    writer.result(set("session", "n", json!(3))).await;
    let mut view = View { revision: 0, value: Some(json!({"n": 1})) };
    while view.value != Some(json!({"n": 3})) {
        view.take(&page.expect("data").await);
    }
}

#[tokio::test]
async fn after_a_reset_a_page_is_told_anew_what_it_shows() {
    let nats = Nats::start().await;
    let (mut first, second) =
        (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let mut page = Page::open(&first).await;
    page.result(set("session", "a.b", json!(1))).await;
    page.result(set("page", "own", json!(true))).await;
    page.result_without_value(json!({"type": "watch", "level": "session"})).await;
    let away = page.lose_socket();
    first.kill();
    let shown = json!([{"level": "session", "path": "a"}, {"level": "page"}]);
    let mut page =
        crate::environment::eventually("the page comes back", crate::environment::SOON, async || {
            away.resuming(&second).with("watch", shown.clone()).try_open().await.ok()
        })
        .await;
    assert_eq!(page.recovered(), "reset");
    let (one, other) = (page.expect("data").await, page.expect("data").await);
    let snapshots = [one["snapshot"].clone(), other["snapshot"].clone()];
    assert!(
        snapshots.contains(&json!({"b": 1})) && snapshots.contains(&json!({"own": true})),
        "{snapshots:?}"
    );
    page.result(set("session", "a.c", json!(2))).await;
    assert_eq!(page.expect("data").await["changes"][0]["path"], "a.c");
}

#[tokio::test]
async fn a_recovered_page_keeps_the_watches_that_it_names_or_all_when_it_says_nothing() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    for path in ["a", "b.c"] {
        page.result_without_value(json!({"type": "watch", "level": "session", "path": path})).await;
        page.expect("data").await;
    }
    let receives = async |page: &mut Page, value: u64, paths: &[&str]| {
        for path in ["b.c", "a"] {
            page.result(set("session", path, json!(value))).await;
            if paths.contains(&path) {
                assert_eq!(page.expect("data").await["path"], path);
            }
        }
        page.has_nothing_to_read().await;
    };
    let mut page = page.lose_socket().resume(&node).await;
    assert_eq!(page.recovered(), "recovered");
    receives(&mut page, 1, &["b.c", "a"]).await;
    let named = json!([{"level": "session", "path": "a"}, {"level": "page", "path": "b.c"}, {"level": "page", "path": "."}]);
    let mut page = page.lose_socket().resuming(&node).with("watch", named).open().await;
    assert_eq!(page.recovered(), "recovered");
    // a page receives no changes of paths that it no longer watches
    receives(&mut page, 2, &["a"]).await;
    // the other watches have ended, so there is room for 63 more
    for n in 0..63 {
        let watch = json!({"type": "watch", "level": "page", "path": format!("p{n}")});
        page.result_without_value(watch).await;
        page.expect("data").await;
    }
    assert_eq!(page.error(json!({"type": "watch", "level": "page"})).await, "too_large");
    let mut page = page.lose_socket().resuming(&node).with("watch", json!([])).open().await;
    page.result(set("session", "a", json!(3))).await;
    page.result_without_value(json!({"type": "watch", "level": "session"})).await;
    assert_eq!(page.expect("data").await.get("path"), None, "only the tree as a whole, watched since");
    page.has_nothing_to_read().await;
}

#[tokio::test]
async fn a_watch_in_hello_that_fails_says_which_one_it_was() {
    let node = Node::setup().users().start().await;
    let named = json!([{"level": "user", "path": "x"}, {"level": "page", "path": "a..b"}]);
    let mut page = Page::opening(&node).with("watch", named).open().await;
    for (code, which) in [("forbidden", "level user, path \"x\""), ("malformed", "level page, path \"a..b\"")]
    {
        let error = page.expect("error").await;
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(which)), "{error}");
    }
}
