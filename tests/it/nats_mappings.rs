//! The weights of a rollout as a subject mapping of a real nats-server, for clients that publish to NATS themselves.

use std::time::Duration;

use pagewire_cluster::engine::{Engine, Message, NatsOptions, RequestError};
use pagewire_cluster::id::Key;
use pagewire_cluster::timing::Timing;
use serde_json::{Value, json};

use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually, pagewire};

/// Connects a client that knows nothing of rollouts.
async fn client(nats: &Nats) -> Engine {
    let options = NatsOptions {
        urls: vec![nats.url()],
        replicas: 1,
        cluster: "main".to_owned(),
        client_name: "a client of the tests".to_owned(),
        timing: Timing::TEST,
    };
    Engine::Nats(pagewire_cluster::engine::Nats::connect(options).await.expect("a connection"))
}

/// Sends a call for no lane. Returns its answer, or `None` if no process receives it.
async fn call(client: &Engine) -> Option<Value> {
    let body = json!({"id": Key::random().to_string(), "method": "echo", "params": [1]}).to_string();
    let answer =
        client.request(Message::new("pw.main.call.default.echo", body), Duration::from_secs(5)).await;
    match answer {
        Ok(answer) => Some(serde_json::from_slice(&answer.payload).expect("JSON")),
        Err(RequestError::NoResponder) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Returns how many calls a worker has run.
async fn calls(worker: &WorkerProcess) -> u64 {
    let (_, page) = worker.api().get("/metrics").await;
    let series = page.lines().filter(|line| line.starts_with("pagewire_worker_calls_total{"));
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn a_nats_server_sends_the_share_of_a_lane_to_its_workers_and_all_to_the_base_when_it_is_taken_back() {
    let nats = Nats::configurable().await;
    let node = Node::setup().nats(&nats).start().await;
    let stable = WorkerProcess::start(&nats, "stable").await;
    let canary = WorkerProcess::start(&nats, "canary").await;
    node.api().sees_workers(2).await;
    let client = client(&nats).await;
    assert_eq!(call(&client).await, None, "without a mapping there is no such subject");
    let run = async |arguments: &[&str]| pagewire(&node, &[&["rollout"], arguments].concat()).await;
    run(&["set-weight", "default", "canary=0.5"]).await;
    let refused = run(&["export-nats-mappings", "default"]).await;
    assert!(refused.code != 0 && refused.err.contains("whole percents"), "{refused:?}");
    run(&["set-weight", "default", "canary=25"]).await;
    let exported = run(&["export-nats-mappings", "default"]).await;
    nats.reconfigure(&exported.out);
    eventually("the server has the mapping", SOON, async || call(&client).await).await;
    let before = (calls(&stable).await, calls(&canary).await);
    for _ in 0..400 {
        assert_eq!(call(&client).await, Some(json!({"value": [1]})));
    }
    let (of_stable, of_canary) = (calls(&stable).await - before.0, calls(&canary).await - before.1);
    assert_eq!(of_stable + of_canary, 400);
    // 100 are expected; the limits are more than five standard deviations away
    assert!((50..150).contains(&of_canary), "{of_canary} of 400");
    run(&["abort", "default", "--lane", "canary"]).await;
    nats.reconfigure(&run(&["export-nats-mappings", "default"]).await.out);
    eventually("the lane gets nothing", SOON, async || {
        let before = calls(&canary).await;
        for _ in 0..20 {
            call(&client).await.expect("an answer");
        }
        (calls(&canary).await == before).then_some(())
    })
    .await;
}
