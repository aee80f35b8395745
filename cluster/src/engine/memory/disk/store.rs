//! The store: one transactional file of rows, revisions and work items.
//!
//! Owns: the tables and the content of one transaction, and reading the rest from the log at the start. Writing changes is
//! idempotent, so changes with an unknown outcome are written again. Never: the time of writing, or the handling of failures.

use std::io;
use std::path::Path;

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::directory::OpenError;
use super::log::{LogFiles, LogPosition, recover};
use super::pending::PendingChanges;
use super::{JournalChange, StoredItem, UnixMillis};
use crate::engine::{Bucket, Entry, OperationId};

/// `(bucket, key)`
type RowKey = (&'static str, &'static str);
/// `(revision, operation, expires, meta, value)`
type Row = (u64, [u8; 16], Option<UnixMillis>, &'static [u8], &'static [u8]);
/// `(id, route, payload, due)`
type ItemColumns = (&'static str, &'static str, &'static [u8], UnixMillis);

/// The revision of each bucket, stored separately so that it does not decrease when the newest rows are
/// deleted.
const REVISIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revisions");
const ROWS: TableDefinition<'_, RowKey, Row> = TableDefinition::new("rows");
/// Unsettled work items by their numbers.
const WORK_ITEMS: TableDefinition<'_, u64, ItemColumns> = TableDefinition::new("hints");

/// What the store knows of the log: `last` and `salt`.
const LOG: TableDefinition<'_, &str, u64> = TableDefinition::new("log");

/// A row as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::memory) struct KeptRow {
    pub(in crate::engine::memory) bucket: Bucket,
    pub(in crate::engine::memory) entry: Entry,
    pub(in crate::engine::memory) expires: Option<UnixMillis>,
}

/// The complete content of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::engine::memory) struct Loaded {
    /// Revisions in the order of [`Bucket::ALL`].
    pub(in crate::engine::memory) revisions: [u64; Bucket::ALL.len()],
    pub(in crate::engine::memory) rows: Vec<KeptRow>,
    pub(in crate::engine::memory) items: Vec<StoredItem>,
}

/// Returns whether an error means only that the disk is full.
pub(super) fn is_full(error: &redb::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(error, redb::Error::Io(error) if full.contains(&error.kind()))
}

/// Converts an error while opening a directory.
pub(super) fn at(path: &Path, error: redb::Error) -> OpenError {
    let path = path.to_owned();
    // redb reports a file that is not a store, or is truncated, as one of these kinds
    let damaged = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    match error {
        redb::Error::DatabaseAlreadyOpen => OpenError::InUse { path, by: None },
        redb::Error::Io(source) if !damaged.contains(&source.kind()) => OpenError::Io { path, source },
        error => OpenError::Unreadable { path, reason: error.to_string() },
    }
}

/// A function that opens the store file.
pub(super) trait StoreState: Fn() -> Result<Database, DatabaseError> + Send + 'static {}

impl<O: Fn() -> Result<Database, DatabaseError> + Send + 'static> StoreState for O {}

/// The store. After an error the file is opened again, because redb refuses further operations on an open
/// one.
pub(super) struct JournalStore<O> {
    open: O,
    database: Option<Database>,
}

impl<O: StoreState> JournalStore<O> {
    pub(super) fn new(open: O) -> Self {
        Self { open, database: None }
    }

    /// Writes what only the log has, then loads everything and deletes expired rows. Commits a transaction, so that a disk
    /// that accepts no writes is detected at the start. Returns the position from which the log continues: with a new salt,
    /// so that no frame of before is read again.
    pub(super) fn load(
        &mut self,
        now: UnixMillis,
        log: &LogFiles,
    ) -> Result<(Loaded, LogPosition), redb::Error> {
        self.with(|database| load(database, now, log))
    }

    /// Writes the changes up to a frame of the log: all of them or nothing. They are on disk when this returns.
    pub(super) fn write(&mut self, changes: &PendingChanges, last: u64) -> Result<(), redb::Error> {
        self.with(|database| write(database, changes, last))
    }

    fn with<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)()?,
        };
        let done = act(&database)?;
        self.database = Some(database);
        Ok(done)
    }
}

fn load(database: &Database, now: UnixMillis, log: &LogFiles) -> Result<(Loaded, LogPosition), redb::Error> {
    let transaction = database.begin_write()?;
    let position = log_position(&transaction.open_table(LOG)?)?;
    let recovered = recover(log, position)?;
    let mut changes = PendingChanges::default();
    recovered.steps.into_iter().for_each(|step| changes.add(step));
    Tables::open(&transaction)?.write(&changes)?;
    let position = LogPosition { last: recovered.last, salt: rand::random() };
    write_log_position(&mut transaction.open_table(LOG)?, position)?;
    let loaded = Loaded {
        revisions: revisions(&transaction.open_table(REVISIONS)?)?,
        rows: rows(&mut transaction.open_table(ROWS)?, now)?,
        items: items(&transaction.open_table(WORK_ITEMS)?)?,
    };
    transaction.commit()?;
    Ok((loaded, position))
}

fn log_position(table: &impl ReadableTable<&'static str, u64>) -> Result<LogPosition, redb::StorageError> {
    let number = |name| -> Result<u64, redb::StorageError> {
        Ok(table.get(name)?.map(|number| number.value()).unwrap_or_default())
    };
    Ok(LogPosition { last: number("last")?, salt: number("salt")? })
}

fn write_log_position(
    table: &mut Table<'_, &'static str, u64>,
    position: LogPosition,
) -> Result<(), redb::StorageError> {
    table.insert("last", position.last)?;
    table.insert("salt", position.salt)?;
    Ok(())
}

fn revisions(table: &Table<'_, &'static str, u64>) -> Result<[u64; Bucket::ALL.len()], redb::Error> {
    let mut revisions = [0; Bucket::ALL.len()];
    for revision in table.iter()? {
        let (name, revision) = revision?;
        revisions[bucket(name.value())? as usize] = revision.value();
    }
    Ok(revisions)
}

fn rows(table: &mut Table<'_, RowKey, Row>, now: UnixMillis) -> Result<Vec<KeptRow>, redb::Error> {
    // rows of `nodes` are dropped: the lock on the directory proves that every process with a lease in it has
    // ended
    let is_current = |name: &str, expires: Option<UnixMillis>| {
        name != Bucket::Nodes.name() && expires.is_none_or(|expires| expires > now)
    };
    table.retain(|(name, _), (_, _, expires, ..)| is_current(name, expires))?;
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (place, row) = row?;
        let ((name, key), (rev, op, expires, meta, value)) = (place.value(), row.value());
        let (meta, value) = (Bytes::copy_from_slice(meta), Bytes::copy_from_slice(value));
        let entry = Entry { key: key.to_owned(), rev, op: OperationId(op), meta, value };
        rows.push(KeptRow { bucket: bucket(name)?, entry, expires });
    }
    Ok(rows)
}

fn items(table: &Table<'_, u64, ItemColumns>) -> Result<Vec<StoredItem>, redb::Error> {
    let mut items = Vec::new();
    for item in table.iter()? {
        let (number, item) = item?;
        let (id, route, payload, due) = item.value();
        let (id, route, payload) = (id.to_owned(), route.to_owned(), Bytes::copy_from_slice(payload));
        items.push(StoredItem { number: number.value(), id, route, payload, due });
    }
    Ok(items)
}

fn bucket(name: &str) -> Result<Bucket, redb::Error> {
    let known = Bucket::ALL.into_iter().find(|bucket| bucket.name() == name);
    known.ok_or_else(|| redb::Error::Corrupted(format!("there is no bucket {name:?} in this version")))
}

fn write(database: &Database, changes: &PendingChanges, last: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    Tables::open(&transaction)?.write(changes)?;
    transaction.open_table(LOG)?.insert("last", last)?;
    Ok(transaction.commit()?)
}

struct Tables<'t> {
    revisions: Table<'t, &'static str, u64>,
    rows: Table<'t, RowKey, Row>,
    items: Table<'t, u64, ItemColumns>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            revisions: transaction.open_table(REVISIONS)?,
            rows: transaction.open_table(ROWS)?,
            items: transaction.open_table(WORK_ITEMS)?,
        })
    }

    fn write(&mut self, changes: &PendingChanges) -> Result<(), redb::StorageError> {
        let name = |place: usize| Bucket::ALL.get(place).map_or("", |bucket| bucket.name());
        for ((place, key), change) in &changes.rows {
            self.write_change(name(*place), key, change)?;
        }
        for change in changes.items.values() {
            self.write_change("", "", change)?;
        }
        for (place, revision) in changes.revisions.iter().enumerate() {
            if let Some(revision) = revision {
                self.revisions.insert(name(place), revision)?;
            }
        }
        Ok(())
    }

    fn write_change(
        &mut self,
        bucket: &str,
        key: &str,
        change: &JournalChange,
    ) -> Result<(), redb::StorageError> {
        match change {
            JournalChange::Put { entry: Entry { rev, op, meta, value, .. }, expires } => {
                self.rows.insert((bucket, key), (*rev, op.0, *expires, &meta[..], &value[..]))?;
            }
            JournalChange::Delete { .. } => drop(self.rows.remove((bucket, key))?),
            JournalChange::Item(StoredItem { number, id, route, payload, due }) => {
                self.items.insert(number, (id.as_str(), route.as_str(), &payload[..], *due))?;
            }
            JournalChange::Settled { number } => drop(self.items.remove(number)?),
        }
        Ok(())
    }
}
