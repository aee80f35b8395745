//! Locks: one holder of a name at a time, in the whole cluster.
//!
//! Owns: the row of a lock, its token, and how a lock is acquired, renewed and released. Never: who may hold a lock, or
//! whether the work of a holder still stands.
//!
//! A lock is a row with a TTL. Its token is the revision of the write that acquired it, so tokens of one name only grow,
//! and whatever the lock protects can refuse a smaller token than the largest that it has seen. The holder of a lock that
//! has expired is not notified: it renews in time, or passes its token along.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::code::ErrorCode;
use crate::engine::{Bucket, Consistency, Engine, Kv, Precondition, Put, Unavailable, WriteError};
use crate::id::Key;
use crate::subject::{SubjectToken, job_key};
use crate::timing::{LOCK_TRY_FIRST, LOCK_TRY_LONGEST, LOCK_TTL, LOCK_WAIT, Timing};
use crate::wire;

/// Longest name of a lock, in bytes.
const MAX_NAME: usize = 200;

/// Why a lock is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The name is empty or too long.
    #[error("the name of a lock has 1 to {MAX_NAME} bytes")]
    Name,
    /// The time to live is not within [`LOCK_TTL`].
    #[error("a lock is held for 1,000 to 3,600,000 ms")]
    Ttl,
    /// The waiting time is longer than [`LOCK_WAIT`].
    #[error("a lock is waited for at most 30,000 ms")]
    Wait,
    /// Another holder has the lock.
    #[error("another holder has this lock")]
    Locked,
    /// The lock is not held with this token any more.
    #[error("this lock is not held with this token any more")]
    Stale,
    /// The engine does not reply: the change may have happened.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
}

impl LockError {
    /// Returns the code for programs.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Name | Self::Ttl | Self::Wait => ErrorCode::Malformed,
            Self::Locked => ErrorCode::Locked,
            Self::Stale => ErrorCode::Stale,
            Self::Unavailable => ErrorCode::Unavailable,
        }
    }
}

/// A lock that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock {
    /// Number that only grows from holder to holder.
    pub token: u64,
    /// How long it is held at least, from now on.
    pub ttl: Duration,
}

/// The value of the row of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct LockRow {
    /// Random id of one acquisition.
    holder: Key,
    /// Revision of the write that acquired the lock. Absent in that write, because its revision is the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
}

/// A lock as a read has shown it.
struct FoundLock {
    holder: Key,
    token: u64,
    /// Revision of the row.
    rev: u64,
}

/// The outcome of one try to acquire a lock.
enum AcquireTry {
    /// The write was acknowledged at this revision.
    Written(u64),
    /// A read has shown the row of a try without a reply, with its token.
    Found(u64),
    /// Another holder has the lock.
    Taken,
    /// Whether the write happened is not known.
    Unknown,
}

/// The locks of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Locks {
    rows: Kv,
    timing: Timing,
}

impl Locks {
    /// Opens the locks of the engine's cluster.
    pub fn new(engine: &Engine, timing: Timing) -> Self {
        Self { rows: engine.kv(Bucket::Jobs), timing }
    }

    /// Acquires a lock, and waits for it at most `wait`. Dropping the future may leave a lock that is held until its TTL
    /// is over.
    ///
    /// # Errors
    ///
    /// [`LockError`]; after [`LockError::Unavailable`] the lock may be held until its TTL is over.
    pub async fn acquire(&self, name: &str, ttl: Duration, wait: Duration) -> Result<HeldLock, LockError> {
        let (key, kept) = (key(name)?, kept(ttl)?);
        if wait > LOCK_WAIT {
            return Err(LockError::Wait);
        }
        let holder = Key::random();
        let row = wire::encode(&LockRow { holder, token: None });
        // all tries are one write of one holder, which recognises its row whichever try has written it
        let put = Put { ttl: Some(kept), ..Put::new(key, row, Precondition::Absent) };
        let until = Instant::now() + wait;
        let (mut sent, mut pause) = (false, LOCK_TRY_FIRST);
        loop {
            let tried = Instant::now();
            match self.try_acquire(&put, holder, &mut sent).await? {
                AcquireTry::Written(token) => return Ok(held(token, ttl, tried)),
                // written some time ago: the TTL begins anew, or is over already
                AcquireTry::Found(token) => match self.renew(name, token, ttl).await {
                    Err(LockError::Stale) => {}
                    renewed => return renewed,
                },
                AcquireTry::Taken if Instant::now() >= until => return Err(LockError::Locked),
                AcquireTry::Unknown if Instant::now() >= until + self.timing.deliver => {
                    return Err(LockError::Unavailable);
                }
                AcquireTry::Taken | AcquireTry::Unknown => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            sleep(pause.min(left.max(LOCK_TRY_FIRST))).await;
            pause = (pause * 2).min(LOCK_TRY_LONGEST);
        }
    }

    async fn try_acquire(&self, put: &Put, holder: Key, sent: &mut bool) -> Result<AcquireTry, LockError> {
        match self.rows.put(put.clone()).await {
            Ok(token) => return Ok(AcquireTry::Written(token)),
            Err(WriteError::Unknown) => *sent = true,
            Err(WriteError::Conflict { .. }) => {}
            Err(WriteError::Down) if *sent => {}
            Err(WriteError::Down | WriteError::Invalid) => return Err(LockError::Unavailable),
        }
        Ok(match self.find(&put.key).await {
            Ok(Some(found)) if found.holder == holder => AcquireTry::Found(found.token),
            Ok(Some(_)) => AcquireTry::Taken,
            // released since then, unless the write is still under way
            Ok(None) if !*sent => AcquireTry::Taken,
            Ok(None) | Err(Unavailable) => AcquireTry::Unknown,
        })
    }

    /// Begins the TTL of a lock anew.
    ///
    /// # Errors
    ///
    /// [`LockError::Stale`] when the lock is not held with this token any more; [`LockError::Unavailable`].
    pub async fn renew(&self, name: &str, token: u64, ttl: Duration) -> Result<HeldLock, LockError> {
        let (key, kept) = (key(name)?, kept(ttl)?);
        let until = Instant::now() + self.timing.deliver;
        loop {
            let tried = Instant::now();
            let outcome = match self.find(&key).await {
                Ok(Some(FoundLock { holder, token: current, rev })) if current == token => {
                    let row = wire::encode(&LockRow { holder, token: Some(token) });
                    let put = Put { ttl: Some(kept), ..Put::new(key.as_str(), row, Precondition::Rev(rev)) };
                    self.rows.put(put).await.map(drop)
                }
                Ok(_) => return Err(LockError::Stale),
                Err(Unavailable) => Err(WriteError::Down),
            };
            match outcome {
                Ok(()) => return Ok(held(token, ttl, tried)),
                Err(_) if Instant::now() >= until => return Err(LockError::Unavailable),
                // another renewal with this token was first, or a renewal without a reply is found again
                Err(_) => sleep(LOCK_TRY_FIRST).await,
            }
        }
    }

    /// Releases a lock. Does nothing when it is not held with this token any more.
    ///
    /// # Errors
    ///
    /// [`LockError::Unavailable`]: the lock may be held until its TTL is over.
    pub async fn release(&self, name: &str, token: u64) -> Result<(), LockError> {
        let key = key(name)?;
        let until = Instant::now() + self.timing.deliver;
        loop {
            let outcome = match self.find(&key).await {
                Ok(Some(found)) if found.token == token => {
                    self.rows.delete(&key, Precondition::Rev(found.rev)).await
                }
                Ok(_) => return Ok(()),
                Err(Unavailable) => Err(WriteError::Down),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(_) if Instant::now() >= until => return Err(LockError::Unavailable),
                Err(_) => sleep(LOCK_TRY_FIRST).await,
            }
        }
    }

    /// Reads the row of a lock.
    async fn find(&self, key: &str) -> Result<Option<FoundLock>, Unavailable> {
        let Some(entry) = self.rows.get(key, Consistency::Latest).await? else { return Ok(None) };
        let row: LockRow = serde_json::from_slice(&entry.value).map_err(|error| {
            tracing::error!(key, %error, "a lock of an unknown shape is neither read nor written");
            Unavailable
        })?;
        Ok(Some(FoundLock { holder: row.holder, token: row.token.unwrap_or(entry.rev), rev: entry.rev }))
    }
}

fn key(name: &str) -> Result<String, LockError> {
    let fits = (1..=MAX_NAME).contains(&name.len());
    if fits { Ok(job_key::lock(&SubjectToken::new(name))) } else { Err(LockError::Name) }
}

/// Returns the TTL of the row: whole seconds, not less than what was asked for.
fn kept(ttl: Duration) -> Result<Duration, LockError> {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    if LOCK_TTL.contains(&ttl) { Ok(Duration::from_secs(seconds)) } else { Err(LockError::Ttl) }
}

/// Returns a lock whose TTL began after `tried`.
fn held(token: u64, ttl: Duration, tried: Instant) -> HeldLock {
    HeldLock { token, ttl: ttl.saturating_sub(tried.elapsed()) }
}

#[cfg(test)]
mod tests;
