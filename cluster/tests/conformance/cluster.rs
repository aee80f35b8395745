//! The clusters on which the suite runs.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{Engine, Faults, Faulty, Memory, Nats, NatsOptions};
use pagewire_cluster::timing::Timing;
use tempfile::TempDir;

use crate::server::Server;

/// The time-outs of every engine under test.
pub(crate) const TIMING: Timing = Timing::TEST;
/// The time that a test may wait for a condition before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An empty cluster for one test.
pub(crate) struct Cluster {
    /// The name of the cluster and the root of its subjects, unique because other tests share the server.
    pub(crate) name: String,
    home: Home,
}

enum Home {
    /// All processes share this engine.
    Memory(Memory),
    /// All processes share this engine, which has a directory.
    Kept { memory: Memory, _directory: TempDir },
    /// Each process has its own link, which never fails.
    Faultless(Memory),
    /// Each process has its own connections to one real server.
    Nats(Arc<Server>),
}

impl Cluster {
    /// Creates a cluster on the embedded engine.
    pub(crate) async fn memory(name: &str) -> Self {
        Self { name: name.to_owned(), home: Home::Memory(Memory::with_timing(&TIMING)) }
    }

    /// Creates a cluster on the embedded engine with a directory.
    pub(crate) async fn kept(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (memory, _) = Memory::open(directory.path(), &TIMING).await.expect("opens");
        Self { name: name.to_owned(), home: Home::Kept { memory, _directory: directory } }
    }

    /// Creates a cluster on the faulty engine, without faults.
    pub(crate) async fn faultless(name: &str) -> Self {
        Self { name: name.to_owned(), home: Home::Faultless(Memory::with_timing(&TIMING)) }
    }

    /// Creates a cluster on one real nats-server.
    pub(crate) async fn nats(name: &str) -> Self {
        let server = tokio::task::spawn_blocking(Server::shared).await.expect("the server starts");
        Self { name: name.to_owned(), home: Home::Nats(server) }
    }

    /// Returns the engine of another process of the cluster.
    pub(crate) async fn process(&self) -> Engine {
        match &self.home {
            Home::Memory(memory) | Home::Kept { memory, .. } => Engine::Memory(memory.clone()),
            Home::Faultless(memory) => Engine::Faulty(Faulty::new(memory.clone(), 0, Faults::default())),
            Home::Nats(server) => {
                let options = NatsOptions {
                    urls: vec![server.url.clone()],
                    replicas: 1,
                    cluster: self.name.clone(),
                    client_name: self.name.clone(),
                    timing: TIMING,
                };
                Engine::Nats(Nats::connect(options).await.expect("connects"))
            }
        }
    }
}

/// Returns unusual but legal user identities.
pub(crate) fn awkward_identities() -> Vec<String> {
    let mut identities: Vec<_> =
        ["*", ">", "a.b", "..", ".", "a", "b", "_", "_2A", "", " ", "A", "a|b", "a\0b"]
            .map(str::to_owned)
            .to_vec();
    identities.push("🦀".repeat(64));
    identities.push("🦀".repeat(63) + "🐙");
    identities
}

/// Polls a condition until it holds. Fails the test after 15 s.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(15), asking).await.is_ok(), "never happened: {what}");
}
