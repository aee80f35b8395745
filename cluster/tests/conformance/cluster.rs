//! The clusters that the suite runs on.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{Engine, Faults, Faulty, Memory, Nats, NatsOptions};
use pagewire_cluster::timing::Timing;
use tempfile::TempDir;

use crate::server::Server;

/// The time-outs of every engine under test.
pub(crate) const TIMING: Timing = Timing::SHORT;
/// How long a test may wait for a condition before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An empty cluster for one test.
pub(crate) struct Cluster {
    /// Its name, and the root of its subjects: others share the server.
    pub(crate) name: String,
    home: Home,
}

enum Home {
    /// All processes are this one.
    Memory(Memory),
    /// The same with a directory.
    Kept { memory: Memory, _directory: TempDir },
    /// Each process has a link of its own that never breaks.
    Faultless(Memory),
    /// Each process has its own connections to one real server.
    Nats(Arc<Server>),
}

impl Cluster {
    /// A cluster on the embedded engine.
    pub(crate) async fn memory(name: &str) -> Self {
        Self { name: name.to_owned(), home: Home::Memory(Memory::with_timing(&TIMING)) }
    }

    /// A cluster on the embedded engine with a directory.
    pub(crate) async fn kept(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (memory, _) = Memory::open(directory.path(), &TIMING).await.expect("opens");
        Self { name: name.to_owned(), home: Home::Kept { memory, _directory: directory } }
    }

    /// A cluster on the faulty engine, without faults.
    pub(crate) async fn faultless(name: &str) -> Self {
        Self { name: name.to_owned(), home: Home::Faultless(Memory::with_timing(&TIMING)) }
    }

    /// A cluster on one real nats-server.
    pub(crate) async fn nats(name: &str) -> Self {
        let server = tokio::task::spawn_blocking(Server::shared).await.expect("the server starts");
        Self { name: name.to_owned(), home: Home::Nats(server) }
    }

    /// The engine of another process of the cluster.
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

/// Users as nobody would choose them, but somebody will.
pub(crate) fn awkward_identities() -> Vec<String> {
    let mut identities: Vec<_> =
        ["*", ">", "a.b", "..", ".", "a", "b", "_", "_2A", "", " ", "A", "a|b", "a\0b"]
            .map(str::to_owned)
            .to_vec();
    identities.push("🦀".repeat(64));
    identities.push("🦀".repeat(63) + "🐙");
    identities
}

/// Asks until the answer is yes.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(15), asking).await.is_ok(), "never happened: {what}");
}
