//! The durable part of the embedded engine, present when it has a directory.
//!
//! Owns: the order in which steps reach the disk (the order in which they happened), and the operations that
//! wait for it. While the process runs, memory is authoritative and the disk is its journal. Appending a step
//! does not wait. A separate thread (`writer`) takes all waiting steps and writes them in one transaction, so
//! that concurrent writers share one fsync. No operation returns and no watch is notified before the data
//! they depend on is on disk. Never: the meaning of a step.

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

/// Milliseconds since the Unix epoch, so that times on disk keep their meaning after a restart.
pub(super) type Wall = u64;

/// Returns the wall clock time.
pub(super) fn wall() -> Wall {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Wall)
}

/// A stream of steps with an order of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The rows of a bucket. The marks are the bucket's revisions.
    Bucket(Bucket),
    /// All work items. The marks are counted here.
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

/// One step of the engine: its changes, and the watches to notify once the changes are on disk.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) place: Place,
    /// The mark of the stream after this step.
    pub(super) mark: u64,
    pub(super) changes: Vec<Change>,
    pub(super) notices: Vec<(Watcher, WatchEvent)>,
}

/// The mark up to which each stream is on disk, and whether the disk accepts more steps.
#[derive(Debug, Clone, Default)]
struct Reached {
    marks: [u64; PLACES],
    broken: bool,
}

/// A handle on the disk. Cheap to clone. Dropping the last clone waits until everything is written.
#[derive(Clone)]
pub(super) struct Disk(Arc<Inner>);

struct Inner {
    /// `None` once the last clone is dropped.
    steps: Option<mpsc::Sender<Step>>,
    appended: [AtomicU64; PLACES],
    reached: channel::Receiver<Reached>,
    patience: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Opens a directory, creates it if it is absent, and loads its content. Blocks on disk I/O.
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

    /// Appends a step. The caller holds the lock of the stream, so that the steps arrive here in the stream's
    /// order.
    pub(super) fn append(&self, step: Step) {
        self.0.appended[step.place.index()].store(step.mark, Ordering::Release);
        if let Some(steps) = &self.0.steps {
            // an error means that the writer has ended; the operations that wait for this step get `Down`
            let _ = steps.send(step);
        }
    }

    /// Appends a change of a work item. The caller holds the lock of the work items.
    pub(super) fn append_hint(&self, change: Change) {
        let mark = self.appended(Place::Queue) + 1;
        self.append(Step { place: Place::Queue, mark, changes: vec![change], notices: Vec::new() });
    }

    /// Returns the mark of the last appended step of a stream.
    pub(super) fn appended(&self, place: Place) -> u64 {
        self.0.appended[place.index()].load(Ordering::Acquire)
    }

    /// Returns `Down` if the disk is known to accept no steps.
    pub(super) fn takes_steps(&self) -> Result<(), Down> {
        let closed = self.0.reached.has_changed().is_err();
        if closed || self.0.reached.borrow().broken { Err(Down) } else { Ok(()) }
    }

    /// Waits until a stream is on disk up to a mark. Returns `Down` when that may never happen.
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
            // an error means that the thread panicked, and the panic was reported already
            let _ = thread.join();
        }
    }
}
