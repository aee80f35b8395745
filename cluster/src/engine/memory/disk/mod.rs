//! The durable part of the embedded engine, present when it has a directory.
//!
//! Owns: the order in which steps reach the disk (the order in which they happened), and the operations that
//! wait for it. While the process runs, memory is authoritative and the disk is its journal. Appending a step
//! does not wait. A separate thread (`writer`) takes all waiting steps and appends them to the log as one frame, so
//! that concurrent writers share one fsync. No operation returns and no watch is notified before the data
//! they depend on is on disk. Another thread (`checkpoint`) writes what the log has into the store, some megabytes at a
//! time, where the last change of each row is left of all; a start reads the store, then the log. Never: the meaning of a
//! step.

mod checkpoint;
mod directory;
mod durable;
mod frame;
mod log;
mod pending;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch as channel;

use self::checkpoint::Checkpoints;
use self::directory::Directory;
pub use self::directory::OpenError;
use self::durable::DurableMarks;
use self::log::{Log, LogFiles};
use self::pending::PendingChanges;
use self::store::JournalStore;
pub(super) use self::store::{KeptRow, Loaded};
use self::writer::JournalWriter;
use crate::clock;
use crate::engine::{Bucket, ConnectionState, Entry, Unavailable, WatchEvent, WatchSender};
use crate::timing::Timing;

/// Milliseconds since the Unix epoch, so that times on disk keep their meaning after a restart.
pub(super) type UnixMillis = u64;

/// A stream of steps with an order of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JournalStream {
    /// The rows of a bucket. The marks are the bucket's revisions.
    Bucket(Bucket),
    /// All work items. The marks are counted here.
    Queue,
}

const PLACES: usize = Bucket::ALL.len() + 1;

impl JournalStream {
    const fn index(self) -> usize {
        match self {
            Self::Bucket(bucket) => bucket as usize,
            Self::Queue => Bucket::ALL.len(),
        }
    }
}

/// An unsettled work item, with its due time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredItem {
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) route: String,
    pub(super) payload: Bytes,
    pub(super) due: UnixMillis,
}

/// One change on disk.
#[derive(Debug)]
pub(super) enum JournalChange {
    Put { entry: Entry, expires: Option<UnixMillis> },
    Delete { key: String },
    Item(StoredItem),
    Settled { number: u64 },
}

/// One step of the engine: its changes, and the watches to notify once the changes are on disk.
#[derive(Debug)]
pub(super) struct JournalEntry {
    pub(super) place: JournalStream,
    /// The mark of the stream after this step.
    pub(super) mark: u64,
    pub(super) changes: Vec<JournalChange>,
    pub(super) notifications: Vec<(WatchSender, WatchEvent)>,
}

/// A handle on the disk. Cheap to clone. Dropping the last clone waits until everything is written.
#[derive(Clone)]
pub(super) struct Disk(Arc<DiskInner>);

struct DiskInner {
    /// `None` once the last clone is dropped.
    steps: Option<mpsc::Sender<JournalEntry>>,
    appended: [AtomicU64; PLACES],
    reached: Arc<DurableMarks>,
    timeout: Duration,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Opens a directory, creates it if it is absent, and loads its content. Blocks on disk I/O.
    pub(super) fn open(
        path: &Path,
        timing: &Timing,
        link: Arc<channel::Sender<ConnectionState>>,
    ) -> Result<(Self, Loaded), OpenError> {
        let directory = Directory::take(path)?;
        let files = directory.open_log().map_err(|error| store::at(path, error.into()))?;
        Self::start(JournalStore::new(move || directory.open_store()), files, path, timing, link)
    }

    fn start<O: store::StoreState>(
        mut store: JournalStore<O>,
        files: LogFiles,
        path: &Path,
        timing: &Timing,
        link: Arc<channel::Sender<ConnectionState>>,
    ) -> Result<(Self, Loaded), OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let (loaded, position) =
            store.load(clock::unix_ms(), &files).map_err(|error| store::at(path, error))?;
        let log = Log::new(files, position).map_err(io)?;
        let checkpoints = Checkpoints::start(store).map_err(io)?;
        let marks = std::array::from_fn(|place| loaded.revisions.get(place).copied().unwrap_or_default());
        let (steps, appended) = mpsc::channel();
        let reached = Arc::new(DurableMarks::new(marks));
        let writer = JournalWriter {
            log,
            checkpoints,
            pending: PendingChanges::default(),
            steps: appended,
            reached: reached.clone(),
            link,
            path: path.to_owned(),
        };
        let thread = std::thread::Builder::new()
            .name("pagewire-disk".to_owned())
            .spawn(move || writer.run())
            .map_err(io)?;
        let inner = DiskInner {
            steps: Some(steps),
            appended: marks.map(AtomicU64::new),
            reached,
            timeout: timing.operation,
            thread: Some(thread),
        };
        Ok((Self(Arc::new(inner)), loaded))
    }

    /// Appends a step. The caller holds the lock of the stream, so that the steps arrive here in the stream's
    /// order.
    pub(super) fn append(&self, step: JournalEntry) {
        self.0.appended[step.place.index()].store(step.mark, Ordering::Release);
        if let Some(steps) = &self.0.steps {
            // an error means that the writer has ended; the operations that wait for this step get `Unavailable`
            let _ = steps.send(step);
        }
    }

    /// Appends a change of a work item. The caller holds the lock of the work items.
    pub(super) fn append_item(&self, change: JournalChange) {
        let mark = self.appended(JournalStream::Queue) + 1;
        self.append(JournalEntry {
            place: JournalStream::Queue,
            mark,
            changes: vec![change],
            notifications: Vec::new(),
        });
    }

    /// Returns the mark of the last appended step of a stream.
    pub(super) fn appended(&self, place: JournalStream) -> u64 {
        self.0.appended[place.index()].load(Ordering::Acquire)
    }

    /// Returns [`Unavailable`] if the disk is known to accept no steps.
    pub(super) fn check_writable(&self) -> Result<(), Unavailable> {
        if self.0.reached.is_broken() { Err(Unavailable) } else { Ok(()) }
    }

    /// Waits until a stream is on disk up to a mark. Returns [`Unavailable`] when that may never happen.
    pub(super) async fn reach(&self, place: JournalStream, mark: u64) -> Result<(), Unavailable> {
        self.0.reached.reach(place, mark, self.0.timeout).await
    }
}

impl Drop for DiskInner {
    fn drop(&mut self) {
        self.steps = None;
        if let Some(thread) = self.thread.take() {
            // an error means that the thread panicked, and the panic was reported already
            let _ = thread.join();
        }
    }
}
