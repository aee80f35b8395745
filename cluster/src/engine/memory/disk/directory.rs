//! The directory: whose it is, and which files it has.
//!
//! Owns: the lock that keeps a second process out, the name of the store, and the reasons why a directory is refused.
//! Never: what the store holds.
//!
//! The name of the store carries the version of its format, so a newer one is recognised without opening it. The lock
//! file names the process that holds the lock; the system releases it with the process, however that ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError};

/// The version of the format that this build reads and writes.
pub(super) const FORMAT: u32 = 1;
/// Memory is the truth, so the store needs little of it.
const CACHE: usize = 8 * 1024 * 1024;
const LOCK: &str = "lock";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data directory {} is in use by {}", .path.display(), process(*.by))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id, where it said so.
        by: Option<u32>,
    },
    /// It is of a later version.
    #[error(
        "the data directory {} was written by a later version (format {found}, this one reads {FORMAT}); \
         it was left as it is",
        .path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format that was found.
        found: u32,
    },
    /// What is there is damaged, or not ours.
    #[error("the data directory {} cannot be read and was left as it is: {reason}", .path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system refuses it.
    #[error("the data directory {} cannot be used: {source}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

fn process(by: Option<u32>) -> String {
    by.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

/// A directory that is ours while this value lives.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes the directory, creating it if need be.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        // the key ring is in there
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        if let Some(found) = newest_format(path).map_err(io)?.filter(|found| *found > FORMAT) {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        let mut lock = private().truncate(false).open(path.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let by = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { path: path.to_owned(), by });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(io)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Opens the store; an absent one is created. A store gets its name when it is whole, so an empty file of that name
    /// has lost what it held and is refused. What is damaged is found now and not in the middle of the work.
    pub(super) fn open_store(&self) -> Result<Database, DatabaseError> {
        let path = self.path.join(store_name(FORMAT));
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) if file.metadata()?.len() == 0 => {
                let empty = format!(
                    "{} is empty; restore it, or remove it to begin with nothing",
                    store_name(FORMAT)
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, empty).into())
            }
            Ok(file) => open(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let unfinished = self.path.join(format!("{}.new", store_name(FORMAT)));
                let database = open(private().truncate(true).open(&unfinished)?)?;
                std::fs::rename(&unfinished, &path)?;
                File::open(&self.path)?.sync_all()?;
                Ok(database)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn open(file: File) -> Result<Database, DatabaseError> {
    Builder::new()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(FileBackend::new(file)?)
}

/// Readable by their owner alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// The name of the store of a format.
pub(super) fn store_name(format: u32) -> String {
    format!("pagewire.{format}.redb")
}

fn newest_format(path: &Path) -> io::Result<Option<u32>> {
    let mut newest = None;
    for file in std::fs::read_dir(path)? {
        let name = file?.file_name();
        let format = name.to_str().and_then(|name| name.strip_prefix("pagewire.")?.strip_suffix(".redb"));
        newest = newest.max(format.and_then(|format| format.parse().ok()));
    }
    Ok(newest)
}
