use std::time::Duration;

use futures_util::FutureExt;
use pagewire_cluster::engine::{Engine, Memory};
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::register::Registers;
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::{Affinity, Workers};
use pagewire_worker::demo::demo_handlers;
use pagewire_worker::handlers::{HandlerInput, HandlerOptions, HandlersBuilder};

use super::*;

fn config(file: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some.toml");
    std::fs::write(&path, file).unwrap();
    let sources = crate::config::Sources { file: Some(path), ..crate::config::Sources::default() };
    crate::config::load(&sources).unwrap()
}

#[test]
fn a_node_alone_serves_all_handlers_and_a_node_with_pools_only_these() {
    let pools = |file: &str, handlers: &Handlers| {
        let parts =
            parts(&config(file), handlers, &Handlers::default()).map_err(|error| error.to_string())?;
        let served =
            |part: PoolPart| (part.pool, part.handlers.borrow().iter().flat_map(Handlers::names).count());
        Ok::<_, String>(parts.into_iter().map(served).collect::<Vec<_>>())
    };
    let (demo, cluster) = (demo_handlers(), "nats.urls = [\"nats://a\"]\n");
    let all = demo.names().count();
    assert_eq!(pools("", &demo), Ok(vec![("default".to_owned(), all)]));
    assert_eq!(pools("", &Handlers::default()), Ok(vec![]));
    assert_eq!(pools(cluster, &demo), Ok(vec![]));
    let two = format!("{cluster}[[pool]]\nname = \"a\"\n[[pool]]\nname = \"b\"\nmethods = [\"echo\"]");
    assert_eq!(pools(&two, &demo), Ok(vec![("a".to_owned(), all), ("b".to_owned(), 1)]));
    let unknown = "[[pool]]\nname = \"a\"\nmethods = [\"ecko\"]";
    assert!(pools(unknown, &demo).unwrap_err().contains("no handler ecko"));
    assert!(pools("[[pool]]\nname = \"a\"", &Handlers::default()).unwrap_err().contains("no handlers"));
    let own = parts(&config(cluster), &Handlers::default(), &demo);
    assert_eq!(own.ok().map(|parts| parts.len()), Some(1), "the handlers of a program need a worker");
}

/// Returns what all workers of a node share, on an engine in memory.
pub(in crate::roles) fn services(
    config: Config,
    node: Option<NodeNumber>,
    tasks: &Tasks,
) -> (PoolServices, Workers) {
    let timing = Timing::TEST;
    let (engine, subjects) = (Engine::Memory(Memory::with_timing(&timing)), Subjects::new("main"));
    let workers = Workers::new(&engine, &subjects, timing);
    let peers = PeerClient::new(&engine, &subjects, timing.deliver);
    let rollouts = Rollouts::new(&engine, peers, timing.deliver);
    let services = PoolServices {
        jobs: Jobs::new(&engine, &subjects, timing, &workers),
        registers: Registers::new(&engine),
        analysis: LaneAnalysis::new(&engine, &subjects, &rollouts, timing.lane_digest),
        rollouts,
        config: Arc::new(config),
        node,
        local: LocalWorkers::default(),
        metrics: Arc::new(Metrics::new("stable", "dev")),
        callbacks: Callbacks::default(),
        applications: None,
        tasks: tasks.clone(),
    };
    (services, workers)
}

/// Waits until the living workers have these methods.
async fn methods_are(workers: &Workers, expected: &[&str]) {
    let mut changes = workers.changes();
    let all = |workers: &Workers| {
        let roster = workers.roster();
        let rows = roster.list().into_iter().filter(|(_, row)| !row.draining);
        rows.flat_map(|(_, row)| row.methods.clone()).collect::<Vec<_>>()
    };
    let arrived = async {
        while all(workers) != expected {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), arrived).await.expect("the workers change");
}

#[tokio::test]
async fn a_new_set_of_handlers_is_served_by_a_new_worker_and_the_old_one_leaves() {
    let tasks = Tasks::default();
    let (services, workers) = services(config("[[pool]]\nname = \"a\""), NodeNumber::new(3), &tasks);
    tasks.spawn("workers", TaskKind::Vital, workers.follow().await.unwrap());
    let options =
        HandlerOptions { affinity: Some(Affinity::Free), retries: Some(2), ..HandlerOptions::default() };
    let echo = |input: HandlerInput| async move { Ok(input.params) };
    let set = |name: &str| Some(HandlersBuilder::default().handler_with(name, options, echo).build());
    let (sets, handlers) = watch::channel(None);
    let slots = SlotOptions::new(2);
    let (pool, processes) = ("a".to_owned(), WorkProcesses::Itself);
    let part = PoolPart { pool, lane: None, kind: WorkerType::Free, slots, handlers, processes };
    let pools = NodePools::start(&services, vec![part], false, &Readiness::default()).await.unwrap();
    assert!(workers.roster().list().is_empty(), "a pool without handlers has no worker");
    for name in ["one", "two"] {
        sets.send_replace(set(name));
        methods_are(&workers, &[name]).await;
    }
    // the one before it may still drain
    let row = {
        let roster = workers.roster();
        roster.list().into_iter().find(|(_, row)| !row.draining).unwrap().1.clone()
    };
    assert_eq!((row.node, row.slots), (NodeNumber::new(3), 2));
    assert_eq!((row.modes["two"].as_str(), row.retries["two"]), ("any", 2), "other nodes know them");
    sets.send_replace(None);
    methods_are(&workers, &[]).await;
    pools.drain().await;
    assert_eq!(tasks.failed().now_or_never(), None);
    tasks.shutdown().await;
}
