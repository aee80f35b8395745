//! What the parts of one connection know about its requests.
//!
//! Owns: the counts that decide whether a refused head may be answered yet, and who may switch the protocol. hyper owns
//! the stream and the service while it serves a connection, so they and the task of the connection share this value.
//! Never: bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::upgrade::OnUpgrade;

use super::{FramingError, FramingRefusal};

/// Progress of a connection. Every method takes its lock for a few instructions.
#[derive(Debug, Default)]
pub(in crate::edge) struct GuardState(Mutex<GuardProgress>);

#[derive(Debug, Default)]
struct GuardProgress {
    /// Heads that were passed to hyper.
    passed: u64,
    /// Heads of which hyper has made a request.
    begun: u64,
    refusal: Option<FramingRefusal>,
    /// The stream is not followed behind the last passed request.
    is_released: bool,
    /// A response was the last one of the connection.
    is_final: bool,
    /// Keeps hyper's way to hand the stream over, for a request that may not switch the protocol.
    unused_upgrade: Option<OnUpgrade>,
}

impl GuardState {
    /// Records what the stream has passed and refused.
    pub(super) fn record(&self, passed: u64, refusal: Option<FramingRefusal>, is_released: bool) {
        let mut progress = self.lock();
        progress.passed = passed;
        progress.refusal = refusal;
        progress.is_released = is_released;
    }

    /// Counts a request that hyper has made of a head. Returns whether the request may switch the protocol: only the
    /// one behind which the stream is not followed any more.
    pub(in crate::edge) fn begin_request(&self) -> bool {
        let mut progress = self.lock();
        progress.begun += 1;
        progress.is_released && progress.begun == progress.passed
    }

    /// Keeps the upgrade of a request that may not switch the protocol. hyper hands the stream over at the end of such
    /// a connection, even if no response has switched the protocol.
    pub(in crate::edge) fn keep_upgrade(&self, upgrade: OnUpgrade) {
        self.lock().unused_upgrade = Some(upgrade);
    }

    /// Takes the upgrade that was kept last.
    pub(in crate::edge) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.lock().unused_upgrade.take()
    }

    /// Records that a response ends the connection, so that no other response may follow.
    pub(in crate::edge) fn mark_final(&self) {
        self.lock().is_final = true;
    }

    /// Returns why a head or a body was refused.
    pub(in crate::edge) fn refusal(&self) -> Option<FramingError> {
        self.lock().refusal.map(|refusal| refusal.reason)
    }

    /// Returns the refusal of a head when hyper has begun every request before it, so that only their responses are
    /// missing. `None` if a response before it is the last one of the connection.
    pub(in crate::edge) fn answerable_refusal(&self) -> Option<FramingError> {
        let progress = self.lock();
        let is_next = progress.begun == progress.passed && !progress.is_final;
        progress.refusal.filter(|refusal| is_next && !refusal.is_in_body).map(|refusal| refusal.reason)
    }

    fn lock(&self) -> MutexGuard<'_, GuardProgress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
