//! Limits the open connections, in total and per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewire_cluster::table;
use tokio::sync::Notify;

/// Reason why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitError {
    /// The node has reached `limits.connections`.
    Full,
    /// The address has reached `limits.connections_per_ip`.
    Share,
}

#[derive(Default)]
struct ConnectionCounts {
    open: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Counts the open connections of a listener and limits them.
pub(super) struct ConnectionLimiter {
    max: usize,
    max_per_source: usize,
    counts: Mutex<ConnectionCounts>,
    left: Notify,
}

/// Permission for one open connection. Dropping it frees the slot.
pub(super) struct Permit {
    limiter: Arc<ConnectionLimiter>,
    source: IpAddr,
}

impl ConnectionLimiter {
    /// A limiter with no open connections.
    pub(super) fn new(max: usize, max_per_source: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_source, counts: Mutex::default(), left: Notify::new() })
    }

    /// Maximum number of open connections.
    pub(super) fn limit(&self) -> usize {
        self.max
    }

    /// Counts a connection from `address` and returns its permit.
    ///
    /// # Errors
    ///
    /// [`LimitError::Full`] when the node has no free slot, [`LimitError::Share`] when the address has none.
    pub(super) fn try_acquire(self: &Arc<Self>, address: IpAddr) -> Result<Permit, LimitError> {
        let source = source(address);
        let mut counts = self.lock();
        if counts.open >= self.max {
            return Err(LimitError::Full);
        }
        let of_source = counts.by_source.entry(source).or_default();
        if *of_source >= self.max_per_source {
            return Err(LimitError::Share);
        }
        *of_source += 1;
        counts.open += 1;
        Ok(Permit { limiter: self.clone(), source })
    }

    /// Returns the number of open connections.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    /// Returns when no connection is open.
    pub(super) async fn wait_until_idle(&self) {
        loop {
            let left = self.left.notified();
            if self.lock().open == 0 {
                return;
            }
            left.await;
        }
    }

    fn leave(&self, source: IpAddr) {
        let mut counts = self.lock();
        counts.open -= 1;
        if let Some(of_source) = counts.by_source.get_mut(&source) {
            *of_source -= 1;
            if *of_source == 0 {
                counts.by_source.remove(&source);
                table::shrink(&mut counts.by_source);
            }
        }
        if counts.open == 0 {
            self.left.notify_waiters();
        }
    }

    /// Every operation leaves the counts consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, ConnectionCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.leave(self.source);
    }
}

/// The unit that is counted as one source: an IPv4 address, or the /64 network of an IPv6 address, because a host can
/// choose any address within it.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_and_a_place_comes_back_when_it_is_left() {
        let limiter = ConnectionLimiter::new(3, 2);
        let first = limiter.try_acquire(ip("10.0.0.1")).ok().unwrap();
        let _second = limiter.try_acquire(ip("10.0.0.1")).ok().unwrap();
        assert_eq!(limiter.try_acquire(ip("10.0.0.1")).err(), Some(LimitError::Share));
        let _other = limiter.try_acquire(ip("10.0.0.2")).ok().unwrap();
        assert_eq!(limiter.try_acquire(ip("10.0.0.3")).err(), Some(LimitError::Full));
        drop(first);
        assert!(limiter.try_acquire(ip("::ffff:10.0.0.1")).is_ok());
        assert_eq!(limiter.lock().by_source.len(), 2, "a source without connections is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_addresses_is_one_source() {
        assert_eq!(source(ip("2001:db8::1")), source(ip("2001:db8::ffff:2")));
        assert_ne!(source(ip("2001:db8::1")), source(ip("2001:db8:0:1::1")));
        assert_eq!(source(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }
}
