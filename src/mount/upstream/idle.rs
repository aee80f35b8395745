//! The connections to an upstream that no request uses.
//!
//! Owns: which of them is used next, and how long they are kept. Never: their requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::connection::UpstreamConnection;

/// The unused connections to one upstream.
#[derive(Debug)]
pub(super) struct IdleConnections {
    kept: Mutex<KeptConnections>,
    within: Duration,
}

#[derive(Debug, Default)]
struct KeptConnections {
    /// The one that was used last is at the end.
    connections: Vec<(Instant, UpstreamConnection)>,
    /// Whether a task closes them in time.
    is_watched: bool,
}

impl IdleConnections {
    pub(super) fn new(within: Duration) -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), within })
    }

    /// Takes the connection that was used last, unless the upstream has closed it.
    pub(super) fn take(&self) -> Option<UpstreamConnection> {
        loop {
            let (_, mut connection) = self.lock().connections.pop()?;
            if connection.is_silent() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose response has ended.
    pub(super) fn put(self: &Arc<Self>, mut connection: UpstreamConnection) {
        connection.input.shrink();
        connection.is_used = true;
        let mut kept = self.lock();
        kept.connections.push((Instant::now(), connection));
        if !std::mem::replace(&mut kept.is_watched, true) {
            tokio::spawn(close_in_time(Arc::downgrade(self), self.within));
        }
    }

    /// Closes what was not used for too long. Returns whether any connection is left.
    fn close_old(&self) -> bool {
        let mut kept = self.lock();
        let now = Instant::now();
        kept.connections.retain_mut(|(since, connection)| {
            now.duration_since(*since) < self.within && connection.is_silent()
        });
        kept.is_watched = !kept.connections.is_empty();
        kept.is_watched
    }

    fn lock(&self) -> MutexGuard<'_, KeptConnections> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close_in_time(idle: Weak<IdleConnections>, within: Duration) {
    loop {
        tokio::time::sleep(within / 2).await;
        let Some(idle) = idle.upgrade() else { return };
        if !idle.close_old() {
            return;
        }
    }
}
