//! The state of a watch: the revision of every existing key.
//!
//! Owns: the difference between the events that the reader received and those that a new consumer yields.
//! Synchronous. Never: communication with NATS.
//!
//! Avoids: the server removes the marker of a deletion after a while, so a reader that was cut off for longer never
//! receives the deletion from a consumer.

use std::collections::HashMap;

use super::headers::Marker;
use crate::engine::{Entry, WatchEvent};
use crate::table;

/// The identity and position of a stream, as its leader reports them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StreamPosition {
    pub(super) created: String,
    pub(super) last_seq: u64,
}

/// The revision of each key and nothing else, because 10,000 rows must take less than 1 MB.
#[derive(Default)]
pub(super) struct KnownKeys {
    known: HashMap<Box<str>, u64>,
    /// Keys known before the restart that the new consumer has not yielded yet.
    unseen: HashMap<Box<str>, u64>,
    created: String,
    highest: u64,
    live: bool,
}

impl KnownKeys {
    /// Prepares for a new consumer, which yields everything again. If the stream was replaced or has lost
    /// messages that were seen, its revisions count anew, so the known revisions are reset to 0 and order
    /// nothing.
    pub(super) fn restart(&mut self, position: &StreamPosition) {
        let lost = position.created != self.created || position.last_seq < self.highest;
        self.unseen.extend(std::mem::take(&mut self.known));
        if lost {
            self.unseen.values_mut().for_each(|rev| *rev = 0);
            self.highest = 0;
            self.created.clone_from(&position.created);
        }
    }

    /// Applies an existing entry. Returns no event when the reader knows this revision or a newer one,
    /// because a replica may be behind.
    pub(super) fn put(&mut self, entry: Entry) -> Option<WatchEvent> {
        self.highest = self.highest.max(entry.rev);
        let (key, before) = match self.unseen.remove_entry(entry.key.as_str()) {
            Some((key, rev)) => (key, Some(rev)),
            None => (entry.key.as_str().into(), self.known.get(entry.key.as_str()).copied()),
        };
        let newer = before.is_none_or(|before| before < entry.rev);
        self.known.insert(key, before.unwrap_or(0).max(entry.rev));
        newer.then_some(WatchEvent::Put(entry))
    }

    /// Applies the deletion of a key at a sequence.
    pub(super) fn delete(&mut self, key: &str, seq: u64, marker: Marker) -> Option<WatchEvent> {
        self.highest = self.highest.max(seq);
        let (key, rev) = self.unseen.remove_entry(key).or_else(|| self.known.remove_entry(key))?;
        if rev > seq {
            self.known.insert(key, rev);
            return None;
        }
        table::shrink(&mut self.known);
        Some(WatchEvent::Delete { key: key.into(), expired: Some(marker.expired) })
    }

    /// Returns the known keys that the new consumer did not yield, for use after it has yielded everything.
    pub(super) fn unseen(&self) -> Vec<String> {
        self.unseen.keys().map(|key| key.to_string()).collect()
    }

    /// Removes an unseen key that is absent at the leader: the key was deleted, and its delete marker has
    /// expired.
    pub(super) fn forget(&mut self, key: &str) -> Option<WatchEvent> {
        let (key, _) = self.unseen.remove_entry(key)?;
        Some(WatchEvent::Delete { key: key.into(), expired: None })
    }

    /// Returns `Live` once, after all existing entries were yielded.
    pub(super) fn live(&mut self) -> Option<WatchEvent> {
        table::shrink(&mut self.unseen);
        (!std::mem::replace(&mut self.live, true)).then_some(WatchEvent::Live)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::OperationId;

    fn entry(key: &str, rev: u64) -> Entry {
        Entry {
            key: key.to_owned(),
            rev,
            op: OperationId::default(),
            meta: Default::default(),
            value: Default::default(),
        }
    }

    /// Applies an event to a reader's view.
    fn apply(reader: &mut BTreeMap<String, u64>, event: Option<WatchEvent>) {
        match event {
            Some(WatchEvent::Put(entry)) => drop(reader.insert(entry.key, entry.rev)),
            Some(WatchEvent::Delete { key, .. }) => {
                assert!(reader.remove(&key).is_some(), "a deletion of what the reader does not know")
            }
            Some(WatchEvent::Live) | None => {}
        }
    }

    /// Simulates a whole consumer: every entry and delete marker, then the leader's state of the unseen keys.
    fn consume(
        held: &mut KnownKeys,
        reader: &mut BTreeMap<String, u64>,
        truth: &BTreeMap<String, (u64, bool)>,
    ) {
        for (key, (rev, present)) in truth {
            let event = if *present {
                held.put(entry(key, *rev))
            } else {
                held.delete(key, *rev, Marker { expired: false })
            };
            apply(reader, event);
        }
        for key in held.unseen() {
            apply(reader, held.forget(&key));
        }
    }

    proptest! {
        #[test]
        fn a_reader_knows_what_stands_whatever_was_missed(
            rounds in prop::collection::vec(prop::collection::vec((0..6_u8, 0..3_u8), 0..12), 1..6)
        ) {
            let (mut held, mut reader, mut truth) = (KnownKeys::default(), BTreeMap::new(), BTreeMap::new());
            let mut seq = 0;
            for missed in rounds {
                for (key, what) in missed {
                    seq += 1;
                    let key = format!("k{key}");
                    match what {
                        0 => drop(truth.insert(key, (seq, true))),
                        1 => drop(truth.insert(key, (seq, false))),
                        // the delete marker has expired as well
                        _ => drop(truth.remove(&key)),
                    }
                }
                held.restart(&StreamPosition { created: "c".to_owned(), last_seq: seq });
                consume(&mut held, &mut reader, &truth);
                let present: BTreeMap<String, u64> =
                    truth.iter().filter(|(_, (_, present))| *present).map(|(k, (rev, _))| (k.clone(), *rev)).collect();
                prop_assert_eq!(&reader, &present);
            }
        }
    }

    #[test]
    fn a_replica_that_is_behind_takes_nothing_back() {
        let mut held = KnownKeys::default();
        let position = StreamPosition { created: "c".to_owned(), last_seq: 9 };
        held.restart(&position);
        assert!(held.put(entry("k", 9)).is_some());
        held.restart(&position);
        assert_eq!(held.put(entry("k", 5)), None);
        assert_eq!(held.delete("k", 6, Marker { expired: true }), None);
        assert_eq!(held.unseen(), Vec::<String>::new());
        assert!(held.delete("k", 10, Marker { expired: true }).is_some());
    }

    #[test]
    fn a_stream_that_lost_its_past_is_believed() {
        let mut held = KnownKeys::default();
        held.restart(&StreamPosition { created: "old".to_owned(), last_seq: 100 });
        for key in ["a", "b"] {
            held.put(entry(key, 100));
        }
        for position in [("old", 3), ("new", 200)] {
            held.restart(&StreamPosition { created: position.0.to_owned(), last_seq: position.1 });
            assert!(held.put(entry("a", 2)).is_some(), "{position:?}");
        }
    }

    #[test]
    fn live_is_told_once() {
        let mut held = KnownKeys::default();
        assert_eq!(held.live(), Some(WatchEvent::Live));
        assert_eq!(held.live(), None);
    }
}
