//! Writes and deletes the open rows of assigned jobs.
//!
//! Owns: which row of a job stands. Never: the shape of a row (`open_row`), or the state of a job.
//!
//! A process that has ended a job may be suspended before it deletes the row, and wake after an operator has run the job
//! again. So a run that an operator begins gets a row of its own, with a new revision, and a row is deleted only at its
//! revision, by a process that knew this revision before it saw the end of the job, or that sees no later run in the row.

use super::open_row::OpenJobRow;
use super::record::{JobState, Record};
use super::stored::StoredJob;
use crate::engine::{Consistency, Entry, Kv, Precondition, Put, Unavailable, WriteError};
use crate::subject::{SubjectToken, job_key};
use crate::wire;
use crate::worker::partition;

/// Maximum size of the metadata of an open row with its record, in bytes: a larger record is read by its worker.
const MAX_ROW: usize = 2 * 1024;

/// How often a write or a deletion is tried while other processes are faster.
const TRIES: usize = 4;

/// The open rows of assigned jobs.
#[derive(Clone)]
pub struct OpenRows {
    store: Kv,
}

/// A row that exists.
struct ExistingRow {
    rev: u64,
    /// The run of the job that the row belongs to.
    retried: u32,
}

impl From<Entry> for ExistingRow {
    fn from(entry: Entry) -> Self {
        let retried = serde_json::from_slice::<OpenJobRow>(&entry.meta).map_or(0, |row| row.retried);
        Self { rev: entry.rev, retried }
    }
}

impl OpenRows {
    pub(super) fn new(store: &Kv) -> Self {
        Self { store: store.clone() }
    }

    /// Writes the open row of an assigned job, which brings the job to the worker that owns the user. An existing row
    /// keeps its position, because only the first write decides the order, unless it belongs to an earlier run: then it
    /// is replaced, because the end of that run may still delete it. Returns whether a row was written.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when it is unknown whether the job has a row of its run.
    pub async fn put(&self, stored: &StoredJob) -> Result<bool, Unavailable> {
        let record = &stored.record;
        let Some(user) = record.owner() else { return Ok(false) };
        let (key, meta) = (open_key(record, &user), row_of(stored, user));
        let mut expect = Precondition::Absent;
        for _ in 0..TRIES {
            let put = Put { meta: meta.clone(), ..Put::new(key.as_str(), "", expect) };
            match self.store.put(put).await {
                Ok(_) => return Ok(true),
                Err(WriteError::Conflict { .. }) if record.retried == 0 => return Ok(false),
                Err(WriteError::Conflict { .. }) => {}
                Err(_) => return Err(Unavailable),
            }
            expect = match self.read(&key).await? {
                Some(row) if row.retried >= record.retried => return Ok(false),
                Some(row) => Precondition::Rev(row.rev),
                None => Precondition::Absent,
            };
        }
        Err(Unavailable)
    }

    /// Deletes the open row of an assigned job that has ended, unless it belongs to a later run. `known` is the revision
    /// of the row that led to the attempt which has ended the job; without one, or when the row was written again since
    /// then, the row is read.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the row may still exist.
    pub(super) async fn delete(&self, record: &Record, known: Option<u64>) -> Result<(), Unavailable> {
        let Some(user) = record.owner() else { return Ok(()) };
        let (key, mut known) = (open_key(record, &user), known);
        for _ in 0..TRIES {
            let rev = match known.take() {
                Some(rev) => rev,
                None => match self.read(&key).await? {
                    Some(row) if row.retried <= record.retried => row.rev,
                    _ => return Ok(()),
                },
            };
            match self.store.delete(&key, Precondition::Rev(rev)).await {
                Ok(()) => return Ok(()),
                Err(WriteError::Conflict { .. }) => {}
                Err(_) => return Err(Unavailable),
            }
        }
        Err(Unavailable)
    }

    async fn read(&self, key: &str) -> Result<Option<ExistingRow>, Unavailable> {
        Ok(self.store.get(key, Consistency::Latest).await?.map(ExistingRow::from))
    }
}

/// Returns the metadata of the row, with the record if it is small and due.
fn row_of(stored: &StoredJob, user: String) -> bytes::Bytes {
    let record = &stored.record;
    let (due, kind, retried) = (record.due, record.kind.clone(), record.retried);
    let bare = OpenJobRow { user, due, kind, retried, job: None };
    let small = record.state == JobState::Queued && record.data.get().len() <= MAX_ROW;
    let whole = small.then(|| wire::encode(&OpenJobRow { job: Some(stored.clone()), ..bare.clone() }));
    whole.filter(|meta| meta.len() <= MAX_ROW).unwrap_or_else(|| wire::encode(&bare))
}

fn open_key(record: &Record, user: &str) -> String {
    job_key::open_job(&record.pool, partition(user), &SubjectToken::new(user), record.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Bucket, Engine, Memory};
    use crate::id::Key;

    /// A job of a user that waits, in its run after so many retries by an operator.
    fn job(retried: u32) -> StoredJob {
        let text = format!(
            r#"{{"id":"{}","kind":"k","data":1,"state":"queued","attempts":0,"retries":0,"affinity":"assigned",
            "pool":"p","lane":"l","user":"ann","created":1,"due":1}}"#,
            Key::from_bits(1)
        );
        let record = Record { retried, ..Record::decode(text.as_bytes()).unwrap() };
        StoredJob { record, rev: 1 }
    }

    fn rows() -> OpenRows {
        OpenRows::new(&Engine::Memory(Memory::new()).kv(Bucket::Jobs))
    }

    /// Returns revision and run of the one row.
    async fn row(rows: &OpenRows) -> Option<(u64, u32)> {
        let row = rows.read(&open_key(&job(0).record, "ann")).await.unwrap()?;
        Some((row.rev, row.retried))
    }

    #[tokio::test]
    async fn a_row_keeps_its_position_until_an_operator_runs_the_job_again() {
        let rows = rows();
        assert_eq!(rows.put(&job(0)).await, Ok(true));
        let first = row(&rows).await.unwrap();
        assert_eq!(rows.put(&job(0)).await, Ok(false));
        assert_eq!(row(&rows).await, Some(first));
        assert_eq!(rows.put(&job(2)).await, Ok(true));
        let second = row(&rows).await.unwrap();
        assert!(second.0 > first.0 && second.1 == 2);
        for late in 0..3 {
            assert_eq!(rows.put(&job(late)).await, Ok(false));
            assert_eq!(row(&rows).await, Some(second));
        }
    }

    #[tokio::test]
    async fn a_deletion_by_an_earlier_run_leaves_the_row_of_a_later_one() {
        let rows = rows();
        for known in [true, false] {
            rows.put(&job(0)).await.unwrap();
            let known = row(&rows).await.map(|(rev, _)| rev).filter(|_| known);
            rows.put(&job(1)).await.unwrap();
            let standing = row(&rows).await;
            assert_eq!(rows.delete(&job(0).record, known).await, Ok(()));
            assert_eq!(row(&rows).await, standing);
            // the second run may begin from the row of the first one
            assert_eq!(rows.delete(&job(1).record, known).await, Ok(()));
            assert_eq!(row(&rows).await, None);
            assert_eq!(rows.delete(&job(1).record, known).await, Ok(()), "nothing is left to delete");
        }
    }
}
