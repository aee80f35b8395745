//! The store of the simulation, with its faults.

use std::time::Duration;

use super::ledger::Ledger;
use crate::engine::{FaultRng, Precondition, Put, Rows, Unavailable, WatchEvent, WriteError};
use crate::state::record::TreeVersion;
use crate::state::writer::{Found, WriterRequest};

/// The response of the engine.
#[derive(Debug)]
pub(super) enum Reply {
    Read(Result<Found, Unavailable>),
    Written(Result<u64, WriteError>),
}

/// An unacknowledged write that happens later.
struct Late {
    key: String,
    call: WriterRequest,
    /// Number of changes to the key at the time of the call. The write happens only if there was none since, even if
    /// it expects absence.
    seen: usize,
}

pub(super) struct Store {
    rows: Rows,
    now: Duration,
    late: Vec<Late>,
    /// Number of faulty calls in 1000.
    faults: u16,
    /// Events that were not yet queued in the watches.
    pub(super) events: Vec<WatchEvent>,
}

impl Store {
    pub(super) fn with_faults(faults: u16) -> Self {
        Self { rows: Rows::default(), now: Duration::ZERO, late: Vec::new(), faults, events: Vec::new() }
    }

    pub(super) fn read(&self, key: &str) -> Found {
        self.rows.get(key).map(|entry| TreeVersion::decode(&entry).expect("a tree"))
    }

    /// Returns the entries that a new watch starts with.
    pub(super) fn snapshot(&self) -> impl Iterator<Item = WatchEvent> {
        self.rows
            .list("")
            .into_iter()
            .map(|entry| WatchEvent::Put(crate::engine::Entry { value: "".into(), ..entry }))
    }

    pub(super) fn heal(&mut self) {
        self.faults = 0;
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.late.is_empty()
    }

    pub(super) fn call(
        &mut self,
        call: &WriterRequest,
        key: &str,
        rng: &mut FaultRng,
        ledger: &mut Ledger,
    ) -> Reply {
        let faulty = rng.hits(self.faults);
        if *call == WriterRequest::Read {
            return Reply::Read(if faulty && rng.hits(300) { Err(Unavailable) } else { Ok(self.read(key)) });
        }
        if !faulty {
            return Reply::Written(self.write(call, key, ledger));
        }
        Reply::Written(Err(match rng.below(4) {
            0 => WriteError::Down,
            1 => WriteError::Unknown,
            2 => {
                // the write happens, but its response is lost
                let _ = self.write(call, key, ledger);
                WriteError::Unknown
            }
            _ => {
                self.late.push(Late { key: key.to_owned(), call: call.clone(), seen: ledger.changes(key) });
                WriteError::Unknown
            }
        }))
    }

    /// Performs a late write now, if the key was not changed since.
    pub(super) fn land(&mut self, rng: &mut FaultRng, ledger: &mut Ledger) {
        if self.late.is_empty() {
            return;
        }
        let Late { key, call, seen } = self.late.remove(rng.below(self.late.len() as u64) as usize);
        if seen == ledger.changes(&key) {
            let _ = self.write(&call, &key, ledger);
        }
    }

    pub(super) fn pass(&mut self, time: Duration, ledger: &mut Ledger) {
        self.now += time;
        let expired = self.rows.expire(self.now);
        for event in &expired {
            let WatchEvent::Delete { key, .. } = event else { panic!("{event:?}") };
            ledger.forgotten(key, None);
        }
        self.events.extend(expired);
    }

    fn write(&mut self, call: &WriterRequest, key: &str, ledger: &mut Ledger) -> Result<u64, WriteError> {
        match call {
            WriterRequest::Read => panic!("not a write"),
            WriterRequest::Delete { rev } => {
                let event = self.rows.delete(key, Precondition::Rev(*rev))?;
                ledger.forgotten(key, Some(*rev));
                self.events.extend(event);
                Ok(0)
            }
            WriterRequest::Put { expect, op, meta, value, ttl, .. } => {
                let (key, meta, value) = (key.to_owned(), meta.clone(), value.clone());
                let put = Put { key, value, meta, expect: *expect, ttl: *ttl, op: *op };
                let (rev, event) = self.rows.put(put, self.now)?;
                let WatchEvent::Put(entry) = event else { panic!("{event:?}") };
                ledger.written(&entry);
                self.events.push(WatchEvent::Put(crate::engine::Entry { value: "".into(), ..entry }));
                Ok(rev)
            }
        }
    }
}
