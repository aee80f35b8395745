//! All subjects and keys of a cluster.
//!
//! Owns: the encoding of an identity as a token of a subject, key or filter ([`SubjectToken`]), the subjects
//! of a cluster ([`Subjects`]) and the keys of its buckets. Never: the content of messages (`wire`).

pub mod config_key;
mod keys;
pub mod worker_leaf;

use std::fmt;

pub use keys::{cluster_key, job_key, node_key, page_key, register_key, state_key};

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

    /// Subject of new jobs for any worker of a lane that is idle. The workers of the lane share it as one queue group.
    pub fn new_jobs(&self, pool: &str, lane: &str) -> String {
        format!("{}.newjob.{}.{}", self.prefix, SubjectToken::new(pool), SubjectToken::new(lane))
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

    /// Subject of what each process tells about the work of its lanes.
    pub fn lane_digests(&self) -> String {
        format!("{}.lane.digest", self.prefix)
    }

    /// Subject of a node that has started, and asks each process to publish again what it has told about its lanes.
    pub fn lane_digest_requests(&self) -> String {
        format!("{}.lane.again", self.prefix)
    }

    /// Subject of what the leader has found out about the lanes.
    pub fn lane_reports(&self) -> String {
        format!("{}.lane.report", self.prefix)
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

/// Returns the beginning of the queue routes of a lane. The rest names the priority and the shard of a work item.
pub fn route(pool: &str, lane: &str) -> String {
    format!("{}.{}", SubjectToken::new(pool), SubjectToken::new(lane))
}

#[cfg(test)]
mod tests;
