//! The keys of each bucket.
//!
//! Owns: what a key is called. Never: what is stored at it.

use super::SubjectToken;
use crate::id::{Key, NodeNumber};

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

    /// The row of the session of an older deployment whose id was adopted.
    pub fn adopted_session(session: Key) -> String {
        format!("adopted.session.{session}")
    }

    /// The row of the connection of an older deployment whose id was adopted.
    pub fn adopted_connection(connection: Key) -> String {
        format!("adopted.connection.{connection}")
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

    /// Returns the job of a record or of an open row.
    pub fn id_of(key: &str) -> Option<Key> {
        key.rsplit('.').next()?.parse().ok()
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

    /// Key of the row of the object of a resident page.
    pub fn resident(pool: &str, page: Key) -> String {
        format!("resident.{}.{page}", SubjectToken::new(pool))
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

    /// Prefix of the ended logins of all users.
    pub const ENDED_LOGINS: &str = "login.";

    /// Key of the ended logins of a user.
    pub fn ended_logins(user: &str) -> String {
        format!("{ENDED_LOGINS}{}", SubjectToken::new(user))
    }

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

/// Keys in the bucket `register`.
pub mod register_key {
    use super::{Key, SubjectToken};

    /// Prefix of all items.
    pub const ITEMS: &str = "item.";
    /// Prefix of everything that is published to pages.
    pub const LOG: &str = "log.";

    /// Key of an item.
    pub fn item(register: &str, level: &str, id: &SubjectToken) -> String {
        format!("{ITEMS}{register}.{level}.{id}")
    }

    /// Key of a row of the log.
    pub fn entry(register: &str, entry: Key) -> String {
        format!("{LOG}{register}.{entry}")
    }

    /// Key of the row that says how far a page has taken the log.
    pub fn cursor(register: &str, page: impl std::fmt::Display) -> String {
        format!("cursor.{register}.{page}")
    }
}
