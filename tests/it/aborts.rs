//! Aborts of a lane while the cluster stores nothing.

use std::time::Duration;

use pagewire_cluster::engine::{BusEvent, Engine, Message, NatsOptions, Subscription};
use pagewire_cluster::timing::Timing;
use serde_json::{Value, json};

use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually, pagewire};

/// Connects a client that knows nothing of rollouts, and creates the streams.
async fn client(nats: &Nats) -> Engine {
    let options = NatsOptions {
        urls: vec![nats.url()],
        replicas: 3,
        cluster: "main".to_owned(),
        client_name: "a client of the tests".to_owned(),
        timing: Timing::PRODUCTION,
    };
    Engine::Nats(pagewire_cluster::engine::Nats::connect(options).await.expect("a connection"))
}

/// Returns the position of the server that leads the stream of rollouts.
async fn leader(client: &Engine) -> usize {
    eventually("the stream has a leader", SOON, async || {
        let question = Message::new("$JS.API.STREAM.INFO.KV_pw_main_config", "");
        let answer = client.request(question, Duration::from_secs(2)).await.ok()?;
        let info: Value = serde_json::from_slice(&answer.payload).ok()?;
        info["cluster"]["leader"].as_str()?.strip_prefix('n')?.parse().ok()
    })
    .await
}

async fn lane(node: &Node) -> (String, String) {
    let explained = node.api().get_json("/api/v1/rollouts/default/explain?user=ann").await;
    let text = |member: &str| explained[member].as_str().expect("a text").to_owned();
    (text("lane"), text("reason"))
}

fn is(lane: &str, reason: &str) -> (String, String) {
    (lane.to_owned(), reason.to_owned())
}

/// Returns the next message that is not empty.
async fn next(subscription: &mut Subscription) -> Message {
    loop {
        let event = tokio::time::timeout(SOON, subscription.next()).await.expect("a message");
        if let Some(BusEvent::Message(message)) = event {
            return message;
        }
    }
}

#[tokio::test]
async fn an_abort_reaches_all_nodes_and_workers_while_the_leader_is_dead_and_is_written_later() {
    let mut servers = Nats::cluster(3).await;
    let dead = leader(&client(&servers[0]).await).await;
    let (home, asleep) = ((dead + 1) % 3, (dead + 2) % 3);
    let node = || Node::setup().nats(&servers[home]).set("nats.replicas", 3).real_timing();
    let worker = |lane: &str| WorkerProcess::setup(&servers[home], lane).replicas(3).real_timing();
    let (one, two) = (node().start().await, node().start().await);
    let (_stable, _canary) = (worker("stable").start().await, worker("canary").start().await);
    one.api().sees_workers(2).await;
    eventually("the first sees both nodes", SOON, async || {
        let nodes = one.api().get_json("/api/v1/nodes").await;
        nodes["items"].as_array().is_some_and(|nodes| nodes.len() == 2).then_some(())
    })
    .await;
    let run = async |arguments: &[&str]| pagewire(&one, &[&["rollout"], arguments].concat()).await;
    assert_eq!(run(&["set-weight", "default", "canary=100"]).await.code, 0);
    assert_eq!(lane(&two).await, is("canary", "weight"));
    let listener = client(&servers[home]).await;
    let mut announced = listener.subscribe("pw.main.latches", None, 1 << 20).await.expect("a subscription");

    servers[asleep].pause();
    servers[dead].kill();
    let aborted = run(&["abort", "default", "--lane", "canary", "--comment", "it is bad"]).await;
    let applied = "lane canary of revision 1 is aborted, applied by 2/2 nodes and 2/2 worker processes in ";
    assert!(aborted.out.contains(applied), "{aborted:?}");
    assert!(aborted.out.contains("not written yet"), "{aborted:?}");
    assert_eq!(aborted.code, 0, "{aborted:?}");
    for node in [&one, &two] {
        assert_eq!(lane(node).await, is("stable", "abort"));
        assert_eq!(node.api().metric("pagewire_rollout_latches").await, 1.0);
    }
    let recorded = next(&mut announced).await;

    let servers_up = Node::setup().nats(&servers[home]).set("nats.replicas", 3).real_timing();
    servers[asleep].resume();
    let third = servers_up.start().await;
    assert_eq!(lane(&third).await.0, "stable", "a node that started meanwhile");
    let status = eventually("a node has written it", Duration::from_secs(60), async || {
        let (_, text) = one.api().get("/api/v1/rollouts/default").await;
        serde_json::from_str::<Value>(&text).ok().filter(|status| status["revision"] == 2)
    })
    .await;
    assert_eq!(status["lanes"], json!([{"name": "canary", "weight": 0}]));
    assert_eq!(status["comment"], json!("it is bad"));
    for node in [&one, &two, &third] {
        eventually("the revision is applied", SOON, async || {
            (lane(node).await == is("stable", "base")).then_some(())
        })
        .await;
    }
    // the watch of a worker may still be on its way to another server
    eventually("the workers have applied it", Duration::from_secs(60), async || {
        let applied = one.api().get_json("/api/v1/rollouts/default").await["applied"].clone();
        (applied["workers"] == 2 && applied["of_workers"] == 2).then_some(())
    })
    .await;

    let changed = run(&["set-weight", "default", "canary=100"]).await;
    assert_eq!(changed.code, 0, "{changed:?}");
    let to = "pw.main.latches.to.the-test";
    let mut replies = listener.subscribe(to, None, 1 << 20).await.expect("a subscription");
    listener.publish(Message::new("pw.main.latches", recorded.payload)).await.expect("sent");
    // processes answer in order, so after their answers to an empty announcement they have read the recorded one
    let empty = Message::new("pw.main.latches", r#"{"type":"hold","latches":[]}"#);
    listener.publish(Message { reply: Some(to.to_owned()), ..empty }).await.expect("sent");
    for _ in 0..5 {
        next(&mut replies).await;
    }
    for node in [&one, &two, &third] {
        assert_eq!(lane(node).await, is("canary", "weight"), "a replay ends no later rollout");
    }
    let history = run(&["history", "default"]).await;
    assert_eq!(history.out.lines().count(), 4, "of three nodes one has written it: {history:?}");
}
