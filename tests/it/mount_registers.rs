//! Stores and registers of a WSGI application on two nodes: real servers, from the Python that `WSGI_PYTHON` names.

use futures_util::future::join_all;
use futures_util::join;
use serde_json::{Value, json};

use crate::environment::mounts::served;
use crate::environment::{Nats, Node, pagewire};
use crate::mount_processes::{SITES, mount, setup};

async fn node(nats: &Nats) -> Node {
    let site = mount("/", "wsgi = \"stores\"", SITES, "processes = 1\nserver = \"gunicorn\"");
    let node = setup(&site).nats(nats).real_timing().start().await;
    served(&node, "/store").await;
    node
}

async fn view(node: &Node, path: &str) -> Value {
    node.api().get_json(path).await
}

#[tokio::test]
async fn an_application_on_two_nodes_counts_in_one_store_and_each_page_gets_each_event_once() {
    let nats = Nats::start().await;
    let (one, mut other) = join!(node(&nats), node(&nats));
    let stored = json!({"rate": 1.5, "names": ["rate"], "other": "none", "nothing": 0});
    assert_eq!(view(&other, "/store").await, stored);
    assert_eq!(view(&one, "/failed").await, json!({"visits": null}), "a block that raises writes nothing");
    assert_eq!(view(&one, "/nameless").await, json!({"codes": ["malformed", "malformed"]}));

    let visits = (0..20).map(|number| view(if number % 2 == 0 { &one } else { &other }, "/visit?user=ann"));
    let mut counted: Vec<_> = join_all(visits).await.iter().map(|seen| seen["visits"].as_u64()).collect();
    counted.sort_unstable();
    assert_eq!(counted, (1..=20).map(Some).collect::<Vec<_>>(), "the lock of a store holds over nodes");

    let opened = view(&one, "/opened?page=p1&user=bob").await;
    assert_eq!(opened["fields"], json!({"user": "bob", "connection": "c1"}));
    assert_eq!((&opened["data"], &opened["listed"]), (&json!({"env": [1, "ü"]}), &json!(["p1"])));
    assert_eq!(view(&other, "/saved?order=1&page=p1").await, json!({"pages": 1}));
    assert_eq!(view(&one, "/saved?order=2").await, json!({"pages": 1}));
    let mut taken = Vec::new();
    for at in [&other, &one, &other, &one] {
        let seen = view(at, "/poll?page=p1").await;
        assert_eq!(seen["reset"], false);
        taken.extend(seen["changes"].as_array().expect("a list").iter().map(|change| change["pkey"].clone()));
    }
    assert_eq!(taken, [1, 2]);

    other.kill();
    assert_eq!(view(&one, "/visit?user=ann").await["visits"], 21, "nothing was kept at a node only");
    let seen = view(&one, "/login?user=bob").await;
    let dropped = json!([["page", "p1"], ["connection", "c1"], ["user", "ann"]]);
    assert_eq!(seen, json!({"pages": ["p1"], "dropped": dropped, "left": null}));
}

#[tokio::test]
async fn users_and_connections_move_to_another_register_by_the_command_line() {
    let (from, to) = (Node::setup().start().await, Node::setup().start().await);
    let line =
        |level: &str, id: &str| format!(r#"{{"level":"{level}","id":"{id}","fields":{{"user":"ann"}}}}"#);
    let lines =
        [line("user", "ann"), line("connection", "c1"), line("connection", "c2")].map(|line| line + "\n");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("items.jsonl");
    std::fs::write(&file, lines.concat()).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let said = pagewire(&from, &["register", "import", "shop", file]).await;
    assert_eq!(said.out, "3 created, 0 were there already\n", "{said:?}");
    let exported = pagewire(&from, &["register", "export", "shop"]).await;
    assert_eq!(exported.out, lines.concat());
    std::fs::write(file, exported.out).expect("a file");
    pagewire(&to, &["register", "import", "shop", file]).await;
    let again = pagewire(&to, &["register", "import", "shop", file, "--json"]).await.json();
    assert_eq!(again, json!({"created": 0, "kept": 3}));
    std::fs::write(file, "no JSON").expect("a file");
    let refused = pagewire(&to, &["register", "import", "shop", file]).await;
    assert!(refused.code == 2 && refused.err.contains("line 1"), "{refused:?}");
}
