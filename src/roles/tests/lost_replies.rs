//! Pages while the engine loses answers: a row is written, its answer is lost, and so are the reads that would say so.

use std::time::Duration;

use pagewire_cluster::engine::{Bucket, Engine, Faults, Faulty, Memory};
use pagewire_cluster::registry::PageRow;
use pagewire_cluster::subject::page_key;

use super::*;

const SEEDS: u64 = 12;
const STEPS: u64 = 40;
/// How often a client comes back until it must have its page.
const MAX_RESUMES: usize = 60;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (bits ^ (bits >> 31)) % end
    }
}

/// A page, and what its client knows.
struct Client {
    seed: u64,
    user: Option<&'static str>,
    opened: Opened,
    registered: Value,
    seq: u64,
    seen: Vec<u64>,
}

impl Client {
    async fn open(node: &Node, seed: u64) -> Self {
        for _ in 0..MAX_RESUMES {
            match open(node, Hello::default(), None).await {
                Ok(opened) => {
                    let registered = frames(&opened).remove(0);
                    return Self { seed, user: None, opened, registered, seq: 0, seen: Vec::new() };
                }
                Err(code) => assert_eq!(code, CloseCode::Overloaded, "seed {seed}"),
            }
        }
        panic!("seed {seed}: no page")
    }

    fn read(&mut self) {
        for frame in frames(&self.opened) {
            let Some(seq) = frame["seq"].as_u64().filter(|_| frame["type"] != "registered") else { continue };
            assert_eq!(seq, self.seq + 1, "seed {}: {frame}", self.seed);
            self.seq = seq;
            self.seen.extend(frame["payload"].as_u64());
        }
        self.opened.page.acknowledge(self.opened.ticket, self.seq);
    }

    /// Until it has its page again, at one node.
    async fn resume_page(&mut self, node: &Node) {
        for _ in 0..MAX_RESUMES {
            match open(node, resume(&self.registered, self.seq), self.user).await {
                Ok(opened) => {
                    assert_eq!(opened.recovered, ResumeOutcome::Recovered, "seed {}", self.seed);
                    self.opened = opened;
                    let page = &self.opened.page;
                    let mut registered = None;
                    page.take(self.opened.ticket, 1, &mut |head, tail| {
                        registered = Some(serde_json::from_slice(&[head, tail.bytes()].concat()).unwrap());
                    });
                    self.registered = registered.unwrap();
                    self.read();
                    return;
                }
                Err(CloseCode::Overloaded | CloseCode::HeldElsewhere) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(code) => panic!("seed {}: {code:?}", self.seed),
            }
        }
        panic!("seed {}: the page cannot come back to a living node", self.seed);
    }
}

/// The rows of pages, and which of them are of a user.
async fn rows(memory: &Memory) -> Vec<PageRow> {
    let rows = Engine::Memory(memory.new_process_handle()).kv(Bucket::Pages);
    let rows = rows.list(page_key::PAGES).await.unwrap();
    rows.iter().filter_map(|row| PageRow::decode(&row.meta)).collect()
}

async fn play(seed: u64) -> Memory {
    let memory = Memory::new();
    let faults = Faults { blind: Some((Bucket::Pages, 300)), ..Faults::default() };
    let mut config = config();
    config.lifetime.resume_ms = 1500;
    let start = |number| {
        let engine = Faulty::new(memory.new_process_handle(), seed * 2 + number, faults);
        Node::start_on(Engine::Faulty(engine), config.clone(), Timing::TEST)
    };
    let nodes = [start(0).await.unwrap(), start(1).await.unwrap()];
    for node in &nodes {
        node.ready.wait().await;
    }
    while nodes.iter().any(|node| node.registry.view().nodes().len() < 2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut rng = Rng(seed);
    let mut at = 0;
    let mut client = Client::open(&nodes[0], seed).await;
    let mut sent = Vec::new();
    for step in 0..STEPS {
        match rng.below(8) {
            0 | 1 => {
                // a socket that breaks, known or not
                if rng.below(2) == 0 {
                    nodes[at].context.pages.closer.detach(&client.opened.page, client.opened.ticket);
                }
                client.resume_page(&nodes[at]).await;
            }
            2 => {
                at = 1 - at;
                client.resume_page(&nodes[at]).await;
            }
            3 if client.user.is_none() => {
                let connection = client.opened.page.connection().key;
                // it may be refused while the engine is away, and then it is repeated
                let mut attempts = 0;
                while nodes[at].context.pages.login.identify(connection, &Arc::from("ann")).await.is_err() {
                    attempts += 1;
                    assert!(attempts < MAX_RESUMES, "seed {seed}: no login");
                }
                assert_eq!(client.opened.page.user().as_deref(), Some("ann"), "seed {seed}");
                client.user = Some("ann");
            }
            4 => {
                // it may be refused, and is then repeated
                let topic = format!("t{}", rng.below(3));
                let mut attempts = 0;
                while nodes[at].context.pages.topics.subscribe(&client.opened.page, &topic).await.is_err() {
                    attempts += 1;
                    assert!(attempts < MAX_RESUMES, "seed {seed}: no topic");
                }
            }
            5 => {
                // a page that is not resumed
                let other = Client::open(&nodes[at], seed).await;
                let _ = nodes[at].context.pages.topics.subscribe(&other.opened.page, "left").await;
                nodes[at].context.pages.closer.detach(&other.opened.page, other.opened.ticket);
            }
            6 if rng.below(4) == 0 => {
                // as after a time without a lease
                let holder = nodes[at].lease.holder().unwrap();
                nodes[at].context.pages.rewriter.rewrite_rows(holder, holder).await;
                assert!(client.opened.page.is_owned(), "seed {seed}: the page is taken for another node's");
            }
            _ => {
                let page =
                    Address { key: client.opened.page.key(), node: nodes[at].lease.holder().unwrap().node };
                assert_eq!(push(&nodes[at], Scope::Page(page), step as u32).await, (1, 0), "seed {seed}");
                sent.push(step);
                if rng.below(2) == 0 {
                    client.read();
                }
            }
        }
    }
    client.resume_page(&nodes[at]).await;
    assert_eq!(client.seen, sent, "seed {seed}");
    let key = client.opened.page.key();
    // the engine loses answers to reads too
    let row = loop {
        if let Ok(row) = nodes[at].registry.row(key).await {
            break row;
        }
    };
    let row = row.map(|(row, _)| (row.node, row.user));
    assert_eq!(
        row,
        Some((nodes[at].lease.holder().unwrap().node, client.user.map(str::to_owned))),
        "seed {seed}"
    );
    // no page is resumed any more: in the end no row without a page is left
    let _ = nodes[at].context.pages.topics.subscribe(&client.opened.page, "left").await;
    nodes[at].context.pages.closer.detach(&client.opened.page, client.opened.ticket);
    let closed = async {
        while !rows(&memory).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), closed).await;
    assert!(ended.is_ok(), "seed {seed}: rows without pages stay: {:?}", rows(&memory).await);
    memory
}

#[tokio::test]
async fn a_page_comes_back_whatever_answers_the_engine_loses() {
    let first = std::env::var("PAGEWIRE_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    futures_util::future::join_all((first..first + SEEDS).map(play)).await;
}
