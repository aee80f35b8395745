//! `lock.acquire`, `lock.renew` and `lock.release`: locks of the cluster.
//!
//! Owns: how long a handler may wait for a lock. Never: the rows of locks (`pagewire_cluster::lock`).
//!
//! A lock belongs to its token and not to the work that has acquired it: when that work ends without releasing the lock,
//! the lock is held until its time is over.

use std::time::Duration;

use pagewire_cluster::lock::{HeldLock, LockError};
use pagewire_cluster::wire::HandlerError;
use serde_json::json;
use tokio::time::Instant;

use super::members::{Members, malformed};
use super::reply;
use crate::effects::Effects;
use crate::handlers::HandlerResult;
use crate::outgoing::WorkIdentity;

fn refused(error: LockError) -> HandlerError {
    match error {
        LockError::Name => malformed("name", error),
        LockError::Ttl => malformed("ttl_ms", error),
        LockError::Wait => malformed("wait_ms", error),
        error => HandlerError::new(error.code(), error.to_string()),
    }
}

fn ttl(members: &mut Members) -> Result<Duration, HandlerError> {
    members.millis("ttl_ms")?.ok_or_else(|| malformed("ttl_ms", "it is missing"))
}

/// `lock.acquire`.
pub(super) struct AcquireLock {
    name: String,
    ttl: Duration,
    wait: Duration,
}

impl AcquireLock {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let (name, ttl) = (members.required("name")?, ttl(members)?);
        Ok(Self { name, ttl, wait: members.millis("wait_ms")?.unwrap_or_default() })
    }

    pub(super) async fn run(self, effects: &Effects, work: &WorkIdentity) -> HandlerResult {
        let locks = effects.locks()?;
        // no longer than the caller of this work waits
        let left = work.until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = left.map_or(self.wait, |left| left.min(self.wait));
        let HeldLock { token, ttl } = locks.acquire(&self.name, self.ttl, wait).await.map_err(refused)?;
        if let Err(stale) = effects.locks() {
            // the work has ended while it waited
            let _ = locks.release(&self.name, token).await;
            return Err(stale);
        }
        reply(&json!({ "token": token, "ttl_ms": ttl.as_millis() as u64 }))
    }
}

/// `lock.renew`.
pub(super) struct RenewLock {
    name: String,
    token: u64,
    ttl: Duration,
}

impl RenewLock {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let (name, token) = (members.required("name")?, members.required("token")?);
        Ok(Self { name, token, ttl: ttl(members)? })
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        let renewed = effects.locks()?.renew(&self.name, self.token, self.ttl).await;
        reply(&json!({ "ttl_ms": renewed.map_err(refused)?.ttl.as_millis() as u64 }))
    }
}

/// `lock.release`.
pub(super) struct ReleaseLock {
    name: String,
    token: u64,
}

impl ReleaseLock {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        Ok(Self { name: members.required("name")?, token: members.required("token")? })
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        effects.locks()?.release(&self.name, self.token).await.map_err(refused)?;
        reply(&json!({}))
    }
}
