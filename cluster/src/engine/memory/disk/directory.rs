//! The data directory: its owner and its files.
//!
//! Owns: the lock that keeps a second process out, the name of the store file, and the reasons for refusing a
//! directory. Never: the content of the store.
//!
//! The file name of the store contains the version of its format, so a newer store is recognised without
//! opening it. The lock file contains the id of the process that holds the lock. The system releases the lock
//! when the process ends, for any reason.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError};

use super::log::{LogFile, LogFiles};

/// The version of the format that this build writes.
pub(super) const FORMAT: u32 = 2;
/// The version before it, which has no log; a start turns it into the current one.
const FORMAT_WITHOUT_LOG: u32 = 1;
/// Cache size in bytes. Memory is authoritative, so the store needs only a small cache.
const CACHE: usize = 8 * 1024 * 1024;
const LOCK: &str = "lock";

/// The reason why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error("the data directory {} is in use by {}", .path.display(), process(*.by))]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The id of that process, if the lock file contains it.
        by: Option<u32>,
    },
    /// A later version has written the directory.
    #[error(
        "the data directory {} was written by a later version (format {found}, this one reads {FORMAT}); \
         it was left as it is",
        .path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The version of its format.
        found: u32,
    },
    /// The content is damaged, or is not a Pagewire store.
    #[error("the data directory {} cannot be read and was left as it is: {reason}", .path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// A description of the damage.
        reason: String,
    },
    /// The system reported an error.
    #[error("the data directory {} cannot be used: {source}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

fn process(by: Option<u32>) -> String {
    by.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"))
}

/// A locked data directory. Dropping this value releases the lock.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Locks the directory, and creates it if it is absent.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        // private, because the store contains the key ring
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

    /// Opens the files of the log, and creates them for a store that is new or has none yet. A store of the current format
    /// without them has lost a part of its content and is refused.
    pub(super) fn open_log(&self) -> io::Result<LogFiles> {
        let is_new = !self.path.join(store_name(FORMAT)).exists();
        let open = |number: usize| -> io::Result<Box<dyn LogFile>> {
            let name = log_name(FORMAT, number);
            let file = private().create(is_new).truncate(false).open(self.path.join(&name));
            let missing = |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{name} is missing; restore it"))
                }
                _ => error,
            };
            Ok(Box::new(file.map_err(missing)?))
        };
        let files = [open(0)?, open(1)?];
        if is_new {
            File::open(&self.path)?.sync_all()?;
        }
        Ok(files)
    }

    /// Opens the store, and creates an absent one. A store gets its name when it is complete, so an empty file of that
    /// name has lost its content and is refused. Verifies the integrity, so that damage is found now and not during
    /// operation.
    pub(super) fn open_store(&self) -> Result<Database, DatabaseError> {
        let path = self.path.join(store_name(FORMAT));
        if let Some(database) = self.open_existing(FORMAT)? {
            return Ok(database);
        }
        let (database, before) = match self.open_existing(FORMAT_WITHOUT_LOG)? {
            Some(database) => (database, self.path.join(store_name(FORMAT_WITHOUT_LOG))),
            None => {
                let unfinished = self.path.join(format!("{}.new", store_name(FORMAT)));
                (open(private().truncate(true).open(&unfinished)?)?, unfinished)
            }
        };
        std::fs::rename(&before, &path)?;
        File::open(&self.path)?.sync_all()?;
        Ok(database)
    }

    /// Opens the store of a format; `None` if there is none.
    fn open_existing(&self, format: u32) -> Result<Option<Database>, DatabaseError> {
        let name = store_name(format);
        match OpenOptions::new().read(true).write(true).open(self.path.join(&name)) {
            Ok(file) if file.metadata()?.len() == 0 => {
                let empty = format!("{name} is empty; restore it, or remove it to start without data");
                Err(io::Error::new(io::ErrorKind::InvalidData, empty).into())
            }
            Ok(file) => open(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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

/// Returns options for files that only their owner can read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Returns the file name of the store of a format.
pub(super) fn store_name(format: u32) -> String {
    format!("pagewire.{format}.redb")
}

/// Returns the file name of a file of the log of a format.
pub(super) fn log_name(format: u32, number: usize) -> String {
    format!("pagewire.{format}.log{number}")
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
