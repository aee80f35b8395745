//! The child processes of a pool: reload, recycling, their number, and the users that are assigned to them.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::children::*;
use crate::environment::{Api, Node, SOON, eventually};

#[tokio::test]
async fn a_reload_under_load_replaces_every_child_without_a_failed_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program.py");
    let write = |version: &str, methods: &str| {
        let source = std::fs::read_to_string(PROGRAM).expect("the program");
        let source = source
            .replace("default=\"1\"", &format!("default=\"{version}\""))
            .replace("options.only or list(HANDLERS)", &format!("options.only or list(HANDLERS){methods}"));
        std::fs::write(&program, source).expect("a file");
    };
    write("1", "[:3]");
    let command = json!(["python3", program]);
    let keys = format!("[[pool]]\nname = \"default\"\ncommand = {command}\nfree = 2\nassigned = 1");
    let node = Node::setup().set("welcome", false).file(&keys).start().await;
    let api = node.api();
    assert_eq!(result(&api, "version", json!(null)).await, "1");
    // the new version has more handlers
    write("2", "");
    let calls = under_load(&api, "echo", async {
        node.hang_up();
        eventually("only the new version serves", SOON, async || {
            let versions: Vec<_> = futures_util::stream::iter(0..8)
                .then(async |_| call(&api, "version", json!(null)).await.1)
                .collect()
                .await;
            versions.iter().all(|version| version == "2").then_some(())
        })
        .await;
        eventually("its new handlers are served", SOON, async || {
            call(&api, "environment", json!(null)).await.0.is_success().then_some(())
        })
        .await;
    })
    .await;
    assert!(calls > 0);
}

#[tokio::test]
async fn a_child_is_recycled_after_its_work_or_its_memory_without_a_failed_call() {
    let keys = "free = 1\nassigned = 0\nslots = 4\nrecycle = { max_work = 50, max_rss = \"120M\" }";
    let node = Node::setup().set("welcome", false).file(&pool(&[], keys)).start().await;
    let api = node.api();
    let first = result(&api, "who", json!(null)).await["pid"].clone();
    let calls = under_load(&api, "echo", async { drop(replaced(&api, &first).await) }).await;
    assert!(calls > 0);
    let leaking = result(&api, "leak", json!(200)).await;
    replaced(&api, &leaking).await;
    gone(&leaking).await;
    let status = status(&api).await;
    assert_eq!(status["restarts"], 0, "a recycled child has not failed: {status}");
}

#[tokio::test]
async fn children_are_added_for_work_that_waits_and_removed_when_they_are_idle() {
    let keys = "assigned = 0\nslots = 1\nscale = { min = 1, max = 4 }";
    // of four slots, one is reserved for calls
    let node = Node::setup().set("welcome", false).file(&pool(&[], keys)).start().await;
    let api = node.api();
    let count = async || status(&api).await["children"].as_array().expect("a list").len();
    assert_eq!(count().await, 1);
    let jobs = futures_util::stream::iter(0..12)
        .map(async |_| {
            let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 500}, "exec_mode": "any"})).await;
            ended(&api, &job).await["result"].clone()
        })
        .buffer_unordered(12)
        .collect::<Vec<_>>();
    let (pids, ()) = futures_util::join!(jobs, async {
        eventually("all three run", SOON, async || (count().await == 3).then_some(())).await;
    });
    let pids: std::collections::BTreeSet<_> = pids.iter().map(Value::to_string).collect();
    assert_eq!(pids.len(), 3);
    eventually("one is left", SOON, async || (count().await == 1).then_some(())).await;
}

#[tokio::test]
async fn a_user_has_one_child_and_another_user_another_one() {
    let node = Node::setup().set("welcome", false).file(&pool(&[], "free = 1\nassigned = 2")).start().await;
    let api = node.api();
    ready_children(&api, 3).await;
    let pid_of = async |user: &str| served_by(&api, user, None).await;
    let (ann, bob) = (pid_of("ann").await, pid_of("bob").await);
    assert_ne!(ann, bob, "users are spread");
    for _ in 0..5 {
        assert_eq!((pid_of("ann").await, pid_of("bob").await), (ann.clone(), bob.clone()));
    }
    let free = result(&api, "who", json!(null)).await["pid"].clone();
    assert!(free != ann && free != bob, "free work goes to other children");
    let users: Vec<u64> = status(&api).await["children"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|child| child["users"].as_u64().expect("a number"))
        .collect();
    assert_eq!(users.iter().sum::<u64>(), 2, "{users:?}");
    let children = async |kind: &str| {
        let labels = format!(r#"{{child_pool="default",kind="{kind}",state="ready"}}"#);
        api.metric(&format!("pagewire_children{labels}")).await
    };
    assert_eq!([children("free").await, children("assigned").await], [1.0, 2.0]);
}

#[tokio::test]
async fn a_drained_node_lets_the_work_of_its_children_end() {
    let mut node = setup(&[]).start().await;
    let api = node.api();
    let (value, ()) = futures_util::join!(result(&api, "sleep", json!({"ms": 1000})), async {
        eventually("the call runs", SOON, async || (running(&api).await == 1).then_some(())).await;
        node.terminate();
    });
    assert!(value.is_number());
    assert!(node.exit(Duration::from_secs(20)).await.success());
}

/// Returns the process that serves a call of a user in a mode, or in the default one.
async fn served_by(api: &Api, user: &str, mode: Option<&str>) -> Value {
    let body = json!({"method": "who", "user": user, "exec_mode": mode});
    let response = api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
    response.json::<Value>().await.expect("JSON")["pid"].clone()
}

async fn ready_children(api: &Api, count: usize) {
    eventually("the children are ready", SOON, async || {
        (status(api).await["children"].as_array()?.len() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn free_work_goes_to_one_child_after_the_other_or_to_the_same_one_for_a_user() {
    let keys = "free = 2\nassigned = 0\naffinity = \"round_robin\"";
    let node = Node::setup().set("welcome", false).file(&pool(&[], keys)).start().await;
    let api = node.api();
    ready_children(&api, 2).await;
    let mut pids = Vec::new();
    for _ in 0..4 {
        pids.push(served_by(&api, "ann", Some("any")).await);
    }
    assert!(pids[0] != pids[1] && pids[0] == pids[2] && pids[1] == pids[3], "{pids:?}");

    let keys = keys.replace("round_robin", "user");
    let node = Node::setup().set("welcome", false).file(&pool(&[], &keys)).start().await;
    let api = node.api();
    ready_children(&api, 2).await;
    let mut all = std::collections::BTreeSet::new();
    for user in 0..16 {
        let user = format!("user-{user}");
        let first = served_by(&api, &user, Some("any")).await;
        for _ in 0..3 {
            assert_eq!(served_by(&api, &user, Some("any")).await, first, "{user}");
        }
        all.insert(first.to_string());
    }
    assert_eq!(all.len(), 2, "users are spread");
}

#[tokio::test]
async fn another_child_is_started_for_users_that_have_no_room() {
    let keys = "free = 0\nscale = { min = 1, max = 3, max_users = 1 }";
    let node = Node::setup().set("welcome", false).file(&pool(&[], keys)).start().await;
    let api = node.api();
    ready_children(&api, 1).await;
    let mut pids = std::collections::BTreeSet::new();
    for user in ["ann", "bob", "cyd"] {
        pids.insert(served_by(&api, user, Some("assigned")).await.to_string());
    }
    assert_eq!(pids.len(), 3, "{pids:?}");
    // there are no more children, so this user shares one
    assert!(pids.contains(&served_by(&api, "dan", Some("assigned")).await.to_string()));
}
