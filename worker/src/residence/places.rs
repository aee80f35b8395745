//! The places of the objects of a worker, by page.
//!
//! Owns: one lock for each page that has an object or gets one. Never: what is done under it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::id::Key;
use pagewire_cluster::worker::WorkerId;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use super::identity::PageIdentity;
use crate::object::Seat;

/// An object that lives here.
pub(super) struct LivingObject {
    pub(super) of: PageIdentity,
    pub(super) seat: Seat,
    /// The incarnation of the worker that has made it.
    pub(super) worker: WorkerId,
    pub(super) term: u64,
    /// Revision of its row.
    pub(super) rev: u64,
    /// When its row was written, on the clock of this process.
    pub(super) written: Duration,
    is_away: AtomicBool,
    /// When it was used last, in milliseconds on the clock of this process.
    used: AtomicU64,
}

/// The place of an object, held alone.
pub(super) type HeldPlace = OwnedRwLockWriteGuard<Option<LivingObject>>;

type Place = Arc<RwLock<Option<LivingObject>>>;

/// See the module.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<Key, Place>>);

impl LivingObject {
    pub(super) fn new(of: PageIdentity, seat: Seat, worker: WorkerId, term: u64) -> Self {
        let now = clock::boot();
        let (is_away, used) = (AtomicBool::new(false), AtomicU64::new(now.as_millis() as u64));
        Self { of, seat, worker, term, rev: term, written: now, is_away, used }
    }

    /// Records that it is used now.
    pub(super) fn touch(&self) {
        self.used.store(clock::boot().as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns how long it was not used.
    pub(super) fn unused(&self) -> Duration {
        clock::boot().saturating_sub(Duration::from_millis(self.used.load(Ordering::Relaxed)))
    }

    /// Returns whether its page is without a socket, as far as it was told.
    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// Records whether its page is without a socket. Returns what was known before.
    pub(super) fn set_away(&self, is_away: bool) -> bool {
        self.is_away.swap(is_away, Ordering::Relaxed)
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the place of a page.
    pub(super) fn of(&self, page: Key) -> Place {
        self.lock().entry(page).or_default().clone()
    }

    /// Returns all pages with a place.
    pub(super) fn pages(&self) -> Vec<Key> {
        self.lock().keys().copied().collect()
    }

    /// Returns the places that are not in use at the moment, each held alone, of objects that `select` names.
    pub(super) fn unused(&self, select: impl Fn(&LivingObject) -> bool) -> Vec<(Key, Duration)> {
        let places = self.lock();
        let unused = places.iter().filter_map(|(page, place)| {
            let object = place.try_write().ok()?;
            let living = object.as_ref().filter(|living| select(living))?;
            Some((*page, living.unused()))
        });
        unused.collect()
    }

    /// Gives a place back, which is forgotten when it is empty and not waited for.
    pub(super) fn release(&self, page: Key, place: HeldPlace) {
        let is_empty = place.is_none();
        drop(place);
        let mut places = self.lock();
        // nothing but this map refers to it
        if is_empty && places.get(&page).is_some_and(|place| Arc::strong_count(place) == 1) {
            places.remove(&page);
        }
    }
}
