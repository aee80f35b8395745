//! The open assigned jobs of a lane in the memory of a worker. Pure.
//!
//! Owns: which job of a user is first, and when a job that waits for its time may begin. Never: who owns a user, or
//! whether a job has ended; the record decides.
//!
//! Jobs that are due are kept per user, in the order of their rows, and apart from the jobs that wait for a time, so
//! that any number of those holds up no other job. A lookup costs the same at any number of rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pagewire_cluster::engine::Entry;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::JobState;
use pagewire_cluster::job::{OpenJobRow, StoredJob};
use pagewire_cluster::subject::job_key;

/// Maximum number of records in memory beside their rows; the worker reads the others before their claims.
const MAX_RECORDS: usize = 16 * 1024;
/// The time that a job without a worker waits for: it comes only with [`OpenJobs::reconsider`].
const ASIDE: u64 = u64::MAX;

/// A row of an open job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenRow {
    pub(crate) id: Key,
    pub(crate) key: String,
    /// Kind of the job; empty in a row of an older release.
    pub(crate) kind: String,
    /// Revision of the row, which decides the order of a user's jobs.
    pub(crate) rev: u64,
}

#[derive(Debug)]
struct Tracked {
    /// The snapshot in which the row was seen last.
    snapshot: u64,
    user: Arc<str>,
    row: OpenRow,
    /// When the job may begin, while it waits for that time.
    waits_until: Option<u64>,
    /// The record that came with the row, until it is used.
    record: Option<Box<StoredJob>>,
}

/// The open jobs of a lane.
#[derive(Debug, Default)]
pub(crate) struct OpenJobs {
    jobs: HashMap<Key, Tracked>,
    /// Jobs that are due, per user and in order. No list is empty.
    due: HashMap<Arc<str>, BTreeMap<u64, Key>>,
    /// Jobs that wait for a time.
    later: BTreeSet<(u64, Key)>,
    /// Number of records in `jobs`.
    records: usize,
    /// Number of snapshots that have begun.
    snapshot: u64,
    /// Whether a snapshot has begun and not ended. Until then an older row of any user may be missing, so no job is due.
    loading: bool,
}

impl OpenJobs {
    /// Adds a row. Returns its user when a job of the user is due; `None` when the added one waits, or for a row of an
    /// unknown shape.
    pub(crate) fn put(&mut self, entry: &Entry, now: u64) -> Option<Arc<str>> {
        let id = job_key::id_of(&entry.key)?;
        let OpenJobRow { user, due, kind, job, .. } = serde_json::from_slice(&entry.meta)
            .inspect_err(|error| tracing::warn!(key = entry.key, %error, "open row of an unknown shape"))
            .ok()?;
        if let Some(tracked) = self.jobs.get_mut(&id).filter(|tracked| tracked.row.rev == entry.rev) {
            tracked.snapshot = self.snapshot;
            let (user, is_due) = (tracked.user.clone(), tracked.waits_until.is_none());
            return Some(user).filter(|user| is_due && self.has(user));
        }
        self.remove(id);
        let user = match self.due.get_key_value(user.as_str()) {
            Some((user, _)) => user.clone(),
            None => user.into(),
        };
        let row = OpenRow { id, key: entry.key.clone(), kind, rev: entry.rev };
        let fits = |job: &StoredJob| {
            job.record.id == id && job.record.state == JobState::Queued && self.records < MAX_RECORDS
        };
        let record = job.filter(fits).map(Box::new);
        self.records += usize::from(record.is_some());
        let (snapshot, waits_until) = (self.snapshot, None);
        // a queued job was due when its row was written: clocks that differ by milliseconds must not put it off
        let waits = due > now && record.is_none();
        self.jobs.insert(id, Tracked { snapshot, user: user.clone(), row, waits_until, record });
        if waits {
            self.wait(id, due);
            return None;
        }
        self.begin(id)
    }

    /// Begins a snapshot: all rows come again.
    pub(crate) fn begin_snapshot(&mut self) {
        self.snapshot += 1;
        self.loading = true;
    }

    /// Ends a snapshot: a row that has not come again is gone, or is not this worker's any more.
    pub(crate) fn end_snapshot(&mut self) {
        self.loading = false;
        let old = |tracked: &Tracked| tracked.snapshot != self.snapshot;
        let gone: Vec<Key> =
            self.jobs.iter().filter(|(_, tracked)| old(tracked)).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// Removes the row with this key. Returns its user, if another job of the user is due.
    pub(crate) fn delete(&mut self, key: &str) -> Option<Arc<str>> {
        let id = job_key::id_of(key)?;
        let user = self.jobs.get(&id).map(|tracked| tracked.user.clone());
        self.remove(id);
        user.filter(|user| self.has(user))
    }

    /// Returns the user of the row with this key, if a job of the user is due.
    pub(crate) fn user_of(&self, key: &str) -> Option<Arc<str>> {
        let user = &self.jobs.get(&job_key::id_of(key)?)?.user;
        self.has(user).then(|| user.clone())
    }

    /// Removes a row, unless its key was written again meanwhile.
    pub(crate) fn forget(&mut self, row: &OpenRow) {
        if self.jobs.get(&row.id).is_some_and(|tracked| tracked.row.rev == row.rev) {
            self.remove(row.id);
        }
    }

    fn remove(&mut self, id: Key) {
        let Some(tracked) = self.jobs.remove(&id) else { return };
        self.records -= usize::from(tracked.record.is_some());
        match tracked.waits_until {
            Some(until) => drop(self.later.remove(&(until, id))),
            None => self.end(&tracked.user, tracked.row.rev),
        }
    }

    /// Lets the job of a row wait until a time, unless its key was written again meanwhile.
    pub(crate) fn put_off(&mut self, row: &OpenRow, until: u64) {
        if self.jobs.get(&row.id).is_some_and(|tracked| tracked.row.rev == row.rev) {
            self.wait(row.id, until);
        }
    }

    /// Lets a job wait until a time.
    fn wait(&mut self, id: Key, until: u64) {
        let Some(tracked) = self.jobs.get_mut(&id) else { return };
        let before = tracked.waits_until.replace(until);
        let (user, rev) = (tracked.user.clone(), tracked.row.rev);
        match before {
            Some(before) => drop(self.later.remove(&(before, id))),
            None => self.end(&user, rev),
        }
        self.later.insert((until, id));
    }

    /// Moves the jobs that are due by now to their positions, and returns their users.
    pub(crate) fn advance(&mut self, now: u64) -> Vec<Arc<str>> {
        let mut users = Vec::new();
        while let Some((until, id)) = self.later.first().copied().filter(|(until, _)| *until <= now) {
            self.later.remove(&(until, id));
            users.extend(self.begin(id));
        }
        users
    }

    /// Returns when the next job that waits is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.later.first().map(|(until, _)| *until).filter(|until| *until != ASIDE)
    }

    /// Returns the first job of a user that is due and has a worker, with that worker. A job without a worker stands
    /// aside, so that it holds up no other one.
    pub(crate) fn first_with(
        &mut self,
        user: &str,
        worker: impl Fn(&OpenRow) -> Option<Key>,
    ) -> Option<(OpenRow, Key)> {
        loop {
            let row = self.first(user)?;
            if let Some(worker) = worker(&row) {
                return Some((row, worker));
            }
            self.wait(row.id, ASIDE);
        }
    }

    /// Lets the jobs that stand aside be due again, because the workers have changed.
    pub(crate) fn reconsider(&mut self) {
        for (_, id) in self.later.split_off(&(ASIDE, Key::from_bits(0))) {
            self.begin(id);
        }
    }

    /// Returns the first job of a user that is due.
    pub(crate) fn first(&self, user: &str) -> Option<OpenRow> {
        let due = self.due.get(user).filter(|_| !self.loading)?;
        let (_, id) = due.first_key_value()?;
        self.jobs.get(id).map(|tracked| tracked.row.clone())
    }

    /// Returns whether a user has a job that is due.
    pub(crate) fn has(&self, user: &str) -> bool {
        !self.loading && self.due.contains_key(user)
    }

    /// Returns the record that came with the row of a job, once: after that the record has to be read.
    pub(crate) fn take_record(&mut self, job: Key) -> Option<StoredJob> {
        let record = self.jobs.get_mut(&job)?.record.take()?;
        self.records -= 1;
        Some(*record)
    }

    /// Returns all users that have a job that is due.
    pub(crate) fn users(&self) -> Vec<Arc<str>> {
        self.due.keys().filter(|user| self.has(user)).cloned().collect()
    }

    /// Lets a job be due. Returns its user when a job of the user is due.
    fn begin(&mut self, id: Key) -> Option<Arc<str>> {
        let tracked = self.jobs.get_mut(&id)?;
        tracked.waits_until = None;
        let user = tracked.user.clone();
        self.due.entry(user.clone()).or_default().insert(tracked.row.rev, id);
        Some(user).filter(|user| self.has(user))
    }

    fn end(&mut self, user: &str, rev: u64) {
        if let Some(due) = self.due.get_mut(user) {
            due.remove(&rev);
            if due.is_empty() {
                self.due.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use pagewire_cluster::engine::OperationId;
    use pagewire_cluster::wire;

    fn entry(id: u128, user: &str, rev: u64, due: u64) -> Entry {
        Entry {
            key: format!("open.p.l.00.{user}.{}", Key::from_bits(id)),
            rev,
            op: OperationId::default(),
            meta: wire::encode(&OpenJobRow {
                user: user.into(),
                due,
                kind: "echo".into(),
                retried: 0,
                job: None,
            }),
            value: bytes::Bytes::new(),
        }
    }

    #[test]
    fn any_number_of_jobs_for_later_hides_no_job_that_is_due() {
        let mut open = OpenJobs::default();
        for id in 0..100_000 {
            assert_eq!(open.put(&entry(id, "ann", id as u64 + 1, 1_000_000), 5), None);
        }
        assert_eq!(open.put(&entry(200_000, "ann", 200_000, 5), 5).as_deref(), Some("ann"));
        assert_eq!(open.first("ann").map(|row| row.id), Some(Key::from_bits(200_000)));
        assert_eq!(open.next_due(), Some(1_000_000));
    }

    #[test]
    fn a_row_keeps_its_shape_and_one_without_a_record_is_read() {
        let row = OpenJobRow { user: "ann".into(), due: 5, kind: "echo".into(), retried: 0, job: None };
        assert_eq!(wire::encode(&row), r#"{"user":"ann","due":5,"kind":"echo"}"#);
        let again = OpenJobRow { retried: 2, ..row };
        assert_eq!(wire::encode(&again), r#"{"user":"ann","due":5,"kind":"echo","retried":2}"#);
        let mut open = OpenJobs::default();
        assert!(open.put(&entry(1, "ann", 1, 5), 5).is_some());
        assert!(open.take_record(Key::from_bits(1)).is_none());
    }

    #[test]
    fn a_row_of_another_shape_is_left_alone() {
        let mut open = OpenJobs::default();
        let foreign = Entry { meta: "7".into(), ..entry(1, "ann", 1, 0) };
        assert_eq!(open.put(&foreign, 5), None);
        let later = Entry { meta: r#"{"user":"ann","due":1,"more":2}"#.into(), ..entry(1, "ann", 1, 0) };
        assert!(open.put(&later, 5).is_some());
        open.delete("open.p.l.00.ann.no-key");
        assert!(open.first("ann").is_some());
    }

    #[test]
    fn a_row_that_does_not_come_again_in_a_snapshot_is_gone() {
        let mut open = OpenJobs::default();
        for id in 1..4 {
            open.put(&entry(id, "ann", id as u64, 0), 5);
        }
        open.begin_snapshot();
        open.put(&entry(2, "ann", 2, 0), 5);
        open.put(&entry(3, "ann", 9, 0), 5);
        assert_eq!(open.first("ann"), None, "the rows before it may still come");
        open.end_snapshot();
        assert_eq!(open.first("ann").map(|row| row.id), Some(Key::from_bits(2)));
        open.delete(&entry(2, "ann", 2, 0).key);
        assert_eq!(open.first("ann").map(|row| row.rev), Some(9));
    }

    #[test]
    fn no_job_is_due_before_the_snapshot_has_ended() {
        let mut open = OpenJobs::default();
        open.begin_snapshot();
        let early = [open.put(&entry(2, "ann", 2, 0), 5), open.put(&entry(3, "ann", 3, 9), 5)];
        assert_eq!((early, open.advance(9), open.users()), ([None, None], vec![], vec![]));
        open.put(&entry(1, "ann", 1, 0), 9);
        open.end_snapshot();
        assert_eq!(open.first("ann").map(|row| row.rev), Some(1), "the older row came last");
    }

    #[test]
    fn a_job_is_not_put_off_by_a_row_that_was_written_again() {
        let mut open = OpenJobs::default();
        open.put(&entry(1, "ann", 1, 0), 5);
        let known = open.first("ann").unwrap();
        open.put(&entry(1, "ann", 2, 0), 5);
        open.put_off(&known, 9);
        let again = open.first("ann").unwrap();
        assert_eq!(again.rev, 2);
        open.put_off(&again, 9);
        assert_eq!((open.first("ann"), open.next_due()), (None, Some(9)));
    }

    #[test]
    fn a_job_without_a_worker_stands_aside_until_the_workers_change() {
        let mut open = OpenJobs::default();
        for id in 1..4 {
            open.put(&entry(id, "ann", id as u64, 0), 5);
        }
        let (worker, first) = (Key::from_bits(9), Key::from_bits(1));
        let served = |row: &OpenRow| (row.id != first).then_some(worker);
        assert_eq!(open.first_with("ann", served).map(|(row, _)| row.rev), Some(2));
        assert_eq!((open.next_due(), open.advance(u64::MAX - 1).len()), (None, 0));
        open.reconsider();
        assert_eq!(open.first_with("ann", |_| Some(worker)).map(|(row, _)| row.rev), Some(1));
        assert_eq!(open.first_with("ann", |_| None), None);
        assert!(open.users().is_empty());
    }

    /// One step: what happens to which of a few jobs, and a number for it.
    fn steps() -> impl Strategy<Value = Vec<(u8, u128, u64)>> {
        prop::collection::vec((0u8..4, 0u128..6, 0u64..40), 0..60)
    }

    proptest! {
        /// Beside a list that is searched as a whole.
        #[test]
        fn the_first_job_of_a_user_is_the_oldest_row_that_is_due(steps in steps()) {
            let mut open = OpenJobs::default();
            let mut rows: Vec<(u128, u64, u64)> = Vec::new();
            let user = |id: u128| if id < 3 { "ann" } else { "bob" };
            let mut now = 0;
            for (rev, (step, id, number)) in (1u64..).zip(steps) {
                match step {
                    0 => {
                        open.put(&entry(id, user(id), rev, number), now);
                        rows.retain(|row| row.0 != id);
                        rows.push((id, rev, number));
                    }
                    1 => {
                        open.delete(&entry(id, user(id), rev, number).key);
                        rows.retain(|row| row.0 != id);
                    }
                    2 => {
                        open.wait(Key::from_bits(id), number);
                        rows.iter_mut().filter(|row| row.0 == id).for_each(|row| row.2 = number);
                    }
                    _ => now = now.max(number),
                }
                open.advance(now);
                for name in ["ann", "bob"] {
                    let due = rows.iter().filter(|row| user(row.0) == name && row.2 <= now);
                    let first = due.min_by_key(|row| row.1).map(|row| Key::from_bits(row.0));
                    prop_assert_eq!(open.first(name).map(|row| row.id), first);
                    prop_assert_eq!(first.is_some(), open.users().iter().any(|user| &**user == name));
                }
                let soonest = rows.iter().map(|row| row.2).filter(|due| *due > now).min();
                prop_assert_eq!(open.next_due(), soonest);
            }
        }
    }
}
