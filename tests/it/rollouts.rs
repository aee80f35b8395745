//! Canary releases by weight, as operators use them.

use std::collections::BTreeMap;
use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::environment::{Api, Nats, Node, SOON, Token, WorkerProcess, eventually, pagewire};

const USERS: usize = 1000;

/// Returns the lane of every user, with one request for each.
async fn lanes(api: &Api) -> Vec<String> {
    let mut lanes = Vec::with_capacity(USERS);
    for user in 0..USERS {
        let explained = api.get_json(&format!("/api/v1/rollouts/default/explain?user=user-{user}")).await;
        lanes.push(explained["lane"].as_str().expect("a lane").to_owned());
    }
    lanes
}

async fn put(api: &Api, revision: &str, body: Value) -> (StatusCode, Value) {
    let request = api.request(Method::PUT, "/api/v1/rollouts/default").header("if-match", revision);
    let response = request.json(&body).send().await.expect("an answer");
    (response.status(), response.json().await.expect("a JSON body"))
}

/// Returns a rollout with a canary of that weight; `force`, because the lane may have no workers.
fn canary(percent: f64) -> Value {
    json!({"lanes": [{"name": "canary", "weight": percent}], "force": true})
}

#[tokio::test]
async fn weights_0_10_and_100_move_nobody_a_tenth_and_everybody_and_nobody_comes_back() {
    let node = Node::start().await;
    let api = node.api();
    let mut before = lanes(&api).await;
    assert!(before.iter().all(|lane| lane == "stable"), "before the first change of a weight");
    for (percent, expected) in [("0", 0..=0), ("10", 60..=140), ("25", 190..=310), ("100", USERS..=USERS)] {
        let output =
            pagewire(&node, &["rollout", "set-weight", "default", &format!("canary={percent}"), "--force"])
                .await;
        assert_eq!(output.code, 0, "{output:?}");
        let after = lanes(&api).await;
        let moved = after.iter().filter(|lane| *lane == "canary").count();
        assert!(expected.contains(&moved), "{moved} of {USERS} users at {percent} %");
        let back = before.iter().zip(&after).filter(|(was, is)| *was == "canary" && *is != "canary").count();
        assert_eq!(back, 0, "users that came back at {percent} %");
        before = after;
    }
}

#[tokio::test]
async fn of_two_operators_who_change_the_same_revision_the_second_is_told_who_was_first() {
    let node = Node::setup().users().set("auth.api_keys", "a-key-of-the-tests").start().await;
    let ann = node.api().with_key(&Token::of("ann").with_role("admin").sign());
    let bob = node.api().with_key("a-key-of-the-tests");
    let (status, first) = put(&ann, "\"0\"", canary(5.0)).await;
    assert_eq!(
        (status, &first["revision"], &first["updated_by"]),
        (StatusCode::OK, &json!(1), &json!("ann"))
    );
    let (status, refused) = put(&bob, "\"0\"", canary(50.0)).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::PRECONDITION_FAILED, &json!("conflict")));
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.starts_with("the pool is at revision 1, written by ann at 2"), "{message}");
    let current = bob.get_json("/api/v1/rollouts/default").await;
    assert_eq!(
        current["lanes"],
        json!([{"name": "canary", "weight": 5}]),
        "nothing of the second was written"
    );
    assert_eq!(put(&bob, "\"1\"", canary(50.0)).await.0, StatusCode::OK, "with the current revision");
    assert_eq!(put(&bob, "*", canary(51.0)).await.0, StatusCode::OK, "with any revision");
    let unguarded = bob.request(Method::PUT, "/api/v1/rollouts/default").json(&canary(1.0)).send().await;
    assert_eq!(unguarded.expect("an answer").status(), StatusCode::PRECONDITION_REQUIRED);
    let history = bob.get_json("/api/v1/rollouts/default/history").await;
    let by = |row: &Value| row["updated_by"].as_str().expect("a name").to_owned();
    let by: Vec<_> = history["items"].as_array().expect("a list").iter().map(by).collect();
    assert_eq!(by, ["an API key", "an API key", "ann"]);
}

#[tokio::test]
async fn what_no_split_can_be_is_refused_with_the_reason() {
    let api = Node::start().await;
    let api = api.api();
    for (body, reason) in [
        (json!({"lanes": [{"name": "a", "weight": 60}, {"name": "b", "weight": 40.01}]}), "100.01%"),
        (json!({"lanes": [{"name": "a", "weight": 0.001}]}), "steps of 0.01"),
        (json!({"lanes": [{"name": "a b", "weight": 1}]}), "is not a name"),
        (json!({"lanes": [{"name": "stable", "weight": 1}]}), "twice"),
        (json!({"fallback": "somewhere"}), "somewhere"),
        (json!({"lines": []}), "lines"),
    ] {
        let (status, refused) = put(&api, "*", body).await;
        let message = refused["error"]["message"].as_str().expect("a message");
        assert_eq!(status, StatusCode::BAD_REQUEST, "{message}");
        assert!(message.contains(reason), "{message}");
        assert!(!message.contains(" at line "), "{message}");
    }
    assert_eq!(api.get_json("/api/v1/rollouts").await["items"], json!([]));
}

#[tokio::test]
async fn the_command_line_changes_shows_explains_and_undoes() {
    let node = Node::start().await;
    let run = async |arguments: &[&str]| pagewire(&node, &[&["rollout"], arguments].concat()).await;
    let output = run(&["set-weight", "default", "canary=10", "--comment", "first try", "--force"]).await;
    assert!(output.out.starts_with("pool default: revision 1 applied by 1/1 nodes in "), "{output:?}");
    assert!(output.out.ends_with("stable 90%, canary 10%\n"), "{output:?}");
    run(&["set-weight", "default", "stable=70", "canary=20", "beta=10", "--force"]).await;
    let late = run(&["set-weight", "default", "canary=90", "--revision", "1"]).await;
    assert!(late.code == 1 && late.err.contains("the pool is at revision 2"), "{late:?}");
    let wrong = run(&["set-weight", "default", "stable=70", "canary=20"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("gets the remainder, 80%, not 70%"), "{wrong:?}");
    let status = run(&["status", "default"]).await.out;
    assert!(status.contains("beta    10%"), "{status}");
    let undone = run(&["undo", "default"]).await;
    assert!(undone.out.ends_with("stable 90%, canary 10%\n"), "{undone:?}");
    let history = run(&["history", "default"]).await.out;
    let lines: Vec<_> = history.lines().collect();
    assert_eq!(lines.len(), 4, "{history}");
    assert!(lines[1].ends_with("stable 90%, canary 10%            back to revision 1"), "{history}");
    assert!(lines[3].ends_with("first try"), "{history}");
    let explained = run(&["explain", "default", "*", "--json"]).await.json();
    assert_eq!((&explained["user"], &explained["revision"]), (&json!("*"), &json!(3)), "{explained}");
    let all = run(&["status"]).await.out;
    assert!(all.lines().nth(1).is_some_and(|line| line.starts_with("default  3")), "{all}");
    assert_eq!(node.api().metric(r#"pagewire_rollout_revision{pool="default"}"#).await, 3.0);
}

/// Returns the revision that each node reports as applied.
fn revisions(status: &Value) -> BTreeMap<String, Option<u64>> {
    let nodes = status["nodes"].as_array().expect("a list").iter();
    nodes
        .map(|node| (node["node"].as_str().expect("a number").to_owned(), node["revision"].as_u64()))
        .collect()
}

#[tokio::test]
async fn five_nodes_apply_a_change_and_one_that_stands_still_is_named() {
    let nats = Nats::start().await;
    let mut nodes: Vec<_> = (0..5).map(|_| Node::setup().nats(&nats).launch()).collect();
    for node in &mut nodes {
        node.ready().await;
    }
    let seen = async || nodes[0].api().get_json("/api/v1/nodes").await["items"].as_array().map(Vec::len);
    eventually("the first sees all", SOON, async || (seen().await == Some(5)).then_some(())).await;
    let output = pagewire(&nodes[0], &["rollout", "set-weight", "default", "canary=10", "--force", "--json"])
        .await
        .json();
    assert_eq!((&output["applied"]["nodes"], &output["applied"]["of"]), (&json!(5), &json!(5)), "{output}");
    for node in &nodes {
        let status = node.api().get_json("/api/v1/rollouts/default").await;
        assert!(revisions(&status).into_values().eq([Some(1); 5]), "{status}");
        assert_eq!(
            status["applied"]["took_ms"], output["applied"]["took_ms"],
            "any node knows how long it took"
        );
    }
    let mut lanes = Vec::new();
    for node in &nodes {
        lanes.push(node.api().get_json("/api/v1/rollouts/default/explain?user=ann").await);
    }
    lanes.dedup();
    assert_eq!(lanes.len(), 1, "one answer everywhere");
    let still = nodes[4].number().await;
    nodes[4].pause();
    let late = pagewire(&nodes[0], &["rollout", "set-weight", "default", "canary=20", "--force"]).await;
    assert!(late.code == 1 && late.err.contains(&format!("not applied yet by {still}")), "{late:?}");
    assert!(late.out.contains("revision 2 applied by 4/5 nodes\n"), "{late:?}");
    nodes[4].wake();
    eventually("the one that stood still has applied it", SOON, async || {
        let status = nodes[1].api().get_json("/api/v1/rollouts/default").await;
        revisions(&status).into_values().eq([Some(2); 5]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_first_change_of_a_pool_can_be_undone() {
    let node = Node::start().await;
    let run = async |arguments: &[&str]| pagewire(&node, &[&["rollout"], arguments].concat()).await;
    let nothing = run(&["undo", "default"]).await;
    assert!(nothing.code == 1 && nothing.err.contains("no such revision"), "{nothing:?}");
    run(&["set-weight", "default", "canary=10", "--fallback", "base"]).await;
    let undone = run(&["undo", "default"]).await;
    assert!(undone.code == 0 && undone.out.ends_with("stable 100%\n"), "{undone:?}");
    let current = node.api().get_json("/api/v1/rollouts/default").await;
    let output = ["revision", "base", "lanes", "fallback", "comment"].map(|member| current[member].clone());
    assert_eq!(output, [json!(2), json!("stable"), json!([]), json!("none"), json!("back to revision 0")]);
    run(&["set-weight", "default", "canary=10", "beta=20", "--force"]).await;
    let undone = run(&["undo", "default", "--to", "0"]).await;
    assert!(undone.out.ends_with("stable 100%\n"), "{undone:?}");
}

#[tokio::test]
async fn users_are_sent_to_a_lane_without_workers_only_by_force_or_with_a_fallback() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let api = node.api();
    let set = async |arguments: &[&str]| {
        pagewire(&node, &[&["rollout", "set-weight", "default"], arguments].concat()).await
    };
    let refused = set(&["canary=10"]).await;
    assert!(refused.code == 1 && refused.err.contains("(lane_without_workers)"), "{refused:?}");
    assert!(refused.err.contains("lane canary of pool default has no living workers"), "{refused:?}");
    for any in ["*", "\"0\""] {
        let body = json!({"lanes": [{"name": "canary", "weight": 10}]});
        let (status, refused) = put(&api, any, body).await;
        let error = &refused["error"];
        assert_eq!((status, &error["code"]), (StatusCode::CONFLICT, &json!("lane_without_workers")));
        assert_eq!(error["retryable"], true, "a worker may come");
    }
    assert_eq!(api.get_json("/api/v1/rollouts/default").await["revision"], 0, "nothing was written");

    let forced = set(&["canary=10", "--force"]).await;
    assert!(forced.code == 0 && forced.out.ends_with("stable 90%, canary 10%\n"), "{forced:?}");
    let warned =
        "warning: lane canary has 10% of the users and no living workers: the calls of its users are refused";
    assert!(forced.err.contains(warned), "{forced:?}");
    assert_eq!(set(&["canary=5"]).await.code, 0, "fewer users are always let go");
    assert_eq!(set(&["canary=6"]).await.code, 1);
    let helped = set(&["canary=6", "--fallback", "base"]).await;
    assert!(helped.code == 0 && helped.err.contains("the base lane does the work"), "{helped:?}");

    let _canary = WorkerProcess::start(&nats, "canary").await;
    let served = eventually("a worker of the lane is known", SOON, async || {
        let output = set(&["canary=50", "--fallback", "none"]).await;
        (output.code == 0).then_some(output)
    })
    .await;
    assert!(!served.err.contains("lane canary"), "{served:?}");
}

#[tokio::test]
async fn users_with_a_lane_of_their_own_keep_it_whatever_the_weights_are_until_it_is_taken_back() {
    let node = Node::start().await;
    let run = async |arguments: &[&str]| pagewire(&node, &[&["rollout"], arguments].concat()).await;
    let lane = async |user: &str| {
        let explained = node.api().get_json(&format!("/api/v1/rollouts/default/explain?user={user}")).await;
        (explained["lane"].clone(), explained["reason"].clone())
    };
    let unknown = run(&["assign", "default", "canry", "--user", "ann", "--force"]).await;
    assert!(unknown.code != 0 && unknown.err.contains("the pool has no lane canry"), "{unknown:?}");
    run(&["set-weight", "default", "canary=0"]).await;
    let refused = run(&["assign", "default", "canary", "--user", "ann"]).await;
    assert!(refused.code != 0 && refused.err.contains("no living workers"), "{refused:?}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "bob\n\n eve \n").expect("a file");
    let path = file.path().to_str().expect("a path");
    let assigned = run(&["assign", "default", "canary", "--user", "ann", "--file", path, "--force"]).await;
    assert!(assigned.code == 0 && assigned.err.contains("3 users of its own"), "{assigned:?}");
    for user in ["ann", "bob", "eve"] {
        assert_eq!(lane(user).await, (json!("canary"), json!("override")));
    }
    assert_eq!(lane("max").await, (json!("stable"), json!("base")));
    let told = run(&["explain", "default", "ann"]).await;
    assert!(told.out.contains("canary is the user's own lane"), "{told:?}");
    let users = node.api().get_json("/api/v1/rollouts/default/users").await;
    assert_eq!(users["items"][0], json!({"user": "ann", "lane": "canary"}));
    let status = run(&["status", "default"]).await;
    assert!(status.out.contains("canary  0%      3 "), "{status:?}");
    let path = "/api/v1/rollouts/default/users/ann";
    let put = node.api().request(Method::PUT, path).json(&json!({"lane": "stable"})).send().await;
    assert_eq!(put.expect("an answer").status(), 200);
    run(&["set-weight", "default", "canary=100", "--force"]).await;
    assert_eq!(lane("ann").await, (json!("stable"), json!("override")));
    assert_eq!(node.api().delete(path).await.0, 200);
    assert_eq!(lane("ann").await, (json!("canary"), json!("weight")));
    run(&["unassign", "default", "--user", "bob", "--user", "eve"]).await;
    assert_eq!(node.api().get_json("/api/v1/rollouts/default/users").await["items"], json!([]));
    let undone = run(&["undo", "default"]).await;
    assert_eq!(undone.code, 0, "{undone:?}");
    assert_eq!(lane("bob").await, (json!("canary"), json!("override")), "undo restores them as well");
    let third = run(&["set-weight", "default", "stable=100", "beta=0", "gamma=0"]).await;
    assert!(third.code != 0 && third.err.contains("at most 2 lanes"), "{third:?}");
    assert_eq!(lane("bob").await.1, json!("override"), "a lane with users makes no room for another one");
}

#[tokio::test]
async fn a_canary_grows_by_steps_is_taken_back_and_a_switch_goes_there_and_back() {
    let node = Node::start().await;
    let run = async |arguments: &[&str]| pagewire(&node, &[&["rollout"], arguments].concat()).await;
    let none = run(&["promote", "default"]).await;
    assert!(none.code != 0 && none.err.contains("no lane of this pool grows by steps"), "{none:?}");
    let refused = run(&["start", "default", "--lane", "canary"]).await;
    assert!(refused.code != 0 && refused.err.contains("no living workers"), "{refused:?}");
    let started = run(&["start", "default", "--lane", "canary", "--steps", "10,50,100", "--force"]).await;
    assert!(started.out.ends_with("canary grows [10%] → 50% → 100%: running\n"), "{started:?}");
    let second = run(&["start", "default", "--lane", "beta", "--force"]).await;
    assert!(second.code != 0 && second.err.contains("grows by steps already"), "{second:?}");
    run(&["pause", "default"]).await;
    let paused = run(&["promote", "default", "--force"]).await;
    assert!(paused.code != 0 && paused.err.contains("resume them first"), "{paused:?}");
    run(&["resume", "default"]).await;
    let promoted = run(&["promote", "default", "--force"]).await;
    assert!(promoted.out.contains("stable 50%, canary 50%\ncanary grows 10% → [50%] → 100%"), "{promoted:?}");
    run(&["assign", "default", "canary", "--user", "ann", "--force"]).await;
    let aborted = run(&["abort", "default", "--comment", "too slow"]).await;
    assert!(
        aborted.out.contains("lane canary of revision 5 is aborted, applied by 1/1 nodes in ")
            && aborted.out.contains("\nwritten as revision 6\ntaken back from canary: 0 users"),
        "{aborted:?}"
    );
    let status = run(&["status", "default"]).await;
    assert!(status.out.contains("→ 100%: aborted"), "{status:?}");
    let explained = node.api().get_json("/api/v1/rollouts/default/explain?user=ann").await;
    assert_eq!((&explained["lane"], &explained["reason"]), (&json!("stable"), &json!("base")));
    let history = run(&["history", "default"]).await;
    assert!(history.out.contains("too slow"), "{history:?}");
    let undone = run(&["undo", "default"]).await;
    assert!(undone.out.ends_with("canary grows 10% → [50%] → 100%: running\n"), "{undone:?}");
    run(&["promote", "default", "--whole", "--force"]).await;
    let status = node.api().get_json("/api/v1/rollouts/default").await;
    assert_eq!((&status["plan"]["state"], &status["plan"]["step"]), (&json!("completed"), &json!(2)));

    let green = run(&["switch", "blue-green", "green"]).await;
    assert!(green.code != 0 && green.err.contains("lane green"), "{green:?}");
    let green = run(&["switch", "blue-green", "green", "--force"]).await;
    assert!(green.out.ends_with("green 100%, stable 0%\n"), "{green:?}");
    let back = run(&["switch", "blue-green", "stable"]).await;
    assert!(back.code != 0, "the worker of the node serves the pool default only: {back:?}");
    let back = run(&["undo", "blue-green"]).await;
    assert!(back.code == 0 && back.out.ends_with("stable 100%\n"), "{back:?}");
}

#[tokio::test]
async fn a_rollout_is_watched_while_it_changes() {
    let node = Node::start().await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagewire"));
    command.args(["rollout", "status", "default", "--watch", "--json", "--url", &node.url()]);
    let mut watching = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the command");
    let mut lines = BufReader::new(watching.stdout.take().expect("its output")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("a line in time");
        let line = line.expect("a line").expect("a line");
        serde_json::from_str::<Value>(&line).expect("JSON")["revision"].clone()
    };
    assert_eq!(next().await, 0);
    pagewire(&node, &["rollout", "set-weight", "default", "canary=10", "--force"]).await;
    while next().await != 1 {}
}
