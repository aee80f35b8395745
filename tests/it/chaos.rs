//! Repeated failures between the processes of a cluster and NATS, while pages submit jobs.
//!
//! Invariants: every accepted job ends, none is stuck or lost, and each page receives the one end of each of its jobs
//! exactly once. `python3 tests/run.py --only chaos --seed 1 --runs 200` is the long loop.

mod breaks;
mod client;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::Value;
use tokio::task::JoinSet;

use self::breaks::Breaks;
use self::client::{Client, ClientReport, World};
use crate::environment::{Nats, Node, Token, Wires, WorkerProcess};

/// Number of pages; at first half of them are at each node.
const PAGES: usize = 24;
/// Number of users; every fourth page is anonymous.
const USERS: usize = 6;

/// The parameters of a run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    breaks: usize,
    jobs: usize,
    servers: usize,
    /// The longest failure.
    longest: Duration,
    /// Use the timing of production.
    real: bool,
    /// How long the last job may take to end after the last failure.
    timeout: Duration,
}

fn rng(seed: u64, part: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&part.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_is_stuck_lost_or_told_twice_however_often_nats_breaks() {
    let longest = Duration::from_millis(700);
    let timeout = Duration::from_secs(60);
    run(Plan { seed: 1, breaks: 8, jobs: 300, servers: 1, longest, real: false, timeout }).await;
}

/// Reads a number from an environment variable.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(format!("PAGEWIRE_CHAOS_{name}"))
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: python3 tests/run.py --only chaos"]
async fn the_long_loop_of_breaks() {
    run(Plan {
        seed: number("SEED", 1),
        breaks: number("RUNS", 200) as usize,
        jobs: number("JOBS", 10_000) as usize,
        servers: number("SERVERS", 1) as usize,
        longest: Duration::from_secs(3),
        real: true,
        timeout: Duration::from_secs(180),
    })
    .await;
}

#[expect(clippy::print_stderr, reason = "the result of a long run")]
async fn run(plan: Plan) {
    let started = Instant::now();
    let mut servers = Nats::cluster(plan.servers).await;
    let addresses: Vec<SocketAddr> = servers.iter().map(Nats::address).collect();
    let mut wires = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let wire = Wires::to(&addresses).await;
        let setup = Node::setup().users().set("nats.urls", wire.urls()).set("nats.replicas", plan.servers);
        nodes.push(if plan.real { setup.real_timing() } else { setup }.start().await);
        wires.push(wire);
    }
    let mut workers = Vec::new();
    for _ in 0..2 {
        let wire = Wires::to(&addresses).await;
        let setup = WorkerProcess::setup_at(&wire.urls(), "stable").replicas(plan.servers);
        workers.push(if plan.real { setup.real_timing() } else { setup }.start().await);
        wires.push(wire);
    }
    let world = Arc::new(World::new(nodes, plan.jobs));
    let mut clients = JoinSet::new();
    for number in 0..PAGES {
        let user = (number % 4 != 3).then(|| Token::of(&format!("user-{}", number % USERS)).sign());
        let client = Client::open(world.clone(), number, user, rng(plan.seed, 100 + number as u64)).await;
        clients.spawn(client.run());
    }
    let mut breaks = Breaks::new(rng(plan.seed, 1), plan.longest);
    for _ in 0..plan.breaks {
        breaks.next(&wires, &mut servers).await;
    }
    world.calm.store(true, Ordering::Relaxed);
    let reports = await_ends(clients, &world, plan).await;
    let mut states = BTreeMap::<String, usize>::new();
    for client in &reports {
        check(&world, client, &mut states).await;
    }
    await_rest(&world, plan).await;
    let accepted: usize = reports.iter().map(|client| client.jobs.len()).sum();
    let refused: usize = reports.iter().map(|client| client.refused).sum();
    let resumed: usize = reports.iter().map(|client| client.resumed).sum();
    let resets: usize = reports.iter().map(|client| client.resets).sum();
    let longest = reports.iter().map(|client| client.longest).max().unwrap_or_default();
    eprintln!(
        "{plan:?}\n{accepted} jobs accepted, {refused} refused, each end delivered once: {states:?}; \
         {resumed} resumes, {resets} of them resets; {breaks}; the longest job took {longest:?}; {:?} in all",
        started.elapsed()
    );
}

/// Waits until no job is open: one whose submission was refused because a write had no response may exist and run later.
async fn await_rest(world: &World, plan: Plan) {
    let mut open = Value::Null;
    let none = async {
        loop {
            open = world.open_jobs().await;
            if open["items"].as_array().is_some_and(Vec::is_empty) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = tokio::time::timeout(plan.timeout, none).await;
    assert!(ended.is_ok(), "still open: {open}");
}

/// Waits until every page has received the ends of all its jobs.
async fn await_ends(mut clients: JoinSet<ClientReport>, world: &World, plan: Plan) -> Vec<ClientReport> {
    let mut reports = Vec::new();
    let all = async {
        while let Some(client) = clients.join_next().await {
            reports.push(client.expect("a client that met nothing unexpected"));
        }
    };
    // the remaining jobs are submitted, and then they end
    if tokio::time::timeout(plan.timeout * 2, all).await.is_err() {
        let open = world.open_jobs().await;
        panic!("jobs are stuck, or results are not delivered: {}; open: {open}", world.waiting());
    }
    reports
}

/// Compares the job records with the ends that the pages received.
async fn check(world: &World, client: &ClientReport, states: &mut BTreeMap<String, usize>) {
    for (id, job) in &client.jobs {
        assert_eq!(job.ends.len(), 1, "page {} received {id} ({}): {:?}", client.number, job.id, job.ends);
        *states.entry(job.ends[0].clone()).or_default() += 1;
    }
    for (id, job) in client.jobs.iter().step_by(20) {
        let record: Value = world.nodes[0].api().get_json(&format!("/api/v1/jobs/{}", job.id)).await;
        assert_eq!(record["state"], job.ends[0], "{id}: {record}");
    }
}
