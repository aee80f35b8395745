//! The rows of one bucket.
//!
//! Owns: revisions, expectations, expiry, the order of keys and of writes. Pure: no lock, no clock. Times
//! count from an origin that the caller chooses, and the caller calls [`Rows::expire`] with the current time
//! before any other method.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::{
    BatchOp, Entry, MAX_COMMIT, MAX_META, MAX_VALUE, OperationId, Precondition, Put, WatchEvent, WriteError,
};

/// A time, counted from the caller's origin.
pub(super) type Moment = Duration;

#[derive(Debug)]
struct StoredRow {
    rev: u64,
    op: OperationId,
    meta: Bytes,
    value: Bytes,
    expires: Option<Moment>,
}

impl StoredRow {
    fn entry(&self, key: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            rev: self.rev,
            op: self.op,
            meta: self.meta.clone(),
            value: self.value.clone(),
        }
    }
}

/// The rows of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rev: u64,
    by_key: BTreeMap<Arc<str>, StoredRow>,
    by_rev: BTreeMap<u64, Arc<str>>,
    expiries: BTreeSet<(Moment, u64)>,
}

impl Rows {
    /// Creates an empty bucket that continues from this revision.
    pub(super) fn at(rev: u64) -> Self {
        Self { rev, ..Self::default() }
    }

    /// Adds a row from before a restart, at its revision.
    pub(super) fn restore(&mut self, entry: Entry, expires: Option<Moment>) {
        let Entry { key, rev, op, meta, value } = entry;
        self.rev = self.rev.max(rev);
        self.insert(key.into(), StoredRow { rev, op, meta, value, expires });
    }

    /// Returns the revision of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.rev
    }

    /// Returns the expiry of a row, if it has one.
    pub(super) fn expires(&self, key: &str) -> Option<Moment> {
        self.by_key.get(key)?.expires
    }

    /// Removes the rows that expire up to `now`. Returns their deletion events.
    pub(crate) fn expire(&mut self, now: Moment) -> Vec<WatchEvent> {
        let mut events = Vec::new();
        while let Some(&(moment, rev)) = self.expiries.first() {
            if moment > now {
                break;
            }
            self.expiries.pop_first();
            if let Some(key) = self.by_rev.get(&rev).cloned() {
                self.remove(&key);
                events.push(WatchEvent::Delete { key: key.to_string(), expired: Some(true) });
            }
        }
        events
    }

    /// Returns the time of the next expiry.
    pub(super) fn next_expiry(&self) -> Option<Moment> {
        self.expiries.first().map(|(moment, _)| *moment)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.by_key.get(key).map(|row| row.entry(key))
    }

    /// Returns all rows below a prefix, in key order.
    pub(crate) fn list(&self, prefix: &str) -> Vec<Entry> {
        let start = (Bound::Included(prefix), Bound::Unbounded);
        self.by_key
            .range::<str, _>(start)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| is_below(key, prefix))
            .map(|(key, row)| row.entry(key))
            .collect()
    }

    /// Returns the first rows below a prefix that were written after a revision, in revision order.
    pub(super) fn scan(&self, prefix: &str, after_rev: u64, limit: usize) -> Vec<Entry> {
        self.by_rev
            .range((Bound::Excluded(after_rev), Bound::Unbounded))
            .filter(|(_, key)| is_below(key, prefix))
            .filter_map(|(_, key)| self.get(key))
            .take(limit)
            .collect()
    }

    pub(crate) fn put(&mut self, put: Put, now: Moment) -> Result<(u64, WatchEvent), WriteError> {
        legal_put(&put)?;
        self.check(&put.key, put.expect)?;
        let event = self.write(put, now);
        Ok((self.rev, event))
    }

    /// Deletes a key. Returns `None` when the key was absent.
    pub(crate) fn delete(
        &mut self,
        key: &str,
        expect: Precondition,
    ) -> Result<Option<WatchEvent>, WriteError> {
        legal_key(key)?;
        self.check(key, expect)?;
        Ok(self.erase(key))
    }

    /// Applies all steps or none. Returns the bucket's revision after the commit, and the events.
    pub(super) fn commit(
        &mut self,
        batch: Vec<BatchOp>,
        now: Moment,
    ) -> Result<(u64, Vec<WatchEvent>), WriteError> {
        legal_commit(&batch)?;
        for step in &batch {
            let (key, expect) = target(step);
            self.check(key, expect)?;
        }
        let mut events = Vec::new();
        for step in batch {
            events.extend(match step {
                BatchOp::Put(put) => Some(self.write(put, now)),
                BatchOp::Delete { key, .. } => self.erase(&key),
                BatchOp::Check { .. } => None,
            });
        }
        Ok((self.rev, events))
    }

    fn check(&self, key: &str, expect: Precondition) -> Result<(), WriteError> {
        let actual = self.by_key.get(key).map(|row| row.rev);
        let holds = match expect {
            Precondition::Any => true,
            Precondition::Absent => actual.is_none(),
            Precondition::Rev(rev) => actual == Some(rev),
        };
        if holds { Ok(()) } else { Err(WriteError::Conflict { actual }) }
    }

    fn write(&mut self, put: Put, now: Moment) -> WatchEvent {
        let key = self.remove(&put.key).unwrap_or_else(|| put.key.into());
        self.rev += 1;
        let expires = put.ttl.map(|ttl| now.saturating_add(ttl));
        let row = StoredRow { rev: self.rev, op: put.op, meta: put.meta, value: put.value, expires };
        let event = WatchEvent::Put(row.entry(&key));
        self.insert(key, row);
        event
    }

    /// Inserts a row. The key must be absent.
    fn insert(&mut self, key: Arc<str>, row: StoredRow) {
        if let Some(moment) = row.expires {
            self.expiries.insert((moment, row.rev));
        }
        self.by_rev.insert(row.rev, key.clone());
        self.by_key.insert(key, row);
    }

    /// Deletes a key. The deletion takes a revision too, so that every write has its own revision.
    fn erase(&mut self, key: &str) -> Option<WatchEvent> {
        self.remove(key)?;
        self.rev += 1;
        Some(WatchEvent::Delete { key: key.to_owned(), expired: Some(false) })
    }

    fn remove(&mut self, key: &str) -> Option<Arc<str>> {
        let (key, row) = self.by_key.remove_entry(key)?;
        self.by_rev.remove(&row.rev);
        if let Some(moment) = row.expires {
            self.expiries.remove(&(moment, row.rev));
        }
        Some(key)
    }
}

/// Returns whether a key is below a prefix. Prefixes end at the end of a token: `a` and `a.` both match the
/// keys `a.…`, and neither matches `ab`.
pub(super) fn is_below(key: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('.').unwrap_or(prefix);
    prefix.is_empty() || key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
}

/// Returns whether a key is legal: tokens of `[-/_=a-zA-Z0-9]` joined by dots, no empty token. Ids and routes
/// of the queue follow the same rule.
pub(super) fn is_legal(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=".contains(&byte);
    key.split('.').all(|token| !token.is_empty() && token.bytes().all(allowed))
}

fn legal_key(key: &str) -> Result<(), WriteError> {
    if is_legal(key) { Ok(()) } else { Err(WriteError::Invalid) }
}

fn legal_put(put: &Put) -> Result<(), WriteError> {
    let ttl = put.ttl.is_none_or(|ttl| ttl.as_secs() >= 1 && ttl.subsec_nanos() == 0);
    if ttl && put.value.len() <= MAX_VALUE && put.meta.len() <= MAX_META {
        legal_key(&put.key)
    } else {
        Err(WriteError::Invalid)
    }
}

/// Checks the limits of a batch that do not depend on the rows.
pub(in crate::engine) fn legal_commit(batch: &[BatchOp]) -> Result<(), WriteError> {
    if batch.len() > MAX_COMMIT {
        return Err(WriteError::Invalid);
    }
    let mut keys = BTreeSet::new();
    for step in batch {
        if let BatchOp::Put(put) = step {
            legal_put(put)?;
        }
        let (key, _) = target(step);
        legal_key(key)?;
        if !keys.insert(key) {
            return Err(WriteError::Invalid);
        }
    }
    Ok(())
}

fn target(step: &BatchOp) -> (&str, Precondition) {
    match step {
        BatchOp::Put(put) => (&put.key, put.expect),
        BatchOp::Delete { key, expect } => (key, *expect),
        BatchOp::Check { key, rev } => (key, Precondition::Rev(*rev)),
    }
}

#[cfg(test)]
mod tests;
