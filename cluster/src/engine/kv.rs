//! Types of the Kv, and the handle on one bucket.
//!
//! Owns: entries, expectations, outcomes, watch events. Never: how a bucket is stored.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Down, Engine, dispatch};

/// The largest value, in bytes.
pub const MAX_VALUE: usize = 512 * 1024;
/// The largest meta, in bytes.
pub const MAX_META: usize = 4 * 1024;
/// The most steps of one commit.
pub const MAX_COMMIT: usize = 500;
/// The most watches of one process: a watch per user is a design fault.
pub const MAX_WATCHES: usize = 8;

/// The buckets of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Leases of node numbers and of workers.
    Nodes,
    /// One row per page.
    Pages,
    /// Facts of the cluster: the key ring.
    Cluster,
    /// What operators decide while the cluster runs: rollouts.
    Config,
    /// Records of jobs, and what belongs to them.
    Jobs,
    /// State trees.
    State,
}

impl Bucket {
    /// All of them, in the order in which they are created.
    pub const ALL: [Self; 6] =
        [Self::Nodes, Self::Pages, Self::Cluster, Self::Config, Self::Jobs, Self::State];

    /// Its name, lower case letters only.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pages => "pages",
            Self::Cluster => "cluster",
            Self::Config => "config",
            Self::Jobs => "jobs",
            Self::State => "state",
        }
    }
}

/// The writer's id of one write: after [`WriteError::Unknown`] it tells whose write is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Op(pub [u8; 16]);

impl Op {
    /// A fresh one. Deterministic engines take their own.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The bucket's revision at which it was written: grows, is never reused, is not consecutive.
    pub rev: u64,
    /// Who wrote it.
    pub op: Op,
    /// At most [`MAX_META`] bytes; all that a meta watch carries.
    pub meta: Bytes,
    /// At most [`MAX_VALUE`] bytes; empty in a meta watch.
    pub value: Bytes,
}

/// What must stand under a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Nothing: never written, deleted or expired.
    Absent,
    /// This revision.
    Rev(u64),
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every acknowledged write.
    Latest,
    /// May be a little old, is cheaper.
    Any,
}

/// One write.
#[derive(Debug, Clone)]
pub struct Put {
    /// Characters of `[-/_=.a-zA-Z0-9]`, not starting or ending with a dot.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// What watches see.
    pub meta: Bytes,
    /// The condition.
    pub expect: Expect,
    /// Whole seconds ≥ 1 from this put; without it the key is permanent.
    pub ttl: Option<Duration>,
    /// Who writes.
    pub op: Op,
}

impl Put {
    /// A permanent value without meta, with a fresh operation id.
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>, expect: Expect) -> Self {
        Self { key: key.into(), value: value.into(), meta: Bytes::new(), expect, ttl: None, op: Op::random() }
    }
}

/// One step of a commit.
#[derive(Debug, Clone)]
pub enum Batch {
    /// Write.
    Put(Put),
    /// Delete.
    Delete {
        /// The key.
        key: String,
        /// The condition.
        expect: Expect,
    },
    /// The key must be at this revision; nothing is written to it.
    Check {
        /// The key.
        key: String,
        /// Its revision.
        rev: u64,
    },
}

/// Why a write is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The expectation does not hold; nothing was written.
    #[error("another writer was first")]
    Conflict {
        /// The revision that stands there, where the engine told it; `None` for absent or not told.
        actual: Option<u64>,
    },
    /// No acknowledgement: it may have been written, now or a moment later. See [`Kv::settle`].
    #[error("the outcome of the write is unknown")]
    Unknown,
    /// Not connected: nothing was sent.
    #[error("the cluster's engine is unavailable")]
    Down,
    /// Over [`MAX_VALUE`], [`MAX_META`] or [`MAX_COMMIT`], an illegal key or TTL; nothing was written.
    #[error("the write breaks a limit of the engine")]
    Invalid,
}

/// What [`Kv::settle`] found after an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The write is there.
    Written {
        /// At this revision.
        rev: u64,
    },
    /// Something else is there, or nothing. A conditional write can be repeated with the same expectation.
    Other {
        /// What is there.
        entry: Option<Entry>,
    },
}

/// What a watch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// Entries without values.
    Meta,
    /// Whole entries.
    Value,
}

/// What a watch yields: the entries that stand, `Live`, then changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Stands there or was written.
    Put(Entry),
    /// Is absent now.
    Delete {
        /// The key.
        key: String,
        /// By its TTL; `None` when the engine cannot tell (seen by difference after a reconnect).
        expired: Option<bool>,
    },
    /// Everything that stood at the start has been yielded. Once per watch.
    Live,
}

/// A running watch; dropping it ends it.
pub struct Watch {
    pub(super) events: mpsc::UnboundedReceiver<WatchEvent>,
}

/// The engine's end of a [`Watch`].
pub type Watcher = mpsc::UnboundedSender<WatchEvent>;

impl Watch {
    /// The next event; `None` when the engine is gone.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }

    /// An event that is already here.
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        self.events.try_recv().ok()
    }
}

/// The handle on one bucket.
#[derive(Clone)]
pub struct Kv {
    engine: Engine,
    bucket: Bucket,
}

impl Kv {
    pub(super) fn new(engine: Engine, bucket: Bucket) -> Self {
        Self { engine, bucket }
    }

    /// What stands under a key.
    pub async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<Entry>, Down> {
        dispatch!(&self.engine, e => e.get(self.bucket, key, consistency).await)
    }

    /// All entries whose keys start with the prefix (whole tokens: it is empty or ends with a dot), complete at
    /// any size, in key order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Down> {
        dispatch!(&self.engine, e => e.list(self.bucket, prefix).await)
    }

    /// The first `limit` entries below the prefix written after a revision, in revision order.
    pub async fn scan(&self, prefix: &str, after_rev: u64, limit: usize) -> Result<Vec<Entry>, Down> {
        dispatch!(&self.engine, e => e.scan(self.bucket, prefix, after_rev, limit).await)
    }

    /// Writes; the new revision.
    pub async fn put(&self, put: Put) -> Result<u64, WriteError> {
        match &self.engine {
            Engine::Memory(e) => e.put(self.bucket, put).await,
            Engine::Nats(e) => e.put(self.bucket, &put).await,
            Engine::Faulty(e) => e.put(self.bucket, put).await,
        }
    }

    /// Deletes. Deleting what is absent succeeds with `Expect::Any` and `Expect::Absent`.
    pub async fn delete(&self, key: &str, expect: Expect) -> Result<(), WriteError> {
        dispatch!(&self.engine, e => e.delete(self.bucket, key, expect).await)
    }

    /// All or nothing, at most [`MAX_COMMIT`] steps, each key once; the bucket's revision after it.
    pub async fn commit(&self, batch: Vec<Batch>) -> Result<u64, WriteError> {
        dispatch!(&self.engine, e => e.commit(self.bucket, batch).await)
    }

    /// Watches all keys below the prefix.
    pub async fn watch(&self, prefix: &str, mode: WatchMode) -> Result<Watch, Down> {
        dispatch!(&self.engine, e => e.watch(self.bucket, prefix, mode).await)
    }

    /// After [`WriteError::Unknown`]: whose write stands there?
    pub async fn settle(&self, key: &str, op: Op) -> Result<Settled, Down> {
        Ok(match self.get(key, Consistency::Latest).await? {
            Some(entry) if entry.op == op => Settled::Written { rev: entry.rev },
            entry => Settled::Other { entry },
        })
    }
}
