//! What the embedded engine keeps over restarts, when it has a directory.
//!
//! Owns: the order in which steps reach the disk (the order in which they happened), and who waits for that. Memory
//! stays the truth while the process runs; this is its journal. Steps are appended without waiting. A thread of its
//! own (`writer`) takes all that wait and writes them in one transaction, so that writers share one fsync. Nothing is
//! answered, and no watch is told, before what it rests on is on disk. Never: what a step means.

mod directory;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch as channel;
use tokio::time::timeout;

use self::directory::Directory;
pub use self::directory::OpenError;
use self::store::Store;
pub(super) use self::store::{KeptHint, KeptRow, Loaded};
use self::writer::Writer;
use crate::engine::{Bucket, Down, Entry, Link, WatchEvent, Watcher};
use crate::timing::Timing;

/// Milliseconds since the Unix epoch: what stands on disk means the same after a restart.
pub(super) type Wall = u64;

/// The wall clock now.
pub(super) fn wall() -> Wall {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Wall)
}

/// What has an order of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The rows of a bucket. Its marks are its revisions.
    Bucket(Bucket),
    /// All hints. Its marks are counted here.
    Queue,
}

const PLACES: usize = Bucket::ALL.len() + 1;

impl Place {
    const fn index(self) -> usize {
        match self {
            Self::Bucket(bucket) => bucket as usize,
            Self::Queue => Bucket::ALL.len(),
        }
    }
}

/// One change on disk.
#[derive(Debug)]
pub(super) enum Change {
    Put { entry: Entry, expires: Option<Wall> },
    Delete { key: String },
    Hint(KeptHint),
    Settled { number: u64 },
}

/// One step of the engine: what it changed, and who hears of it once it is on disk.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) place: Place,
    /// Where the place is after it.
    pub(super) mark: u64,
    pub(super) changes: Vec<Change>,
    pub(super) notices: Vec<(Watcher, WatchEvent)>,
}

/// How far each place is on disk, and whether the disk takes more.
#[derive(Debug, Clone, Default)]
struct Reached {
    marks: [u64; PLACES],
    broken: bool,
}

/// The way to the disk. Cheap to clone; the last clone waits until everything is written.
#[derive(Clone)]
pub(super) struct Disk(Arc<Inner>);

struct Inner {
    /// `None` once the last clone is gone.
    steps: Option<mpsc::Sender<Step>>,
    appended: [AtomicU64; PLACES],
    reached: channel::Receiver<Reached>,
    patience: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Opens a directory, creating it, and reads what it keeps. Waits for the disk.
    pub(super) fn open(
        path: &Path,
        timing: &Timing,
        link: Arc<channel::Sender<Link>>,
    ) -> Result<(Self, Loaded), OpenError> {
        let directory = Directory::take(path)?;
        Self::start(Store::new(move || directory.open_store()), path, timing, link)
    }

    fn start<O: store::Open>(
        mut store: Store<O>,
        path: &Path,
        timing: &Timing,
        link: Arc<channel::Sender<Link>>,
    ) -> Result<(Self, Loaded), OpenError> {
        let loaded = store.load(wall()).map_err(|error| store::at(path, error))?;
        let marks = std::array::from_fn(|place| loaded.revisions.get(place).copied().unwrap_or_default());
        let (steps, appended) = mpsc::channel();
        let (progress, reached) = channel::channel(Reached { marks, broken: false });
        let writer = Writer { store, steps: appended, reached: progress, link, path: path.to_owned() };
        let thread = std::thread::Builder::new()
            .name("pagewire-disk".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let inner = Inner {
            steps: Some(steps),
            appended: marks.map(AtomicU64::new),
            reached,
            patience: timing.operation,
            thread: Some(thread),
        };
        Ok((Self(Arc::new(inner)), loaded))
    }

    /// Hands a step over. Called under the lock of its place, so that the order here is the order there.
    pub(super) fn append(&self, step: Step) {
        self.0.appended[step.place.index()].store(step.mark, Ordering::Release);
        if let Some(steps) = &self.0.steps {
            // an error: the writer is gone, and whoever waits for this step is told so
            let _ = steps.send(step);
        }
    }

    /// The same for hints. Called under their lock.
    pub(super) fn append_hint(&self, change: Change) {
        let mark = self.appended(Place::Queue) + 1;
        self.append(Step { place: Place::Queue, mark, changes: vec![change], notices: Vec::new() });
    }

    /// The mark of the last step of a place.
    pub(super) fn appended(&self, place: Place) -> u64 {
        self.0.appended[place.index()].load(Ordering::Acquire)
    }

    /// Whether the disk takes steps, as far as is known.
    pub(super) fn takes_steps(&self) -> Result<(), Down> {
        let closed = self.0.reached.has_changed().is_err();
        if closed || self.0.reached.borrow().broken { Err(Down) } else { Ok(()) }
    }

    /// Returns when a place is on disk up to a mark; `Down` when that may never happen.
    pub(super) async fn reach(&self, place: Place, mark: u64) -> Result<(), Down> {
        let is_kept = |reached: &Reached| reached.marks[place.index()] >= mark;
        if is_kept(&self.0.reached.borrow()) {
            return Ok(());
        }
        let mut reached = self.0.reached.clone();
        let change = reached.wait_for(|reached| is_kept(reached) || reached.broken);
        match timeout(self.0.patience, change).await {
            Ok(Ok(reached)) if is_kept(&reached) => Ok(()),
            _ => Err(Down),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.steps = None;
        if let Some(thread) = self.thread.take() {
            // an error: it panicked, and has said so
            let _ = thread.join();
        }
    }
}
