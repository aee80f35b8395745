//! Small files that were served a moment ago, in memory.
//!
//! Owns: when such a file may be served again without a search. Never: the search (`folder`), or the answer.
//!
//! A search costs four times as much as sending a small file, mostly because it happens on another thread. A file that
//! was found less than [`KEEP`] ago is served from memory if one `stat` says that its place has the same file,
//! unchanged. That `stat` happens on the thread of the request: the kernel knows the place from the search. What it
//! does not see, such as a new precompressed neighbour, is seen after [`KEEP`].

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::HeaderMap;

use super::backend::OneFile;
use crate::mount::coding::Coding;

/// How long a file is served without a search.
const KEEP: Duration = Duration::from_secs(1);
/// Minimum age of a file in memory. The times of files are not exact: a file that changes twice within some
/// milliseconds can have one time.
const MIN_AGE: Duration = Duration::from_secs(1);
/// Maximum bytes of the files of a folder in memory.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// A file in memory.
#[derive(Debug)]
pub(super) struct RecentFile {
    /// The file.
    pub(super) file: OneFile,
    /// The headers of the whole file.
    pub(super) headers: HeaderMap,
    place: PathBuf,
    identity: FileIdentity,
    codings: Vec<Coding>,
    found: Instant,
}

/// What changes when a place gets another file or the file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// A program can set the time of modification, but not this one.
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl RecentFile {
    /// A file that was found now for a client that accepts the codings. `None`: it may not be kept, because it is not
    /// in memory or has changed just now.
    pub(super) fn new(
        file: OneFile,
        place: PathBuf,
        codings: Vec<Coding>,
        headers: HeaderMap,
    ) -> Option<Self> {
        let metadata = &file.file().metadata;
        let is_old = last_change(metadata)?.elapsed().is_ok_and(|age| age >= MIN_AGE);
        let identity = FileIdentity::of(metadata);
        (is_old && file.in_memory().is_some()).then(|| Self {
            file,
            headers,
            place,
            identity,
            codings,
            found: Instant::now(),
        })
    }

    fn size(&self) -> usize {
        self.file.in_memory().map_or(0, |content| content.len())
    }

    fn is_current(&self) -> bool {
        let metadata = self.place.metadata();
        metadata.is_ok_and(|metadata| FileIdentity::of(&metadata) == self.identity)
    }
}

/// Returns when the content, a name or a right of a file changed for the last time.
fn last_change(metadata: &Metadata) -> Option<SystemTime> {
    let nanoseconds = metadata.ctime_nsec().try_into().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(metadata.ctime().try_into().ok()?, nanoseconds))
}

/// The small files of a folder that were served a moment ago, by the raw path of the request.
#[derive(Debug, Default)]
pub(super) struct RecentFiles(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// One file for each order of codings that clients ask for.
    by_path: HashMap<String, Vec<Arc<RecentFile>>>,
    bytes: usize,
}

impl RecentFiles {
    /// Returns the file of a path for a client that accepts the codings, if it is still the same.
    pub(super) fn get(&self, path: &str, codings: &[Coding]) -> Option<Arc<RecentFile>> {
        let found = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.by_path.get(path)?.iter().find(|file| file.codings == codings)?.clone()
        };
        (found.found.elapsed() < KEEP && found.is_current()).then_some(found)
    }

    /// Keeps a file, if there is space after files that are not recent have been removed.
    pub(super) fn insert(&self, path: &str, file: RecentFile) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + file.size() > MAX_BYTES {
            kept.retain(|file| file.found.elapsed() < KEEP);
        }
        if kept.bytes + file.size() <= MAX_BYTES {
            kept.insert(path, file);
        }
    }
}

impl Kept {
    fn insert(&mut self, path: &str, file: RecentFile) {
        self.bytes += file.size();
        let files = self.by_path.entry(path.to_owned()).or_default();
        match files.iter_mut().find(|before| before.codings == file.codings) {
            Some(before) => {
                self.bytes -= before.size();
                *before = Arc::new(file);
            }
            None => files.push(Arc::new(file)),
        }
    }

    fn retain(&mut self, keeps: impl Fn(&RecentFile) -> bool) {
        self.by_path.retain(|_, files| {
            files.retain(|file| keeps(file));
            !files.is_empty()
        });
        self.bytes = self.by_path.values().flatten().map(|file| file.size()).sum();
    }
}
