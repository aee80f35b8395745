//! Jobs and lanes: why a job waits, what waits in a lane, and in which lane a job runs again.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually, pagewire};

async fn set_weight(node: &Node, weight: &str) {
    let output = pagewire(node, &["rollout", "set-weight", "default", weight, "--force"]).await;
    assert_eq!(output.code, 0, "{output:?}");
}

/// Submits a job and returns its id.
async fn submit(node: &Node, arguments: &[&str]) -> String {
    let output = pagewire(node, &[&["job", "submit", "--json"], arguments].concat()).await.json();
    output["id"].as_str().expect("an id").to_owned()
}

async fn job(node: &Node, id: &str) -> Value {
    node.api().get_json(&format!("/api/v1/jobs/{id}")).await
}

/// Waits until a job has a state, and returns it.
async fn becomes(node: &Node, id: &str, state: &str) -> Value {
    eventually(&format!("the job is {state}"), SOON, async || {
        let job = job(node, id).await;
        (job["state"] == state).then_some(job)
    })
    .await
}

/// Returns the ids of the jobs that these filters select.
async fn listed(node: &Node, filters: &[&str]) -> Vec<String> {
    let list = pagewire(node, &[&["job", "list", "--json"], filters].concat()).await.json();
    let items = list["items"].as_array().expect("jobs");
    items.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn what_waits_in_a_lane_that_was_taken_back_is_listed_counted_and_explained() {
    let nats = Nats::start().await;
    let mut leader = Node::setup().nats(&nats).start().await;
    let node = Node::setup().nats(&nats).start().await;
    set_weight(&node, "canary=100").await;
    let id = submit(&node, &["echo", "7"]).await;
    let waiting = job(&node, &id).await["waiting"].clone();
    let message = "no worker serves pool default, lane canary";
    assert_eq!(waiting, json!({"code": "no_worker", "message": message}));

    assert_eq!(listed(&node, &["--lane", "canary", "--pool", "default"]).await, [id.as_str()]);
    for none in [["--lane", "stable"], ["--pool", "other"], ["--release", "r1"]] {
        assert!(listed(&node, &none).await.is_empty(), "{none:?}");
    }
    set_weight(&node, "canary=0").await;
    eventually("it has moved to the base lane", SOON, async || {
        (listed(&node, &["--lane", "stable"]).await == [id.as_str()]).then_some(())
    })
    .await;

    // an operator sends it back
    assert_eq!(pagewire(&node, &["job", "cancel", &id]).await.code, 0);
    let retried = pagewire(&node, &["job", "retry", &id, "--lane", "canary"]).await;
    let reason = format!("{message}, and the rollout of the pool (revision 2) gives that lane no work");
    assert_eq!((retried.code, retried.err), (0, format!("waiting: {reason}\n")));
    let waiting = json!({"code": "lane_closed", "message": reason});
    assert_eq!(job(&node, &id).await["waiting"], waiting);
    let counted = eventually("the leader has counted it", SOON, async || {
        let stats = node.api().get_json("/api/v1/stats").await;
        let groups = stats["waiting_jobs"].as_array()?;
        groups.iter().find(|group| group["lane"] == "canary").cloned()
    })
    .await;
    for (member, value) in [("exec_mode", json!("any")), ("jobs", json!(1)), ("waiting", waiting)] {
        assert_eq!(counted[member], value, "{counted}");
    }
    let status = pagewire(&node, &["status"]).await.out;
    assert!(status.contains("waiting: 1 job (any) of pool default, lane canary, for up to "), "{status}");
    assert!(status.contains(&reason), "{status}");
    let gauge = r#"pagewire_jobs_waiting{pool="default",lane="canary",mode="any"}"#;
    assert_eq!(leader.api().metric(gauge).await, 1.0);
    assert_eq!(node.api().metric(gauge).await, 0.0, "the leader alone counts");
    leader.kill();
    eventually("the next leader counts", SOON, async || {
        (node.api().metric(gauge).await == 1.0).then_some(())
    })
    .await;
    leader.restart().await;
    eventually("the first one counts again", SOON, async || {
        let counts = (leader.api().metric(gauge).await, node.api().metric(gauge).await);
        (counts == (1.0, 0.0)).then_some(())
    })
    .await;

    let _canary = WorkerProcess::start(&nats, "canary").await;
    let ended = becomes(&node, &id, "succeeded").await;
    assert_eq!((&ended["lane"], &ended["waiting"]), (&json!("canary"), &Value::Null));
    eventually("nothing waits", SOON, async || (leader.api().metric(gauge).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_job_runs_again_in_the_lane_of_the_rollout_or_in_the_one_that_is_named() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _stable = WorkerProcess::setup(&nats, "stable").with("--release", "r1").start().await;
    let _canary = WorkerProcess::setup(&nats, "canary").failing().with("--release", "r2").start().await;
    set_weight(&node, "canary=100").await;
    let id = submit(&node, &["echo", "7", "--user", "ann", "--exec-mode", "any"]).await;
    let failed = becomes(&node, &id, "failed").await;
    assert_eq!((&failed["lane"], &failed["release"]), (&json!("canary"), &json!("r2")));
    set_weight(&node, "canary=0").await;
    let again =
        async |id: &str, more: &[&str]| pagewire(&node, &[&["job", "retry", id], more].concat()).await;

    let named = again(&id, &["--lane", "canary"]).await;
    assert_eq!(named.code, 0, "{named:?}");
    let failed = becomes(&node, &id, "failed").await;
    assert_eq!((&failed["release"], &failed["attempts"]), (&json!("r2"), &json!(1)), "it was not moved");
    assert_eq!(listed(&node, &["--release", "r2"]).await, [id.as_str()]);
    let worker = failed["worker"].as_str().expect("a worker");
    assert_eq!(listed(&node, &["--worker", worker, "--lane", "canary"]).await, [id.as_str()]);
    let table = pagewire(&node, &["job", "list", "--lane", "canary"]).await.out;
    assert!(table.contains("WORKER") && table.contains(worker), "{table}");

    assert_eq!(again(&id, &[]).await.code, 0);
    let ended = becomes(&node, &id, "succeeded").await;
    assert_eq!((&ended["lane"], &ended["release"]), (&json!("stable"), &json!("r1")));

    let own = submit(&node, &["fail", "--user", "ann", "--exec-mode", "assigned"]).await;
    becomes(&node, &own, "failed").await;
    let refused = again(&own, &["--lane", "canary"]).await;
    assert!(refused.code == 1 && refused.err.contains("(malformed)"), "{refused:?}");
    assert!(refused.err.contains("a user is in one lane of a pool at a time"), "{refused:?}");
    assert!(again(&own, &["--lane", "no lane"]).await.err.contains("(malformed)"));
    assert_eq!(again(&own, &[]).await.code, 0);
}

#[tokio::test]
async fn a_job_that_waits_for_its_time_or_for_its_user_says_so() {
    let nats = Nats::start().await;
    let node = Node::setup().nats(&nats).start().await;
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let for_ann = |kind: &'static str, data: &'static str| [kind, data, "--user", "ann"];
    let long = submit(&node, &for_ann("sleep", r#"{"ms": 60000}"#)).await;
    becomes(&node, &long, "running").await;
    let second = submit(&node, &for_ann("echo", "7")).await;
    let waiting = job(&node, &second).await["waiting"].clone();
    let message = format!("another job of the user runs: {long}");
    assert_eq!(waiting, json!({"code": "user_busy", "message": message}));
    let tomorrow = OffsetDateTime::now_utc() + time::Duration::days(1);
    let tomorrow = tomorrow.format(&Rfc3339).expect("a time");
    let later = submit(&node, &["echo", "7", "--run-at", &tomorrow]).await;
    let later = job(&node, &later).await;
    assert_eq!(
        (&later["state"], &later["waiting"]["code"]),
        (&json!("scheduled"), &json!("not_due")),
        "{later}"
    );
    assert_eq!(pagewire(&node, &["job", "cancel", &long]).await.code, 0);
    let ended = becomes(&node, &second, "succeeded").await;
    assert!(ended["waiting"].is_null(), "{ended}");
}
