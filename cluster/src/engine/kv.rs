//! Types of the Kv, and the handle on one bucket.
//!
//! Owns: entries, expectations, outcomes, watch events. Never: the storage of a bucket.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Engine, Unavailable, dispatch};

/// The largest value, in bytes.
pub const MAX_VALUE: usize = 512 * 1024;
/// The largest meta, in bytes.
pub const MAX_META: usize = 4 * 1024;
/// The most steps of one commit.
pub const MAX_COMMIT: usize = 500;
/// The most workers in one process.
pub const MAX_WORKERS: usize = 64;
/// The most watches of one process: nine of a node and two per worker. A design that needs a watch per user is wrong.
pub const MAX_WATCHES: usize = 9 + 2 * MAX_WORKERS;

/// The buckets of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Leases of node numbers and of workers.
    Nodes,
    /// One row per page.
    Pages,
    /// Facts of the cluster: the key ring.
    Cluster,
    /// Settings that operators change while the cluster runs: rollouts.
    Config,
    /// Records of jobs, and the rows that belong to them.
    Jobs,
    /// State trees.
    State,
    /// Registers of legacy applications.
    Register,
}

impl Bucket {
    /// All buckets, in the order in which they are created.
    pub const ALL: [Self; 7] =
        [Self::Nodes, Self::Pages, Self::Cluster, Self::Config, Self::Jobs, Self::State, Self::Register];

    /// Returns the name of the bucket, lower case letters only.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pages => "pages",
            Self::Cluster => "cluster",
            Self::Config => "config",
            Self::Jobs => "jobs",
            Self::State => "state",
            Self::Register => "register",
        }
    }
}

/// The writer's id of one write. After [`WriteError::Unknown`] it identifies the writer of the stored entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OperationId(pub [u8; 16]);

impl OperationId {
    /// Creates a random id. Deterministic engines set their own ids.
    pub fn random() -> Self {
        #[cfg(feature = "simulation")]
        if let Some([high, low]) = crate::simulation::id_bits() {
            return Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
        }
        Self(rand::random())
    }
}

/// A stored key with its revision, meta and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The bucket's revision at which the entry was written. Revisions grow, are never reused and are not
    /// consecutive.
    pub rev: u64,
    /// The id of the write that stored the entry.
    pub op: OperationId,
    /// At most [`MAX_META`] bytes. A watch in mode `Meta` carries nothing else of the content.
    pub meta: Bytes,
    /// At most [`MAX_VALUE`] bytes; empty in a watch in mode `Meta`.
    pub value: Bytes,
}

/// The precondition of a write: the expected state of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// No condition.
    Any,
    /// The key is absent: never written, deleted or expired.
    Absent,
    /// The key is at this revision.
    Rev(u64),
}

/// The required freshness of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// The read sees every acknowledged write.
    Latest,
    /// The read may be slightly out of date; it is cheaper.
    Any,
}

/// One write.
#[derive(Debug, Clone)]
pub struct Put {
    /// The key: characters of `[-/_=.a-zA-Z0-9]`, no empty token, so no dot at the start or the end.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The part of the content that a watch in mode `Meta` carries.
    pub meta: Bytes,
    /// The precondition.
    pub expect: Precondition,
    /// Time to live in whole seconds ≥ 1, from this put on. Without it the key is permanent.
    pub ttl: Option<Duration>,
    /// The writer's id of this write.
    pub op: OperationId,
}

impl Put {
    /// Creates a put of a permanent value without meta, with a random operation id.
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>, expect: Precondition) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            meta: Bytes::new(),
            expect,
            ttl: None,
            op: OperationId::random(),
        }
    }
}

/// One step of a commit.
#[derive(Debug, Clone)]
pub enum BatchOp {
    /// Writes the key.
    Put(Put),
    /// Deletes the key.
    Delete {
        /// The key.
        key: String,
        /// The precondition.
        expect: Precondition,
    },
    /// Requires the key to be at this revision; does not write it.
    Check {
        /// The key.
        key: String,
        /// The required revision.
        rev: u64,
    },
}

/// The reason why a write is not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The precondition does not hold; nothing was written.
    #[error("another writer was first")]
    Conflict {
        /// The current revision of the key, if the engine returned it. `None`: the key is absent, or the
        /// engine did not return its revision.
        actual: Option<u64>,
    },
    /// No acknowledgement was received: the write may be stored now or a moment later. See [`Kv::resolve_unknown`].
    #[error("the outcome of the write is unknown")]
    Unknown,
    /// Not connected: nothing was sent.
    #[error("the cluster's engine is unavailable")]
    Down,
    /// A size exceeds [`MAX_VALUE`], [`MAX_META`] or [`MAX_COMMIT`], or a key or TTL is illegal; nothing was
    /// written.
    #[error("the write breaks a limit of the engine")]
    Invalid,
}

/// The result of [`Kv::resolve_unknown`] after an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The write is stored.
    Written {
        /// The revision of the write.
        rev: u64,
    },
    /// The key holds another write, or is absent. A conditional write can be repeated with the same
    /// precondition.
    Other {
        /// The current entry, if there is one.
        entry: Option<Entry>,
    },
}

/// The content that a watch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// Entries without values.
    Meta,
    /// Whole entries.
    Value,
}

/// An event of a watch: first the existing entries, then `Live`, then changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The entry existed at the start or was written.
    Put(Entry),
    /// The key is absent now.
    Delete {
        /// The key.
        key: String,
        /// Whether the TTL removed the key; `None` when the engine cannot know, because it found the deletion
        /// by comparison after a reconnect.
        expired: Option<bool>,
    },
    /// Every entry that existed at the start has been yielded. Occurs once per watch.
    Live,
}

/// A running watch. Dropping it ends the watch.
pub struct Watch {
    pub(super) events: mpsc::UnboundedReceiver<WatchEvent>,
}

/// The engine's end of a [`Watch`].
pub type WatchSender = mpsc::UnboundedSender<WatchEvent>;

impl Watch {
    /// Waits for the next event. Returns `None` after the engine was dropped.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }

    /// Returns the next event if one is already queued. A simulation applies events step by step.
    #[cfg(feature = "simulation")]
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        self.events.try_recv().ok()
    }
}

/// A handle on one bucket.
#[derive(Clone)]
pub struct Kv {
    engine: Engine,
    bucket: Bucket,
}

impl Kv {
    pub(super) fn new(engine: Engine, bucket: Bucket) -> Self {
        Self { engine, bucket }
    }

    /// Reads one key.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn get(&self, key: &str, consistency: Consistency) -> Result<Option<Entry>, Unavailable> {
        dispatch!(&self.engine, e => e.get(self.bucket, key, consistency).await)
    }

    /// Returns all entries with keys that start with the prefix, in key order, complete at any size. The
    /// prefix consists of whole tokens: it is empty or ends with a dot.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Unavailable> {
        dispatch!(&self.engine, e => e.list(self.bucket, prefix).await)
    }

    /// Returns the first `limit` entries below the prefix that were written after a revision, in revision
    /// order.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn scan(&self, prefix: &str, after_rev: u64, limit: usize) -> Result<Vec<Entry>, Unavailable> {
        dispatch!(&self.engine, e => e.scan(self.bucket, prefix, after_rev, limit).await)
    }

    /// Writes one key. Returns the new revision.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; only after [`WriteError::Unknown`] the write may have been stored.
    pub async fn put(&self, put: Put) -> Result<u64, WriteError> {
        match &self.engine {
            Engine::Memory(e) => e.put(self.bucket, put).await,
            Engine::Nats(e) => e.put(self.bucket, &put).await,
            #[cfg(feature = "simulation")]
            Engine::Faulty(e) => e.put(self.bucket, put).await,
        }
    }

    /// Deletes one key. Deleting an absent key succeeds with `Precondition::Any` and `Precondition::Absent`.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; only after [`WriteError::Unknown`] the key may have been deleted.
    pub async fn delete(&self, key: &str, expect: Precondition) -> Result<(), WriteError> {
        dispatch!(&self.engine, e => e.delete(self.bucket, key, expect).await)
    }

    /// Applies all steps or none: at most [`MAX_COMMIT`] steps, each key at most once. Returns the bucket's
    /// revision after the commit.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; only after [`WriteError::Unknown`] the steps may have been applied.
    pub async fn commit(&self, batch: Vec<BatchOp>) -> Result<u64, WriteError> {
        dispatch!(&self.engine, e => e.commit(self.bucket, batch).await)
    }

    /// Watches all keys below the prefix; see [`Kv::watch_several`].
    ///
    /// # Errors
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn watch(&self, prefix: &str, mode: WatchMode) -> Result<Watch, Unavailable> {
        self.watch_several(vec![prefix.to_owned()], mode).await
    }

    /// Watches all keys below the prefix like [`Kv::watch`], for a reader that needs no change at once: events may come as
    /// late as `pace`, and of several changes of one key within that time only the last one may come. This costs the engine
    /// less, because it sends the changes of each such time together.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn watch_at_pace(
        &self,
        prefix: &str,
        mode: WatchMode,
        pace: Duration,
    ) -> Result<Watch, Unavailable> {
        let prefixes = vec![prefix.to_owned()];
        match &self.engine {
            Engine::Nats(e) => e.watch(self.bucket, prefixes, mode, Some(pace)).await,
            _ => self.watch_several(prefixes, mode).await,
        }
    }

    /// Watches all keys below any of the prefixes, with one watch. No prefix is below another one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    ///
    /// # Panics
    ///
    /// When the process has [`MAX_WATCHES`] watches already.
    pub async fn watch_several(&self, prefixes: Vec<String>, mode: WatchMode) -> Result<Watch, Unavailable> {
        match &self.engine {
            Engine::Memory(e) => e.watch(self.bucket, prefixes, mode).await,
            Engine::Nats(e) => e.watch(self.bucket, prefixes, mode, None).await,
            #[cfg(feature = "simulation")]
            Engine::Faulty(e) => e.watch(self.bucket, prefixes, mode).await,
        }
    }

    /// Adds a sample to the clock of the engine: this revision was written by a put that was sent and acknowledged at
    /// these times of the boot clock. Does nothing when the engine's clock is that of this process.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn sample_clock(
        &self,
        rev: u64,
        sent: Duration,
        received: Duration,
    ) -> Result<(), Unavailable> {
        match &self.engine {
            Engine::Memory(_) => Ok(()),
            Engine::Nats(e) => e.sample_clock(self.bucket, rev, sent, received).await,
            #[cfg(feature = "simulation")]
            Engine::Faulty(e) => e.sample_clock(sent, received).await,
        }
    }

    /// Resolves a [`WriteError::Unknown`]: reads the key and compares its operation id with `op`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable; the outcome is still unknown.
    pub async fn resolve_unknown(&self, key: &str, op: OperationId) -> Result<Resolution, Unavailable> {
        Ok(match self.get(key, Consistency::Latest).await? {
            Some(entry) if entry.op == op => Resolution::Written { rev: entry.rev },
            entry => Resolution::Other { entry },
        })
    }
}
