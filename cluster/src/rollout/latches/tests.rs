use std::time::Duration;

use super::*;
use crate::engine::Memory;
use crate::id::NodeNumber;
use crate::peer::PeerClient;
use crate::rollout::{LaneSpec, RolloutAudience, RolloutUpdate, RoutingKey, Weight};
use crate::wire::AbortLatch;

const SOON: Duration = Duration::from_secs(10);

/// A process with its own view of the documents.
struct Process {
    rollouts: Rollouts,
    latches: Latches,
}

impl Process {
    async fn new(engine: &Engine) -> Self {
        let (timing, subjects) = (Timing::TEST, Subjects::new("main"));
        let peers = PeerClient::new(engine, &subjects, timing.deliver);
        let rollouts = Rollouts::new(engine, peers, timing.deliver);
        let keyring = Keyring::load(engine).await.unwrap();
        let latches = Latches::new(engine, &subjects, &keyring, &rollouts, timing);
        Self { rollouts, latches }
    }

    /// Starts a node that applies documents and latches.
    async fn node(engine: &Engine, number: u16) -> Self {
        let process = Self::new(engine).await;
        tokio::spawn(process.rollouts.follow().await.unwrap());
        let holder = Holder { node: NodeNumber::new(number).unwrap(), epoch: 1 };
        let (holder, changes) = watch::channel(Some(holder));
        let following = process.latches.follow(LatchProcess::Node(changes)).await.unwrap();
        tokio::spawn(async move {
            following.await;
            drop(holder);
        });
        process
    }

    /// Starts a process of workers that applies latches and whose documents do not change any more.
    async fn workers(engine: &Engine, pid: u32) -> Self {
        let process = Self::new(engine).await;
        drop(process.rollouts.follow().await.unwrap());
        let following = process.latches.follow(LatchProcess::Workers(worker(pid))).await.unwrap();
        tokio::spawn(following);
        process
    }

    fn lane(&self) -> String {
        self.rollouts.lane_for("p", RoutingKey::User("ann"), |_| true).lane
    }

    async fn is_at(&self, lane: &str) {
        let mut changes = self.rollouts.changes();
        let arrived = changes.wait_for(|_| self.lane() == lane);
        tokio::time::timeout(SOON, arrived).await.expect("the lane changes").unwrap();
    }
}

fn worker(pid: u32) -> WorkerProcess {
    WorkerProcess { host: "a".into(), pid }
}

fn memory() -> Engine {
    Engine::Memory(Memory::new())
}

fn canary(percent: f64) -> RolloutUpdate {
    let lane = LaneSpec::new("canary", Weight::of_percent(percent).unwrap());
    RolloutUpdate { lanes: Some(vec![lane]), ..RolloutUpdate::default() }
}

fn abort() -> Abort {
    Abort {
        pool: "p".into(),
        lane: Some("canary".into()),
        revision: None,
        comment: "bad".into(),
        by: "ann".into(),
    }
}

/// Returns the message of a latch that this process has not announced.
fn sent(by: &Process, revision: u64) -> bytes::Bytes {
    let origin = by.rollouts.split("p").unwrap().document.origin.clone();
    let (pool, lane, by_name) = ("p".to_owned(), "canary".to_owned(), "ann".to_owned());
    let latch = AbortLatch { pool, lane, revision, origin, by: by_name, comment: String::new() };
    let signed = SignedLatch::new(&latch, |content| by.latches.keyring.sign(content));
    wire::encode(&LatchMessage::Hold { latches: vec![signed] })
}

#[tokio::test]
async fn an_abort_reaches_every_process_and_becomes_one_revision() {
    let engine = memory();
    let (one, two) = (Process::node(&engine, 1).await, Process::node(&engine, 2).await);
    one.rollouts.change("p", None, canary(100.0), "bob").await.unwrap();
    let workers = Process::workers(&engine, 7).await;
    for process in [&one, &two, &workers] {
        process.is_at("canary").await;
    }
    let nodes = [1, 2].map(|node| Holder { node: NodeNumber::new(node).unwrap(), epoch: 1 }).to_vec();
    let gone = (Key::random(), worker(8));
    let audience = RolloutAudience { nodes, workers: vec![(Key::random(), worker(7)), gone] };
    let mut alive = Vec::new();
    for node in &audience.nodes {
        let subject = one.latches.subjects.node_pattern(node.node, node.epoch);
        alive.push(engine.subscribe(&subject, None, INBOX_BYTES).await.unwrap());
    }
    let subject = one.latches.subjects.worker(audience.workers[0].0, ">");
    alive.push(engine.subscribe(&subject, None, INBOX_BYTES).await.unwrap());
    let outcome = one.latches.abort(abort(), &audience).await.unwrap();
    let node = |node| LatchReply::Node { node: NodeNumber::new(node).unwrap() };
    let applied: Vec<_> = outcome.applied.keys().cloned().collect();
    assert_eq!(applied, [node(1), node(2), worker(7).reply()], "and not the process that is gone");
    assert!(outcome.took().is_some());
    let Some(AbortWrite::Written(document)) = outcome.written else { panic!("it is written") };
    assert_eq!((document.rev, &*document.updated_by, &*document.comment), (2, "ann", "bad"));
    assert_eq!((workers.lane(), workers.rollouts.revision("p")), ("stable".into(), 1), "by the latch alone");
    // the document ends the latch where it arrives, and is not written again
    one.rollouts.state("p", 2).await;
    two.rollouts.state("p", 2).await;
    assert!(one.rollouts.latches().is_empty() && two.rollouts.latches().is_empty());
    tokio::time::sleep(Timing::TEST.latch_repeat * 3).await;
    assert_eq!(one.rollouts.document("p").await.unwrap().rev, 2);
}

#[tokio::test]
async fn a_latch_whose_author_is_gone_is_written_by_another_node() {
    let engine = memory();
    let one = Process::node(&engine, 1).await;
    one.rollouts.change("p", None, canary(100.0), "bob").await.unwrap();
    one.is_at("canary").await;
    let message = Message::new(one.latches.subjects.latches(), sent(&one, 1));
    engine.publish(message).await.unwrap();
    one.is_at("stable").await;
    one.rollouts.changes().wait_for(|_| one.rollouts.revision("p") == 2).await.unwrap();
    assert!(one.rollouts.latches().is_empty());
}

#[tokio::test]
async fn a_process_that_starts_has_the_latches_of_the_others_before_it_assigns_work() {
    let engine = memory();
    let first = Process::workers(&engine, 1).await;
    first.rollouts.change("p", None, canary(100.0), "bob").await.unwrap();
    let holder = Process::workers(&engine, 2).await;
    engine.publish(Message::new(holder.latches.subjects.latches(), sent(&holder, 1))).await.unwrap();
    holder.is_at("stable").await;
    assert_eq!(Process::workers(&engine, 3).await.lane(), "stable");
}

#[tokio::test]
async fn a_latch_that_is_sent_again_ends_no_later_rollout() {
    let engine = memory();
    let one = Process::node(&engine, 1).await;
    one.rollouts.change("p", None, canary(100.0), "bob").await.unwrap();
    one.is_at("canary").await;
    let recorded = sent(&one, 1);
    one.latches.abort(abort(), &RolloutAudience::default()).await.unwrap();
    one.rollouts.change("p", None, canary(100.0), "bob").await.unwrap();
    one.is_at("canary").await;
    let marker = one.latches.subjects.latch_replies(Key::random());
    let mut marks = engine.subscribe(&marker, None, INBOX_BYTES).await.unwrap();
    let again = Message::new(one.latches.subjects.latches(), recorded);
    engine.publish(again).await.unwrap();
    // the process answers in order of arrival, and an empty announcement always
    let payload = wire::encode(&LatchMessage::Hold { latches: Vec::new() });
    let empty = Message { reply: Some(marker), ..Message::new(one.latches.subjects.latches(), payload) };
    engine.publish(empty).await.unwrap();
    tokio::time::timeout(SOON, marks.next()).await.expect("an answer to the empty one");
    assert_eq!((one.lane(), one.rollouts.revision("p")), ("canary".into(), 3));
    assert!(one.rollouts.latches().is_empty());
}

#[tokio::test]
async fn a_latch_without_a_signature_of_the_cluster_is_counted_and_has_no_effect() {
    let engine = memory();
    let one = Process::node(&engine, 1).await;
    one.rollouts.change("p", None, canary(100.0), "bob").await.unwrap();
    one.is_at("canary").await;
    let stranger = Process::new(&memory()).await;
    let origin = one.rollouts.split("p").unwrap().document.origin.clone();
    let latch = AbortLatch {
        pool: "p".into(),
        lane: "canary".into(),
        revision: 9,
        origin,
        by: "eve".into(),
        comment: String::new(),
    };
    let signed = SignedLatch::new(&latch, |content| stranger.latches.keyring.sign(content));
    let payload = wire::encode(&LatchMessage::Hold { latches: vec![signed] });
    engine.publish(Message::new(one.latches.subjects.latches(), payload)).await.unwrap();
    let refused = async {
        while one.rollouts.latches_refused() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, refused).await.unwrap();
    assert_eq!(one.lane(), "canary");
}

#[tokio::test]
async fn an_abort_needs_a_lane_beside_the_base_and_the_revision_that_it_names() {
    let one = Process::node(&memory(), 1).await;
    let refused = one.latches.abort(abort(), &RolloutAudience::default()).await.unwrap_err();
    assert!(refused.to_string().contains("no lane canary"), "{refused}");
    one.rollouts.change("p", None, canary(10.0), "bob").await.unwrap();
    one.rollouts.state("p", 1).await;
    let late = Abort { revision: Some(7), ..abort() };
    let refused = one.latches.abort(late, &RolloutAudience::default()).await.unwrap_err();
    assert!(refused.to_string().contains("at revision 1, written by bob"), "{refused}");
    let long = Abort { comment: "x".repeat(1000), ..abort() };
    let refused = one.latches.abort(long, &RolloutAudience::default()).await.unwrap_err();
    assert!(refused.to_string().contains("comment"), "{refused}");
    assert!(one.rollouts.latches().is_empty());
}
