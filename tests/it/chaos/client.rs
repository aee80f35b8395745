//! A page that submits jobs while failures happen, and counts the frames that it receives about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proptest::prelude::RngExt;
use proptest::test_runner::TestRng;
use serde_json::{Value, json};

use crate::environment::{Away, Node, Page};

/// The most jobs that a page waits for.
const OPEN: usize = 8;
/// The interval between two attempts to submit a job.
const TURN: Duration = Duration::from_millis(100);
/// The interval between two pings.
const PING: Duration = Duration::from_secs(3);

/// The state that all clients share.
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    /// Number of jobs still to submit.
    left: AtomicUsize,
    /// Set when failures have ended.
    pub(super) calm: AtomicBool,
    waiting: Mutex<BTreeMap<usize, Vec<String>>>,
}

impl World {
    pub(super) fn new(nodes: Vec<Node>, jobs: usize) -> Self {
        Self { nodes, left: AtomicUsize::new(jobs), calm: AtomicBool::new(false), waiting: Mutex::default() }
    }

    /// Returns the page of jobs that have not ended.
    pub(super) async fn open_jobs(&self) -> Value {
        self.nodes[0].api().get_json("/api/v1/jobs?state=scheduled,queued,running&limit=100").await
    }

    /// Describes the jobs that each page waits for.
    pub(super) fn waiting(&self) -> String {
        format!("{:?}", self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn is_done(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0 && self.calm.load(Ordering::Relaxed)
    }
}

/// An accepted job.
#[derive(Debug, Default)]
pub(super) struct Job {
    pub(super) id: String,
    /// The ends that the page has received.
    pub(super) ends: Vec<String>,
}

/// The results of a page at the end of the test.
pub(super) struct ClientReport {
    pub(super) number: usize,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) refused: usize,
    pub(super) resumed: usize,
    pub(super) resets: usize,
    pub(super) longest: Duration,
}

pub(super) struct Client {
    world: Arc<World>,
    user: Option<String>,
    rng: TestRng,
    page: Page,
    report: ClientReport,
    next: usize,
    /// Job frames since the numbering began, to resend those that the server has not processed.
    sent: Vec<Value>,
    /// Submitted, and neither accepted nor rejected.
    requested: BTreeMap<String, Instant>,
    /// Accepted, and not ended.
    open: BTreeMap<String, Instant>,
    refused: BTreeSet<String>,
}

impl Client {
    pub(super) async fn open(world: Arc<World>, number: usize, user: Option<String>, rng: TestRng) -> Self {
        let node = &world.nodes[number % world.nodes.len()];
        let opening = Page::opening(node);
        let page = match &user {
            Some(token) => opening.token(token).open().await,
            None => opening.open().await,
        };
        let (jobs, longest) = (BTreeMap::new(), Duration::ZERO);
        let report = ClientReport { number, jobs, refused: 0, resumed: 0, resets: 0, longest };
        let (sent, requested, open, refused) = Default::default();
        Self { world, user, rng, page, report, next: 0, sent, requested, open, refused }
    }

    /// Runs until all jobs are submitted and have ended; then for a moment more, to catch frames that arrive twice.
    pub(super) async fn run(mut self) -> ClientReport {
        let mut turn = tokio::time::interval(TURN);
        let mut ping = tokio::time::interval(PING);
        let mut quiet = 0;
        while quiet < 50 {
            tokio::select! {
                frame = self.page.next_or_end() => match frame {
                    Ok(frame) => self.handle(&frame).await,
                    Err(_) => self = self.come_back().await,
                },
                _ = ping.tick() => self.page.send(json!({"type": "ping"})).await,
                _ = turn.tick() => {
                    if self.rng.random_range(0..400) == 0 && self.requested.is_empty() {
                        self = self.come_back().await;
                    }
                    let waits = self.submit().await;
                    quiet = if waits || !self.world.is_done() { 0 } else { quiet + 1 };
                }
            }
        }
        self.report
    }

    /// Submits a job from time to time. Returns whether the page waits for anything.
    async fn submit(&mut self) -> bool {
        let busy = self.requested.len() + self.open.len();
        if busy < OPEN && self.rng.random_range(0..8) == 0 && self.world.take() {
            let id = format!("{}-{}", self.report.number, self.next);
            self.next += 1;
            let mode =
                if self.user.is_some() && self.rng.random_range(0..2) == 0 { "assigned" } else { "any" };
            let (kind, data) = match self.rng.random_range(0..10) {
                0..5 => ("sum", json!([40, 2])),
                5..9 => ("sleep", json!({"ms": self.rng.random_range(10..600)})),
                _ => ("fail", json!("as requested")),
            };
            let frame = json!({"type": "job", "id": id, "kind": kind, "data": data, "exec_mode": mode});
            self.requested.insert(id, Instant::now());
            self.sent.push(frame.clone());
            self.page.send(frame).await;
        }
        let waiting = self.requested.keys().chain(self.open.keys()).cloned().collect();
        let mut all = self.world.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(self.report.number, waiting);
        !self.requested.is_empty() || !self.open.is_empty()
    }

    async fn handle(&mut self, frame: &Value) {
        if self.page.seen.is_multiple_of(32) {
            self.page.ack().await;
        }
        let Some(id) = frame["id"].as_str().map(str::to_owned) else { return };
        match frame["type"].as_str() {
            Some("accepted") => self.accepted(id, frame),
            Some("result") => {
                let now = Instant::now();
                let since = self.open.remove(&id).or_else(|| self.requested.remove(&id)).unwrap_or(now);
                self.report.longest = self.report.longest.max(now - since);
                assert!(!self.refused.contains(&id), "refused and delivered: {frame}");
                let job = self.report.jobs.entry(id).or_default();
                job.id = frame["job"].as_str().expect("a job").to_owned();
                job.ends.push(frame["state"].as_str().expect("a state").to_owned());
                assert_eq!(job.ends.len(), 1, "page {} received it twice: {frame}", self.report.number);
            }
            // the frame was sent again, and its own reply follows
            Some("error") if frame["code"] == "uncertain" && self.page.recovered() == "recovered" => {}
            Some("error") => {
                assert!(!self.open.contains_key(&id), "accepted and refused: {frame}");
                self.requested.remove(&id);
                self.refused.insert(id);
                self.report.refused += 1;
                // submit another job in its place
                self.world.left.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn accepted(&mut self, id: String, frame: &Value) {
        let job = self.report.jobs.entry(id.clone()).or_default();
        job.id = frame["job"].as_str().expect("a job").to_owned();
        assert!(job.ends.is_empty(), "accepted after its end: {frame}");
        let since = self.requested.remove(&id).or_else(|| self.open.remove(&id)).unwrap_or_else(Instant::now);
        self.open.insert(id, since);
    }

    /// Drops the socket and resumes, at the same node or at the other one.
    async fn come_back(self) -> Self {
        let Self { world, user, mut rng, page, mut report, next, mut sent, mut requested, open, refused } =
            self;
        let away = page.lose_socket();
        let page = loop {
            let node = &world.nodes[rng.random_range(0..world.nodes.len())];
            if let Some(page) = resume(&away, node, user.as_deref(), &requested, &open).await {
                break page;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        report.resumed += 1;
        let mut this = Self {
            world,
            user,
            rng,
            page,
            report,
            next,
            sent: Vec::new(),
            requested: BTreeMap::new(),
            open,
            refused,
        };
        if this.page.recovered() == "recovered" {
            let received = this.page.registered["received"].as_u64().expect("a count") as usize;
            for frame in &sent[received.min(sent.len())..] {
                this.page.send(frame.clone()).await;
            }
            std::mem::swap(&mut this.sent, &mut sent);
        } else {
            this.report.resets += 1;
        }
        std::mem::swap(&mut this.requested, &mut requested);
        this
    }
}

/// Resumes with the names of the jobs that it waits for; after `recovered` only with accepted jobs, because the others
/// are sent again.
async fn resume(
    away: &Away,
    node: &Node,
    user: Option<&str>,
    requested: &BTreeMap<String, Instant>,
    open: &BTreeMap<String, Instant>,
) -> Option<Page> {
    let pending: Vec<&String> = open.keys().chain(requested.keys()).collect();
    let opening = away.resuming(node).with("pending", json!(pending));
    let opening = match user {
        Some(token) => opening.token(token),
        None => opening,
    };
    opening.try_open().await.ok()
}
