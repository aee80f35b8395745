//! All subjects and keys of a cluster.
//!
//! Owns: the encoding of an identity as a token of a subject, key or filter ([`SubjectToken`]), the subjects
//! of a cluster ([`Subjects`]) and the keys of its buckets. Never: the content of messages (`wire`).

pub mod config_key;

use std::fmt;

use crate::id::{Key, NodeNumber};

/// One token of a subject or key: never empty, without `.`, `*`, `>`, white space or control characters.
///
/// The encoding is injective: ASCII letters, digits and `-` stay, every other byte becomes `_XX` (hex). Two
/// different identities therefore never share a token, and a user named `*` is an ordinary user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectToken(String);

impl SubjectToken {
    /// Encodes any text. The empty text becomes `_`, which is the encoding of no other text.
    pub fn new(identity: &str) -> Self {
        use fmt::Write;
        if identity.is_empty() {
            return Self("_".to_owned());
        }
        let mut token = String::with_capacity(identity.len());
        for byte in identity.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                token.push(byte.into());
            } else {
                // writing to a String cannot fail
                let _ = write!(token, "_{byte:02X}");
            }
        }
        Self(token)
    }

    /// Returns the encoded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The subjects of one cluster: everything below `pw.<cluster>.`.
#[derive(Debug, Clone)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// Creates the subjects of the cluster with this name. Any name is safe, because it is encoded.
    pub fn new(cluster: &str) -> Self {
        Self { prefix: format!("pw.{}", SubjectToken::new(cluster)) }
    }

    /// Subject of page-addressed deliveries for the pages of a node. It has no epoch, because keys are never
    /// reused.
    pub fn page(&self, node: NodeNumber) -> String {
        format!("{}.page.{node}", self.prefix)
    }

    /// Subject of requests to one incarnation (epoch) of a node. `leaf` is one of the constants in [`leaf`].
    pub fn node(&self, node: NodeNumber, epoch: u64, leaf: &str) -> String {
        format!("{}.node.{node}.{epoch}.{leaf}", self.prefix)
    }

    /// Pattern that matches every [`Subjects::node`] of this epoch.
    pub fn node_pattern(&self, node: NodeNumber, epoch: u64) -> String {
        self.node(node, epoch, ">")
    }

    /// Subject that every node subscribes to.
    pub fn all(&self) -> String {
        format!("{}.all", self.prefix)
    }

    /// Root of the subjects of the Queue's work items.
    pub fn queue(&self) -> String {
        format!("{}.queue", self.prefix)
    }

    /// Subject of calls of a method for any worker of a lane. The workers of the lane that have the method share it as
    /// one queue group.
    pub fn calls(&self, pool: &str, lane: &str, method: &str) -> String {
        let [pool, lane, method] = [pool, lane, method].map(SubjectToken::new);
        format!("{}.call.{pool}.{lane}.{method}", self.prefix)
    }

    /// Pattern of the subjects of calls without a lane, which a mapping of the NATS server gives one.
    pub fn unmapped_calls(&self, pool: &str) -> String {
        format!("{}.call.{}.*", self.prefix, SubjectToken::new(pool))
    }

    /// Subject of [`Subjects::calls`] in a mapping of [`Subjects::unmapped_calls`].
    pub fn mapped_calls(&self, pool: &str, lane: &str) -> String {
        format!("{}{{{{wildcard(1)}}}}", self.calls(pool, lane, "").trim_end_matches('_'))
    }

    /// The same for the workers of a lane that are inside nodes.
    pub fn node_calls(&self, pool: &str, lane: &str, method: &str) -> String {
        let [pool, lane, method] = [pool, lane, method].map(SubjectToken::new);
        format!("{}.nodecall.{pool}.{lane}.{method}", self.prefix)
    }

    /// Subject that every worker of a lane subscribes to.
    pub fn workers(&self, pool: &str, lane: &str) -> String {
        format!("{}.workers.{}.{}", self.prefix, SubjectToken::new(pool), SubjectToken::new(lane))
    }

    /// Subject of requests to one worker. `leaf` is one of the constants in [`worker_leaf`].
    pub fn worker(&self, worker: Key, leaf: &str) -> String {
        format!("{}.worker.{worker}.{leaf}", self.prefix)
    }

    /// Subject of a job's events, for the processes that watch the job.
    pub fn job(&self, job: Key) -> String {
        format!("{}.job.{job}", self.prefix)
    }

    /// Subject of the abort latches that processes hold. Every node and worker subscribes to it.
    pub fn latches(&self) -> String {
        format!("{}.latches", self.prefix)
    }

    /// Subject of requests for the abort latches that other processes hold.
    pub fn latch_queries(&self) -> String {
        format!("{}.latches.ask", self.prefix)
    }

    /// Subject of the answers to one request or announcement of abort latches.
    pub fn latch_replies(&self, to: Key) -> String {
        format!("{}.latches.to.{to}", self.prefix)
    }

    /// Root of the reply subjects of a process.
    pub fn inbox(&self) -> String {
        format!("{}.inbox", self.prefix)
    }
}

/// Leaves below [`Subjects::node`].
pub mod leaf {
    /// Deliveries to a scope.
    pub const DELIVER: &str = "deliver";
    /// Liveness request to one epoch of a node. A running node replies; `NoResponder` means that the process
    /// has ended.
    pub const ALIVE: &str = "alive";
}

/// Leaves below [`Subjects::worker`]. Each has its own message type in `wire`.
pub mod worker_leaf {
    /// An offer of a free job from a worker that has no handler for it.
    pub const OFFER: &str = "offer";
    /// A call for the worker that is assigned to the user.
    pub const CALL: &str = "call";
    /// A request to stop a running job.
    pub const CANCEL: &str = "cancel";
    /// A request to say which of these claimed jobs the worker runs.
    pub const CLAIMS: &str = "claims";
    /// A notification that a user has assigned jobs waiting.
    pub const WAKE: &str = "wake";
    /// A liveness request.
    pub const ALIVE: &str = "alive";
    /// A request to accept no new work, finish the running work and leave.
    pub const DRAIN: &str = "drain";
}

/// Returns the beginning of the queue routes of a lane. The rest names the priority and the shard of a work item.
pub fn route(pool: &str, lane: &str) -> String {
    format!("{}.{}", SubjectToken::new(pool), SubjectToken::new(lane))
}

/// Keys in the bucket `nodes`.
pub mod node_key {
    use super::{Key, NodeNumber};

    /// Prefix of all worker leases.
    pub const WORKERS: &str = "worker.";

    /// Key of a worker's lease row.
    pub fn worker(worker: Key) -> String {
        format!("{WORKERS}{worker}")
    }

    /// Prefix of all node leases.
    pub const LEASES: &str = "lease.";

    /// Key of the lease row of a node number.
    pub fn lease(number: NodeNumber) -> String {
        format!("{LEASES}{number}")
    }
}

/// Keys in the bucket `pages`. Keys contain the bare 22 characters, because `|` is not allowed in a key.
pub mod page_key {
    use super::Key;

    /// Prefix of all rows of the bucket. One watch on it shows a page row together with the rows that the
    /// same commit removes.
    pub const ALL: &str = "";

    /// Prefix of all page rows.
    pub const PAGES: &str = "page.";

    /// Prefix of all rows of idle sessions.
    pub const SESSIONS: &str = "session.";

    /// Prefix of all rows of idle connections.
    pub const CONNECTIONS: &str = "connection.";

    /// All rows of connections that have become a user's.
    pub const OWNERS: &str = "owner.";

    /// The row with the user of a connection that was anonymous.
    pub fn owner(connection: Key) -> String {
        format!("{OWNERS}{connection}")
    }

    /// Key of the row of a page.
    pub fn page(page: Key) -> String {
        format!("{PAGES}{page}")
    }

    /// Key of the row of an idle session.
    pub fn session(session: Key) -> String {
        format!("{SESSIONS}{session}")
    }

    /// Key of the row of an idle connection.
    pub fn connection(connection: Key) -> String {
        format!("{CONNECTIONS}{connection}")
    }
}

/// Keys in the bucket `state`: one tree each.
pub mod state_key {
    use super::{Key, SubjectToken};

    /// Key of the tree of a user.
    pub fn user(user: &SubjectToken) -> String {
        format!("user.{user}")
    }

    /// Prefix of all trees of connections.
    pub const CONNECTIONS: &str = "conn.";
    /// Prefix of all trees of sessions.
    pub const SESSIONS: &str = "sess.";
    /// Prefix of all trees of pages.
    pub const PAGES: &str = "page.";

    /// Key of the tree of a connection.
    pub fn connection(connection: Key) -> String {
        format!("{CONNECTIONS}{connection}")
    }

    /// Key of the tree of a session.
    pub fn session(session: Key) -> String {
        format!("{SESSIONS}{session}")
    }

    /// Key of the tree of a page.
    pub fn page(page: Key) -> String {
        format!("{PAGES}{page}")
    }
}

/// Keys in the bucket `jobs`.
///
/// The second token of a record is its shard, and that of a row of a user is the partition of the user, so that the
/// rows can be spread over several streams without a change of their keys.
pub mod job_key {
    use super::{Key, SubjectToken};

    /// Prefix of all job records.
    pub const JOBS: &str = "job.";

    /// Number of shards of the records.
    pub const SHARDS: u8 = 16;

    /// Key of the record of a job.
    pub fn job(job: Key) -> String {
        // the modulus fits
        let shard = (job.bits() % u128::from(SHARDS)) as u8;
        format!("{JOBS}{shard:02}.{job}")
    }

    /// Key of the row that maps an idempotency key to its job. `digest` is the hash of the idempotency key
    /// and its user.
    pub fn idempotency(digest: &str) -> String {
        format!("idem.{digest}")
    }

    /// Key of the row that maps a page and one of its frame ids to a job.
    pub fn of_page(page: Key, frame: &str) -> String {
        format!("page.{page}.{}", SubjectToken::new(frame))
    }

    /// Prefix of the assigned jobs of a pool that have not ended.
    pub fn open(pool: &str) -> String {
        format!("open.{}.", SubjectToken::new(pool))
    }

    /// Prefix of the assigned jobs of the users of one partition that have not ended.
    pub fn open_in(pool: &str, partition: u8) -> String {
        format!("{}{partition:02}.", open(pool))
    }

    /// Key of the row of an assigned job that has not ended.
    pub fn open_job(pool: &str, partition: u8, user: &SubjectToken, job: Key) -> String {
        format!("{}{user}.{job}", open_in(pool, partition))
    }

    /// The jobs that a user's pages have submitted and that are not known to be over.
    pub fn quota_of_user(user: &SubjectToken) -> String {
        format!("quota.user.{user}")
    }

    /// The same of an anonymous browser.
    pub fn quota_of_connection(connection: Key) -> String {
        format!("quota.conn.{connection}")
    }

    /// Key of the row of a lock.
    pub fn lock(name: &SubjectToken) -> String {
        format!("lock.{name}")
    }

    /// Prefix of all turn rows.
    pub const TURNS: &str = "turn.";

    /// Key of the turn row of a user: the worker that owns the user's jobs, and the one job that may run.
    pub fn turn(pool: &str, partition: u8, user: &SubjectToken) -> String {
        format!("{TURNS}{}.{partition:02}.{user}", SubjectToken::new(pool))
    }
}

/// Keys in the bucket `cluster`.
pub mod cluster_key {
    use super::SubjectToken;

    /// All facts of the cluster.
    pub const ALL: &str = "";

    /// Key of the ring of keys that sign page tokens.
    pub const KEYRING: &str = "keyring";

    /// Prefix of the quarantines of all pools.
    pub const QUARANTINES: &str = "quarantine.";

    /// Key of the quarantine of a pool.
    pub fn quarantine(pool: &str) -> String {
        format!("{QUARANTINES}{}", SubjectToken::new(pool))
    }

    /// A pool that has had a worker.
    pub fn pool(pool: &str) -> String {
        format!("pool.{}", SubjectToken::new(pool))
    }
}

#[cfg(test)]
mod tests;
