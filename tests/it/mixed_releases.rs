//! Two releases of an application side by side, with handlers of their own, while the users go from one to the other under load.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use pagewire_cluster::engine::{Bucket, Consistency, Engine, NatsOptions, Precondition, Put};
use pagewire_cluster::timing::Timing;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::environment::python::PACKAGE;
use crate::environment::releases::rollout;
use crate::environment::{MovingPage, Nats, Node, SOON, Token, WorkerProcess, eventually};

const PAGES: usize = 12;
/// Calls and jobs of a page that have not ended, at most, so that the slots of the workers are enough for all pages.
const OPEN: u64 = 4;

/// The handlers of a release. The second one has more of them, and other results.
fn handlers(release: u32) -> String {
    let more = match release {
        1 => "",
        _ => "@app.handler\ndef discount(ctx: Context) -> int:\n    return 5\n",
    };
    format!(
        "import time\nfrom pagewire import App, Context\napp = App()\n\
         @app.handler\ndef price(ctx: Context, number: int) -> dict:\n    return {{'release': {release}, 'number': number}}\n\
         @app.handler\ndef order(ctx: Context, number: int) -> dict:\n    time.sleep(0.02)\n    \
         return {{'release': {release}, 'ordered': number}}\n{more}"
    )
}

async fn worker(nats: &Nats, folder: &Path, lane: &str, release: u32) -> WorkerProcess {
    let own = folder.join(release.to_string());
    std::fs::create_dir_all(&own).expect("a folder");
    std::fs::write(own.join("shop.py"), handlers(release)).expect("a file");
    let worker = WorkerProcess::running(nats, lane, &["python3", "-m", "pagewire", "shop:app"]);
    let worker = worker.variable("PYTHONPATH", &format!("{PACKAGE}:{}", own.display()));
    worker
        .with("--release", &format!("{release}.0"))
        .with("--children", "2")
        .with("--slots", "32")
        .start()
        .await
}

async fn node(nats: &Nats, lane: &str, release: &str) -> Node {
    let setup = Node::setup().nats(nats).users().set("welcome", false).set("node.lane", lane);
    setup.set("node.release", release).set("limits.frames_per_second", 1000).start().await
}

async fn run(node: &Node, arguments: &[&str]) {
    let output = rollout(node, arguments).await;
    assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
}

/// What has become of the calls and jobs of a page.
#[derive(Debug, Default)]
struct Ends {
    asked: u64,
    accepted: u64,
    /// The releases that have answered, by the number of the frame.
    releases: BTreeMap<u64, u64>,
    calls: Vec<u64>,
}

impl Ends {
    fn is_job(number: u64) -> bool {
        number.is_multiple_of(4)
    }

    /// The next frame of the page.
    fn ask(&mut self) -> Value {
        self.asked += 1;
        let number = self.asked;
        match Self::is_job(number) {
            true => json!({"type": "job", "kind": "order", "id": number, "data": {"number": number}}),
            false => json!({"type": "call", "method": "price", "id": number, "params": [number]}),
        }
    }

    /// Adds a frame from the server: an end of a call or job that had none so far, which is a success.
    fn add(&mut self, frame: &Value) {
        let number = frame["id"].as_u64().unwrap_or_else(|| panic!("{frame}"));
        if frame["type"] == "accepted" {
            self.accepted += 1;
            return;
        }
        assert_eq!(frame["type"], "result", "{frame}");
        let shown = if Self::is_job(number) { "ordered" } else { "number" };
        assert_eq!(frame["value"][shown], number, "{frame}");
        let release = frame["value"]["release"].as_u64().expect("a release");
        assert_eq!(self.releases.insert(number, release), None, "a second end: {frame}");
        if !Self::is_job(number) {
            self.calls.push(release);
        }
    }

    fn open(&self) -> u64 {
        self.asked - self.releases.len() as u64
    }

    fn are_complete(&self) -> bool {
        self.open() == 0 && self.accepted == self.asked / 4
    }
}

/// Calls and submits jobs as a page until `stop`, and until everything has ended.
async fn use_page(mut page: MovingPage, mut stop: watch::Receiver<bool>) -> (MovingPage, Ends) {
    let mut ends = Ends::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(40));
    while !*stop.borrow_and_update() || !ends.are_complete() {
        tokio::select! {
            frame = page.next() => {
                let frame = frame.unwrap_or_else(|closed| panic!("{} was closed: {closed:?}", page.id()));
                ends.add(&frame);
            }
            _ = ticks.tick(), if !*stop.borrow() && ends.open() < OPEN => page.send(ends.ask()).await,
        }
    }
    (page, ends)
}

/// A document that a newer release has written, which needs what the processes of this one do not know.
struct NewerDocument {
    client: Engine,
    readable: Value,
}

impl NewerDocument {
    const KEY: &str = "rollout.default";

    async fn write(nats: &Nats) -> Self {
        let options = NatsOptions {
            urls: vec![nats.url()],
            replicas: 1,
            cluster: "main".to_owned(),
            client_name: "a newer release".to_owned(),
            timing: Timing::TEST,
        };
        let client = pagewire_cluster::engine::Nats::connect(options).await.expect("a connection");
        let this = Self { client: Engine::Nats(client), readable: Value::Null };
        let mut document = this.read().await;
        let readable = document.clone();
        // a reader that ignored the need would give everybody to the base
        document["needs"] = json!(["teleportation"]);
        document["lanes"] = json!([]);
        this.put(document).await;
        Self { readable, ..this }
    }

    async fn read(&self) -> Value {
        let kv = self.client.kv(Bucket::Config);
        let entry = kv.get(Self::KEY, Consistency::Latest).await.expect("an answer").expect("a document");
        serde_json::from_slice(&entry.value).expect("JSON")
    }

    /// Writes a document as the next revision.
    async fn put(&self, mut document: Value) {
        let revision = self.read().await["rev"].as_u64().expect("a revision");
        document["rev"] = json!(revision + 1);
        let put = Put::new(Self::KEY, document.to_string(), Precondition::Any);
        self.client.kv(Bucket::Config).put(put).await.expect("written");
    }

    /// Writes the document before it again.
    async fn replace(self) {
        self.put(self.readable.clone()).await;
    }
}

async fn revision(node: &Node) -> u64 {
    let status = node.api().get_json("/api/v1/rollouts/default/explain?user=ann").await;
    status["revision"].as_u64().expect("a revision")
}

/// Writes a document that no process knows how to apply, looks at what each of them does, and replaces it.
async fn meet_a_newer_document(nats: &Nats, nodes: &[&Node]) {
    let before = revision(nodes[0]).await;
    let newer = NewerDocument::write(nats).await;
    for node in nodes {
        let refuses = || node.log().contains("rollout of an unknown shape not applied");
        eventually("the node has seen it", SOON, async || refuses().then_some(())).await;
        assert_eq!(revision(node).await, before, "it keeps what it had");
        let refused = rollout(node, &["set-weight", "default", "next=1"]).await;
        assert!(refused.code == 1 && refused.err.contains("a newer release has written"), "{refused:?}");
        let shown = rollout(node, &["status", "default"]).await;
        assert!(shown.err.contains("which this node has applied"), "{shown:?}");
    }
    newer.replace().await;
    for node in nodes {
        let applied = async || (revision(node).await == before + 2).then_some(());
        eventually("the node goes on with a document that it knows", SOON, applied).await;
    }
}

#[tokio::test]
async fn users_go_from_a_release_to_the_next_one_under_load_and_the_first_one_drains_without_a_lost_frame() {
    let (nats, folder) = (Nats::start().await, tempfile::tempdir().expect("a folder"));
    let (mut blue, mut old_blue) = (node(&nats, "blue", "1.0").await, node(&nats, "blue", "1.0").await);
    let (mut one, mut two) =
        (worker(&nats, folder.path(), "stable", 1).await, worker(&nats, folder.path(), "stable", 1).await);
    blue.api().sees_workers(2).await;
    run(&blue, &["set-weight", "default", "next=0"]).await;
    let edge = blue.api().request(Method::PUT, "/api/v1/rollouts/edge").header("if-match", "*");
    let edge = edge.json(&json!({"base": "blue"})).send().await.expect("an answer");
    assert_eq!(edge.status(), StatusCode::OK);
    let mut pages = Vec::new();
    for number in 0..PAGES {
        let (arrives, token) =
            (if number % 2 == 0 { &blue } else { &old_blue }, Token::of(&format!("user-{number}")).sign());
        pages.push(MovingPage::open(arrives, Some(&token)).await);
    }
    let (stopping, stop) = watch::channel(false);
    let load = join_all(pages.into_iter().map(|page| use_page(page, stop.clone())));
    let upgrade = async {
        let green = node(&nats, "green", "2.0").await;
        let new =
            [worker(&nats, folder.path(), "next", 2).await, worker(&nats, folder.path(), "next", 2).await];
        for node in [&blue, &old_blue, &green] {
            node.api().sees_workers(4).await;
        }
        run(&green, &["start", "default", "--lane", "next", "--steps", "30,60,100"]).await;
        run(&blue, &["set-weight", "edge", "green=50"]).await;
        meet_a_newer_document(&nats, &[&blue, &old_blue, &green]).await;
        run(&old_blue, &["promote", "default"]).await;
        run(&blue, &["promote", "default"]).await;
        run(&green, &["switch", "default", "next"]).await;
        run(&green, &["switch", "edge", "green"]).await;
        for worker in [&mut one, &mut two] {
            worker.terminate();
            assert!(worker.exit(SOON).await.success());
        }
        for node in [&mut blue, &mut old_blue] {
            node.terminate();
            assert!(node.exit(SOON).await.success());
        }
        stopping.send_replace(true);
        (green, new)
    };
    let (ended, (green, _new)) = tokio::join!(load, upgrade);
    for (page, ends) in &ended {
        assert!(ends.calls.is_sorted(), "a page that went back: {:?}", ends.calls);
        assert_eq!((ends.calls.first(), ends.calls.last()), (Some(&1), Some(&2)));
        assert_eq!(page.lane(), "green");
        assert!(page.recovered.iter().all(|outcome| outcome == "recovered"), "{:?}", page.recovered);
    }
    let discount = json!({"method": "discount", "params": []});
    let answer = green.api().request(Method::POST, "/api/v1/calls").json(&discount).send().await;
    assert_eq!(
        answer.expect("an answer").status(),
        StatusCode::OK,
        "a handler that only the next release has"
    );
}
