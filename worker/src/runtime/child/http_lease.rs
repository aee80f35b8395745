//! Requests of HTTP that the children of a pool serve.
//!
//! Owns: how long a request waits for a child, and the slot that it occupies. Never: HTTP, which the child speaks on its
//! socket.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pagewire_cluster::id::Key;
use pagewire_cluster::worker::Affinity;
use tokio::sync::watch;

use super::choice::Wanted;
use super::http_socket::HttpSocket;
use super::listener_address::ListenerAddress;
pub use super::members::LostChildren;
use super::members::{Member, Need, PoolState, QueuedWork};
use super::pool::{ChildPool, Credit, PoolShared, WaitingPiece};

/// Requests of HTTP as work of a child: the place alone says which child serves them.
const WANTED: Wanted<'_> = Wanted { user: None, affinity: Affinity::Free, alone: false, stays: false };

/// How requests of HTTP wait for a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpQueueLimits {
    /// Requests that wait at a time.
    pub queue: usize,
    /// How long a request waits.
    pub wait: Duration,
    /// How long a request may still take in a child that is replaced. A pool that ends waits for less.
    pub drain: Duration,
}

/// A child for one request of HTTP. Its slot is free again when this is dropped, which has to be at the end of the answer.
pub struct HttpLease {
    socket: Arc<HttpSocket>,
    credit: Credit,
}

/// Why no child serves a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoProcess {
    /// No child is ready yet.
    Starting,
    /// No child is ready, because the last one has ended by itself or did not become ready. With the reason.
    Failing(String),
    /// The pool ends.
    Stopping,
    /// All children are busy, and too many requests wait, or this one has waited for too long.
    Busy,
    /// No child is ready at the place that was asked for, but at another one.
    PlaceLost,
}

impl fmt::Display for NoProcess {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => out.write_str("no process is ready yet"),
            // the log has the other lines already
            Self::Failing(reason) => {
                write!(out, "no process is ready: {}", reason.lines().next().unwrap_or_default())
            }
            Self::Stopping => out.write_str("the processes end"),
            Self::Busy => out.write_str("all processes are busy"),
            Self::PlaceLost => out.write_str("the process has ended"),
        }
    }
}

impl HttpLease {
    /// Returns the address at which the child serves HTTP.
    pub fn address(&self) -> &ListenerAddress {
        self.socket.address()
    }

    /// Returns the number of the child in its pool.
    pub fn child(&self) -> u64 {
        self.credit.child()
    }

    /// Reports that the child has not accepted a connection: it gets no more requests and is replaced.
    pub fn refused(self) {
        self.socket.set_refusing();
        self.credit.close();
    }
}

impl Drop for HttpLease {
    fn drop(&mut self) {
        self.socket.end();
    }
}

impl ChildPool {
    /// Returns the places with a child that serves HTTP, in order, and their changes.
    pub fn http_places(&self) -> watch::Receiver<Vec<u32>> {
        self.shared().places.subscribe()
    }

    /// Returns the children that are lost. Their places are shown as not ready after that.
    pub fn lost(&self) -> LostChildren {
        self.shared().lock().lost.clone()
    }

    /// Returns the number of places.
    pub fn place_count(&self) -> u32 {
        self.shared().options.children.iter().map(|(_, limits)| limits.max as u32).sum()
    }

    /// Returns the place of the child that serves HTTP and has the object of a page.
    pub fn place_of_object(&self, page: Key) -> Option<u32> {
        let state = self.shared().lock();
        let has_object = |member: &&Member| member.has(Need::Http) && member.objects.contains_key(&page);
        state.members.iter().find(has_object).map(|member| member.place)
    }

    /// Waits for a child that serves a request of HTTP: the one at `place`, or the one that has the fewest requests.
    ///
    /// # Errors
    ///
    /// [`NoProcess`] when none is ready, or none is free in time.
    pub async fn http(&self, place: Option<u32>) -> Result<HttpLease, NoProcess> {
        let pool = self.shared();
        let Some(limits) = pool.options.http else {
            return Err(NoProcess::Failing("the children of this pool do not serve HTTP".to_owned()));
        };
        let need = place.map_or(Need::Http, Need::HttpAt);
        let ticket = pool.tickets.fetch_add(1, Ordering::Relaxed);
        if let Some(lease) = pool.lease(need, ticket)? {
            return Ok(lease);
        }
        let _waiting = pool.wait_for_http(ticket, limits)?;
        let mut over = std::pin::pin!(tokio::time::sleep(limits.wait));
        loop {
            let mut changed = std::pin::pin!(pool.changed.notified());
            changed.as_mut().enable();
            if let Some(lease) = pool.lease(need, ticket)? {
                return Ok(lease);
            }
            tokio::select! {
                () = changed => {}
                () = pool.stopping.cancelled() => return Err(NoProcess::Stopping),
                () = &mut over => return Err(NoProcess::Busy),
            }
        }
    }
}

impl PoolShared {
    /// Shows which places serve HTTP. Under the lock, so that the last change is shown last.
    pub(super) fn publish_places(&self, state: &PoolState) {
        let places = state.http_places();
        self.places.send_if_modified(|shown| std::mem::replace(shown, places) != *shown);
    }

    /// Takes a slot of a child that serves HTTP; `None` when all are busy.
    fn lease(self: &Arc<Self>, need: Need<'_>, ticket: u64) -> Result<Option<HttpLease>, NoProcess> {
        if self.stopping.is_cancelled() {
            return Err(NoProcess::Stopping);
        }
        let rules = self.choice_rules();
        let mut state = self.lock();
        let is_served = |need| state.members.iter().any(|member| member.has(need));
        if !is_served(need) {
            if is_served(Need::Http) {
                return Err(NoProcess::PlaceLost);
            }
            return Err(state.last_error.clone().map_or(NoProcess::Starting, NoProcess::Failing));
        }
        let Some((session, slots, user)) = state.take(need, WANTED, rules, ticket) else {
            return Ok(None);
        };
        let socket = state.member(session.number).and_then(|member| member.http.clone());
        // before the lock is released, so that a child that is closed now waits for this request
        socket.iter().for_each(|socket| socket.begin());
        drop(state);
        let credit = Credit::new(self.clone(), session.number, slots, user);
        Ok(socket.map(|socket| HttpLease { socket, credit }))
    }

    /// Adds a request to those that wait.
    fn wait_for_http(&self, ticket: u64, limits: HttpQueueLimits) -> Result<WaitingPiece<'_>, NoProcess> {
        let mut state = self.lock();
        if state.waiting.len() >= limits.queue {
            return Err(NoProcess::Busy);
        }
        state.waiting.insert(ticket, QueuedWork { affinity: WANTED.affinity, since: Instant::now() });
        drop(state);
        Ok(WaitingPiece { pool: self, ticket })
    }
}
