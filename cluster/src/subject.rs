//! Every subject and every key, in one place.
//!
//! Owns: how an identity becomes a token of a subject, key or filter ([`SubjectToken`]), the subjects a
//! cluster uses ([`Subjects`]) and the keys of its buckets. Never: what is said on them (`wire`).

use std::fmt;

use crate::id::{Key, NodeNumber};

/// One token of a subject or key: never empty, without `.`, `*`, `>`, white space or control characters.
///
/// The encoding is injective: ASCII letters, digits and `-` stay, every other byte becomes `_XX` (hex), so two
/// different identities never share a token and a user called `*` is an ordinary user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectToken(String);

impl SubjectToken {
    /// Encodes any text; the empty text becomes `_`, which no other text does.
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

    /// The encoded text.
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
    /// The subjects of the cluster of that name; any name is safe.
    pub fn new(cluster: &str) -> Self {
        Self { prefix: format!("pw.{}", SubjectToken::new(cluster)) }
    }

    /// Page-addressed deliveries for the pages of a node; no epoch, because keys are never reused.
    pub fn page(&self, node: NodeNumber) -> String {
        format!("{}.page.{node}", self.prefix)
    }

    /// What is asked of one life of a node. `leaf` is one of the constants in [`leaf`].
    pub fn node(&self, node: NodeNumber, epoch: u64, leaf: &str) -> String {
        format!("{}.node.{node}.{epoch}.{leaf}", self.prefix)
    }

    /// The pattern that covers every [`Subjects::node`] of that life.
    pub fn node_pattern(&self, node: NodeNumber, epoch: u64) -> String {
        self.node(node, epoch, ">")
    }

    /// What every node hears.
    pub fn all(&self) -> String {
        format!("{}.all", self.prefix)
    }

    /// The root of the Queue's hints.
    pub fn queue(&self) -> String {
        format!("{}.queue", self.prefix)
    }

    /// Calls for any worker of a lane: its workers share them as one group.
    pub fn calls(&self, pool: &str, lane: &str) -> String {
        format!("{}.call.{}.{}", self.prefix, SubjectToken::new(pool), SubjectToken::new(lane))
    }

    /// What every worker of a lane hears.
    pub fn workers(&self, pool: &str, lane: &str) -> String {
        format!("{}.workers.{}.{}", self.prefix, SubjectToken::new(pool), SubjectToken::new(lane))
    }

    /// What is asked of one worker. `leaf` is one of the constants in [`worker_leaf`].
    pub fn worker(&self, worker: Key, leaf: &str) -> String {
        format!("{}.worker.{worker}.{leaf}", self.prefix)
    }

    /// What happens to a job, for whoever watches it.
    pub fn job(&self, job: Key) -> String {
        format!("{}.job.{job}", self.prefix)
    }

    /// The root of the reply subjects of a process.
    pub fn inbox(&self) -> String {
        format!("{}.inbox", self.prefix)
    }
}

/// Leaves below [`Subjects::node`].
pub mod leaf {
    /// Scope deliveries.
    pub const DELIVER: &str = "deliver";
    /// "Are you alive in this epoch?": answered by the living, `NoResponder` when the process is gone.
    pub const ALIVE: &str = "alive";
}

/// Leaves below [`Subjects::worker`]; each has a message of its own in `wire`.
pub mod worker_leaf {
    /// A call for the user's own worker.
    pub const CALL: &str = "call";
    /// A running job is to stop.
    pub const CANCEL: &str = "cancel";
    /// Do you run these jobs, which you claim?
    pub const CLAIMS: &str = "claims";
    /// A user has assigned jobs that wait.
    pub const WAKE: &str = "wake";
    /// "Are you there?"
    pub const ALIVE: &str = "alive";
    /// Take nothing new, finish, leave.
    pub const DRAIN: &str = "drain";
}

/// The route of the queue that the free workers of a lane pull from.
pub fn route(pool: &str, lane: &str) -> String {
    format!("{}.{}", SubjectToken::new(pool), SubjectToken::new(lane))
}

/// Keys in the bucket `nodes`.
pub mod node_key {
    use super::{Key, NodeNumber, SubjectToken};

    /// All leases of workers.
    pub const WORKERS: &str = "worker.";

    /// The lease row of a worker.
    pub fn worker(pool: &str, lane: &str, worker: Key) -> String {
        format!("{WORKERS}{}.{}.{worker}", SubjectToken::new(pool), SubjectToken::new(lane))
    }

    /// All leases.
    pub const LEASES: &str = "lease.";

    /// The lease row of a node number.
    pub fn lease(number: NodeNumber) -> String {
        format!("{LEASES}{number}")
    }
}

/// Keys in the bucket `pages`. Keys carry the bare 22 characters: `|` is not allowed in one.
pub mod page_key {
    use super::Key;

    /// All rows of the bucket: one watch shows a page and what it takes away with the same commit.
    pub const ALL: &str = "";

    /// All page rows.
    pub const PAGES: &str = "page.";

    /// All rows of idle sessions.
    pub const SESSIONS: &str = "session.";

    /// All rows of idle connections.
    pub const CONNECTIONS: &str = "connection.";

    /// All rows of connections that have become a user's.
    pub const OWNERS: &str = "owner.";

    /// The row that says which user an anonymous connection has become.
    pub fn owner(connection: Key) -> String {
        format!("{OWNERS}{connection}")
    }

    /// The row of a page.
    pub fn page(page: Key) -> String {
        format!("{PAGES}{page}")
    }

    /// The row of an idle session.
    pub fn session(session: Key) -> String {
        format!("{SESSIONS}{session}")
    }

    /// The row of an idle connection.
    pub fn connection(connection: Key) -> String {
        format!("{CONNECTIONS}{connection}")
    }
}

/// Keys in the bucket `state`: one tree each.
pub mod state_key {
    use super::{Key, SubjectToken};

    /// The tree of a user.
    pub fn user(user: &SubjectToken) -> String {
        format!("user.{user}")
    }

    /// All trees of connections.
    pub const CONNECTIONS: &str = "conn.";
    /// All trees of sessions.
    pub const SESSIONS: &str = "sess.";
    /// All trees of pages.
    pub const PAGES: &str = "page.";

    /// The tree of a connection.
    pub fn connection(connection: Key) -> String {
        format!("{CONNECTIONS}{connection}")
    }

    /// The tree of a session.
    pub fn session(session: Key) -> String {
        format!("{SESSIONS}{session}")
    }

    /// The tree of a page.
    pub fn page(page: Key) -> String {
        format!("{PAGES}{page}")
    }
}

/// Keys in the bucket `jobs`.
pub mod job_key {
    use super::{Key, SubjectToken};

    /// All records.
    pub const JOBS: &str = "job.";

    /// The record of a job.
    pub fn job(job: Key) -> String {
        format!("{JOBS}{job}")
    }

    /// Which job an idempotency key stands for; `digest` is the hash of the key and of who used it.
    pub fn idempotency(digest: &str) -> String {
        format!("idem.{digest}")
    }

    /// Which job a page means by one of its frame ids.
    pub fn of_page(page: Key, frame: &str) -> String {
        format!("page.{page}.{}", SubjectToken::new(frame))
    }

    /// The assigned jobs of a lane that have not ended.
    pub fn open(pool: &str, lane: &str) -> String {
        format!("open.{}.{}.", SubjectToken::new(pool), SubjectToken::new(lane))
    }

    /// The same of one user; `part` is the user's partition.
    pub fn open_of(pool: &str, lane: &str, part: u8, user: &SubjectToken) -> String {
        format!("{}{part:02}.{user}.", open(pool, lane))
    }

    /// The jobs that a user's pages have submitted and that are not known to be over.
    pub fn quota_of_user(user: &SubjectToken) -> String {
        format!("quota.user.{user}")
    }

    /// The same of an anonymous browser.
    pub fn quota_of_connection(connection: Key) -> String {
        format!("quota.conn.{connection}")
    }

    /// Which worker is a user's own: the fence of what it does for the user.
    pub fn fence(pool: &str, lane: &str, user: &SubjectToken) -> String {
        format!("fence.{}.{}.{user}", SubjectToken::new(pool), SubjectToken::new(lane))
    }
}

/// Keys in the bucket `cluster`.
pub mod cluster_key {
    use super::SubjectToken;

    /// All facts of the cluster.
    pub const ALL: &str = "";

    /// The ring of keys that sign page tokens.
    pub const KEYRING: &str = "keyring";

    /// A pool that has had a worker.
    pub fn pool(pool: &str) -> String {
        format!("pool.{}", SubjectToken::new(pool))
    }
}

/// Keys in the bucket `config`.
pub mod config_key {
    use super::SubjectToken;

    /// The rollouts of all pools.
    pub const ROLLOUTS: &str = "rollout.";

    /// The rollout of a pool.
    pub fn rollout(pool: &str) -> String {
        format!("{ROLLOUTS}{}", SubjectToken::new(pool))
    }

    /// What a pool's rollout has said.
    pub fn history(pool: &str) -> String {
        format!("history.{}.", SubjectToken::new(pool))
    }

    /// One revision of it.
    pub fn past(pool: &str, revision: u64) -> String {
        format!("{}{revision}", history(pool))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn different_identities_never_share_a_token(a in "\\PC{0,20}", b in "\\PC{0,20}") {
            prop_assert_eq!(a == b, SubjectToken::new(&a) == SubjectToken::new(&b));
        }

        #[test]
        fn a_token_has_only_characters_that_are_legal_in_subjects_and_keys(identity: String) {
            let token = SubjectToken::new(&identity);
            prop_assert!(!token.as_str().is_empty());
            prop_assert!(token.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        }
    }

    #[test]
    fn awkward_users_are_ordinary_users() {
        assert_eq!(SubjectToken::new("*").as_str(), "_2A");
        assert_eq!(SubjectToken::new("a.b").as_str(), "a_2Eb");
        assert_eq!(SubjectToken::new("_2A").as_str(), "_5F2A");
        assert_eq!(SubjectToken::new("").as_str(), "_");
    }
}
