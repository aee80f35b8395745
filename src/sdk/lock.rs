//! Locks that handlers hold.
//!
//! Owns: the requests `lock.*`, and the renewal of a lock that is held. Never: who gets a lock
//! (`pagewire_cluster::lock`).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::asker::Asker;
use super::ctx::Ctx;
use super::fail::RequestError;

/// How often a lock is renewed within its time.
const RENEWALS: u32 = 3;

/// A lock that is acquired by `.await`.
#[must_use = "a lock is acquired by `.await`"]
pub struct LockRequest {
    ctx: Ctx,
    name: String,
    ttl: Duration,
    wait: Duration,
}

/// A lock of the cluster that this work holds. It is renewed in the background.
///
/// A lock that is dropped is released when its handler returns. The lock of a handler that is cancelled is free when its
/// time is over.
pub struct Lock {
    held: Held,
    ctx: Ctx,
    until: watch::Receiver<Instant>,
    renewal: JoinHandle<()>,
    released: bool,
}

/// The name of a lock and the token of its holder.
#[derive(Clone)]
pub(super) struct Held {
    name: String,
    token: u64,
}

#[derive(Deserialize)]
struct AcquiredReply {
    token: u64,
    ttl_ms: u64,
}

#[derive(Deserialize)]
struct RenewedReply {
    ttl_ms: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl LockRequest {
    pub(super) fn new(ctx: &Ctx, name: &str, ttl: Duration) -> Self {
        Self { ctx: ctx.clone(), name: name.to_owned(), ttl, wait: Duration::ZERO }
    }

    /// Waits this long for the lock while another one holds it; without this, not at all.
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

impl IntoFuture for LockRequest {
    type Output = Result<Lock, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { ctx, name, ttl, wait } = self;
        Box::pin(async move {
            let params = json!({ "name": name, "ttl_ms": millis(ttl), "wait_ms": millis(wait) });
            let AcquiredReply { token, ttl_ms } = ctx.asker().ask("lock.acquire", params).await?;
            // counted from the reply: the request may have waited longer than the lock is held
            let (ttl, held) = (Duration::from_millis(ttl_ms), Held { name, token });
            let (ends, until) = watch::channel(Instant::now() + ttl);
            let renewal = tokio::spawn(renew(ctx.asker().clone(), held.clone(), ttl, ends));
            Ok(Lock { held, ctx, until, renewal, released: false })
        })
    }
}

/// Renews a lock until it is lost.
async fn renew(asker: Asker, held: Held, mut ttl: Duration, ends: watch::Sender<Instant>) {
    loop {
        tokio::time::sleep(ttl / RENEWALS).await;
        let sent = Instant::now();
        let Held { name, token } = &held;
        let params = json!({ "name": name, "token": token, "ttl_ms": millis(ttl) });
        match asker.ask::<RenewedReply>("lock.renew", params).await {
            Ok(RenewedReply { ttl_ms }) => {
                ttl = Duration::from_millis(ttl_ms);
                ends.send_replace(sent + ttl);
            }
            Err(error) if error.is_retryable() => {}
            Err(_) => {
                ends.send_replace(sent);
                return;
            }
        }
    }
}

impl Lock {
    /// Returns the token of this holder, which is larger than that of each holder before it.
    pub const fn token(&self) -> u64 {
        self.held.token
    }

    /// Returns whether the lock is held: it was renewed in time, and no other holder has it.
    pub fn is_held(&self) -> bool {
        Instant::now() < *self.until.borrow()
    }

    /// Releases the lock.
    ///
    /// # Errors
    ///
    /// `locked` if the lock has been lost before, `stale` when the work does not stand any more.
    pub async fn release(mut self) -> Result<(), RequestError> {
        self.renewal.abort();
        self.released = true;
        self.held.release(self.ctx.asker()).await
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
        if !self.released {
            self.ctx.release_later(self.held.clone());
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("name", &self.held.name).field("token", &self.held.token).finish()
    }
}

impl Held {
    pub(super) async fn release(&self, asker: &Asker) -> Result<(), RequestError> {
        let Self { name, token } = self;
        asker.ask::<IgnoredAny>("lock.release", json!({ "name": name, "token": token })).await?;
        Ok(())
    }
}

impl Ctx {
    /// Releases the locks that the handler has dropped. An error means that a lock is free when its time is over.
    pub(super) async fn release_dropped(&self) {
        for held in self.take_dropped() {
            if let Err(error) = held.release(self.asker()).await {
                tracing::info!(lock = held.name, %error, "a lock is not released");
            }
        }
    }
}

/// Locks that were dropped and are not released yet.
pub(super) type DroppedLocks = Arc<std::sync::Mutex<Vec<Held>>>;
