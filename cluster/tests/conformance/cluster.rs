//! The clusters that the suite runs on.

use std::time::Duration;

use pagewire_cluster::engine::{Engine, Memory};
use pagewire_cluster::timing::Timing;

/// The time-outs of every engine under test.
pub(crate) const TIMING: Timing = Timing::SHORT;
/// How long a test may wait for a condition before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An empty cluster for one test.
pub(crate) enum Cluster {
    /// All processes are this one.
    Memory(Memory),
}

impl Cluster {
    /// A cluster on the embedded engine.
    pub(crate) async fn memory(_name: &str) -> Self {
        Self::Memory(Memory::with_timing(&TIMING))
    }

    /// The engine of another process of the cluster.
    pub(crate) async fn process(&self) -> Engine {
        match self {
            Self::Memory(memory) => Engine::Memory(memory.clone()),
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
