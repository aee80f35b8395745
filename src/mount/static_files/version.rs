//! One version of a file on disk.
//!
//! Owns: how a file is recognised as unchanged. Never: its content.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Minimum age of a version. The times of files are not exact: a file that changes twice within some milliseconds can
/// have one time.
const MIN_AGE: Duration = Duration::from_secs(1);

/// A version of the file at a place. What is kept for a version is never used for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mount) struct FileVersion {
    place: PathBuf,
    identity: FileIdentity,
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

impl FileVersion {
    /// Returns the version of a file whose metadata was read before its content. `None`: the file has changed just now,
    /// so that another change might not be seen.
    pub(super) fn of(place: PathBuf, metadata: &Metadata) -> Option<Self> {
        let is_old = last_change(metadata)?.elapsed().is_ok_and(|age| age >= MIN_AGE);
        is_old.then(|| Self { place, identity: FileIdentity::of(metadata) })
    }

    /// Returns the version of the file at a place.
    #[cfg(test)]
    pub(in crate::mount) fn at(place: &Path) -> Option<Self> {
        Self::of(place.to_owned(), &place.metadata().ok()?)
    }

    /// Returns the path of the file.
    pub(in crate::mount) fn place(&self) -> &Path {
        &self.place
    }

    /// Whether the place still has this version. Follows links, and blocks for one `stat`.
    pub(super) fn is_current(&self) -> bool {
        let metadata = self.place.metadata();
        metadata.is_ok_and(|metadata| FileIdentity::of(&metadata) == self.identity)
    }
}

/// Returns when the content, a name or a right of a file changed for the last time.
fn last_change(metadata: &Metadata) -> Option<SystemTime> {
    let nanoseconds = metadata.ctime_nsec().try_into().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(metadata.ctime().try_into().ok()?, nanoseconds))
}
