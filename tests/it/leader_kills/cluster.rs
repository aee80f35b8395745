//! A cluster with nodes that lead and are killed, and what a node shows that is not.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::environment::releases::rollout;
use crate::environment::{Events, Nats, Node, SOON, WorkerProcess, eventually};

/// What a node logs before it writes a step.
pub(super) const DECIDES: &str = "the evidence decides";

/// When the node is killed that leads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    /// Some work was compared, and more is needed.
    BeforeTheDecision,
    /// It has decided and is about to write, or is writing.
    AtTheDecision,
    /// The other nodes have just applied what it has written.
    AfterTheWrite,
    /// The evidence is there, and the step is not held long enough.
    WhileHeld,
}

impl Moment {
    pub(super) const OF_A_STEP: [Self; 3] = [Self::AtTheDecision, Self::WhileHeld, Self::AfterTheWrite];
}

/// What a node that is never killed has last shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    pub(super) document: Value,
    pub(super) analysis: Value,
}

impl Shown {
    pub(super) fn step(&self) -> u64 {
        self.document["plan"]["step"].as_u64().unwrap_or_default()
    }

    pub(super) fn has_ended(&self) -> bool {
        ["completed", "aborted"].iter().any(|state| self.document["plan"]["state"] == *state)
    }

    /// The comparison of the canary.
    pub(super) fn canary(&self) -> &Value {
        &self.analysis[0]
    }
}

/// The nodes that lead and are killed. A third one, the witness, has the highest number and is never killed.
pub(super) struct Leaders([Node; 2]);

/// A cluster with a worker of each lane.
pub(super) struct Cluster {
    pub(super) leaders: Leaders,
    pub(super) witness: Node,
    _workers: [WorkerProcess; 2],
    _nats: Nats,
}

impl Cluster {
    pub(super) async fn start(is_bad: bool) -> Self {
        let nats = Nats::start().await;
        let setup = |number: usize| {
            let name = format!("node-{number}");
            let setup = Node::setup().users().nats(&nats).set("node.number", number).set("node.name", name);
            setup.set("limits.frames_per_second", 100_000).start()
        };
        let (one, two, witness) = (setup(1).await, setup(2).await, setup(3).await);
        let canary = WorkerProcess::setup(&nats, "canary").with("--release", "2.0").with("--slots", "64");
        let canary = if is_bad { canary.failing() } else { canary };
        let stable = WorkerProcess::setup(&nats, "stable").with("--slots", "64").start().await;
        let workers = [stable, canary.start().await];
        witness.api().sees_workers(2).await;
        Self { leaders: Leaders([one, two]), witness, _workers: workers, _nats: nats }
    }
}

impl Leaders {
    /// Returns the node that leads: of the two, the first one that runs.
    pub(super) fn current(&mut self) -> &mut Node {
        let at = usize::from(!self.0[0].is_running());
        &mut self.0[at]
    }

    /// Starts those again that were killed, and waits until all nodes see each other.
    pub(super) async fn complete(&mut self, witness: &Node) {
        for node in &mut self.0 {
            if !node.is_running() {
                node.restart().await;
            }
        }
        eventually("all nodes are there", SOON, async || {
            let nodes = witness.api().get_json("/api/v1/nodes").await;
            (nodes["items"].as_array()?.len() == 3).then_some(())
        })
        .await;
    }
}

/// Writes a document without a canary, in which no user is where another rollout had them.
pub(super) async fn write_fresh(witness: &Node, number: usize) {
    let fresh = json!({"salt": format!("salt-{number}"), "lanes": [], "base": "stable"});
    let request = witness.api().request(Method::PUT, "/api/v1/rollouts/default").header("if-match", "*");
    assert_eq!(request.json(&fresh).send().await.expect("an answer").status(), StatusCode::OK);
}

/// Starts a rollout that goes on by itself.
pub(super) async fn start(witness: &Node, steps: &str) {
    let auto = ["--auto", "--hold", "2", "--margin", "20"];
    let start = [&["start", "default", "--lane", "canary", "--steps", steps], &auto[..]].concat();
    let started = rollout(witness, &start).await;
    assert_eq!(started.code, 0, "{started:?}");
}

/// Returns the revisions of the last rollout, the oldest first.
pub(super) async fn history(witness: &Node) -> Vec<Value> {
    let history = witness.api().get_json("/api/v1/rollouts/default/history").await;
    let mut items = history["items"].as_array().expect("a list").clone();
    items.reverse();
    let is_start = |item: &Value| item["plan"]["step"] == 0 && item["updated_by"] != "analysis";
    let start = items.iter().rposition(is_start).expect("a start");
    items.split_off(start)
}

/// Follows the rollout as the witness shows it, until the test ends.
pub(super) async fn follow(witness: &Node) -> watch::Receiver<Shown> {
    let (sender, shown) = watch::channel(Shown::default());
    let mut events = Events::open(&witness.api(), "/api/v1/rollouts/default/events", None).await;
    tokio::spawn(async move {
        while let Some((event, data)) = events.next().await {
            sender.send_modify(|shown| match &*event {
                "rollout" => shown.document = data,
                _ => shown.analysis = data,
            });
        }
    });
    shown
}

/// Waits until the witness shows this.
pub(super) async fn shows(shown: &mut watch::Receiver<Shown>, what: &str, check: impl Fn(&Shown) -> bool) {
    let seen = tokio::time::timeout(SOON * 2, shown.wait_for(check)).await;
    let is_seen = matches!(seen, Ok(Ok(_)));
    drop(seen);
    assert!(is_seen, "not in time: {what}: {:?}", *shown.borrow());
}

/// Waits for a moment of this step at which the leader is killed.
pub(super) async fn wait(moment: Moment, step: u64, shown: &mut watch::Receiver<Shown>, leader: &Node) {
    let decided = leader.log().matches(DECIDES).count();
    shows(shown, "the step", |shown| shown.step() >= step).await;
    match moment {
        Moment::AfterTheWrite => {}
        Moment::BeforeTheDecision => {
            let some = |shown: &Shown| shown.canary()["units"].as_u64() > Some(0);
            shows(shown, "work is compared", some).await;
        }
        Moment::WhileHeld => {
            shows(shown, "the evidence is there", |shown| shown.canary()["needs"] == 0).await;
        }
        Moment::AtTheDecision => {
            let start = Instant::now();
            // on a slow machine another node may have been faster
            while leader.log().matches(DECIDES).count() == decided && shown.borrow().step() == step {
                assert!(start.elapsed() < SOON * 2, "the leader does not decide: {:?}", *shown.borrow());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
