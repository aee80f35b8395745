//! What a watch knows: the revision of every key that stands.
//!
//! Owns: the difference between what its reader was told and what a new consumer yields. Plain and synchronous.
//! Never: talks to NATS.

use std::collections::HashMap;

use super::headers::Marker;
use crate::engine::{Entry, WatchEvent};

/// Which stream, and how far it is, by its leader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) created: String,
    pub(super) last_seq: u64,
}

/// A revision per key and nothing else: 10,000 rows must stay below 1 MB.
#[derive(Default)]
pub(super) struct Held {
    known: HashMap<Box<str>, u64>,
    /// Known before the restart and not seen since.
    unseen: HashMap<Box<str>, u64>,
    created: String,
    highest: u64,
    live: bool,
}

impl Held {
    /// Everything will be yielded again. A stream that is another one, or has lost what we have seen, counts
    /// its revisions anew: then none of ours orders anything.
    pub(super) fn restart(&mut self, origin: &Origin) {
        let lost = origin.created != self.created || origin.last_seq < self.highest;
        self.unseen.extend(std::mem::take(&mut self.known));
        if lost {
            self.unseen.values_mut().for_each(|rev| *rev = 0);
            self.highest = 0;
            self.created.clone_from(&origin.created);
        }
    }

    /// A key stands. Nothing to tell when it is what the reader knows, or older: a replica may be behind.
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

    /// A key was deleted at a revision.
    pub(super) fn delete(&mut self, key: &str, seq: u64, marker: Marker) -> Option<WatchEvent> {
        self.highest = self.highest.max(seq);
        let (key, rev) = self.unseen.remove_entry(key).or_else(|| self.known.remove_entry(key))?;
        if rev > seq {
            self.known.insert(key, rev);
            return None;
        }
        Some(WatchEvent::Delete { key: key.into(), expired: Some(marker.expired) })
    }

    /// The keys that the new consumer did not yield, although it is through.
    pub(super) fn unseen(&self) -> Vec<String> {
        self.unseen.keys().map(|key| key.to_string()).collect()
    }

    /// The leader has nothing under an unseen key: it was deleted, and so was the mark of its deletion.
    pub(super) fn forget(&mut self, key: &str) -> Option<WatchEvent> {
        let (key, _) = self.unseen.remove_entry(key)?;
        Some(WatchEvent::Delete { key: key.into(), expired: None })
    }

    /// Everything that stands was yielded: once.
    pub(super) fn live(&mut self) -> Option<WatchEvent> {
        (!std::mem::replace(&mut self.live, true)).then_some(WatchEvent::Live)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::Op;

    fn entry(key: &str, rev: u64) -> Entry {
        Entry {
            key: key.to_owned(),
            rev,
            op: Op::default(),
            meta: Default::default(),
            value: Default::default(),
        }
    }

    /// What a reader makes of the events.
    fn tell(reader: &mut BTreeMap<String, u64>, event: Option<WatchEvent>) {
        match event {
            Some(WatchEvent::Put(entry)) => drop(reader.insert(entry.key, entry.rev)),
            Some(WatchEvent::Delete { key, .. }) => {
                assert!(reader.remove(&key).is_some(), "a deletion of what the reader does not know")
            }
            Some(WatchEvent::Live) | None => {}
        }
    }

    /// A whole consumer: everything that stands or has a mark, then the leader's word on the rest.
    fn consume(held: &mut Held, reader: &mut BTreeMap<String, u64>, truth: &BTreeMap<String, (u64, bool)>) {
        for (key, (rev, stands)) in truth {
            let event = if *stands {
                held.put(entry(key, *rev))
            } else {
                held.delete(key, *rev, Marker { expired: false })
            };
            tell(reader, event);
        }
        for key in held.unseen() {
            tell(reader, held.forget(&key));
        }
    }

    proptest! {
        #[test]
        fn a_reader_knows_what_stands_whatever_was_missed(
            rounds in prop::collection::vec(prop::collection::vec((0..6_u8, 0..3_u8), 0..12), 1..6)
        ) {
            let (mut held, mut reader, mut truth) = (Held::default(), BTreeMap::new(), BTreeMap::new());
            let mut seq = 0;
            for missed in rounds {
                for (key, what) in missed {
                    seq += 1;
                    let key = format!("k{key}");
                    match what {
                        0 => drop(truth.insert(key, (seq, true))),
                        1 => drop(truth.insert(key, (seq, false))),
                        // the mark itself is gone
                        _ => drop(truth.remove(&key)),
                    }
                }
                held.restart(&Origin { created: "c".to_owned(), last_seq: seq });
                consume(&mut held, &mut reader, &truth);
                let stands: BTreeMap<String, u64> =
                    truth.iter().filter(|(_, (_, stands))| *stands).map(|(k, (rev, _))| (k.clone(), *rev)).collect();
                prop_assert_eq!(&reader, &stands);
            }
        }
    }

    #[test]
    fn a_replica_that_is_behind_takes_nothing_back() {
        let mut held = Held::default();
        let origin = Origin { created: "c".to_owned(), last_seq: 9 };
        held.restart(&origin);
        assert!(held.put(entry("k", 9)).is_some());
        held.restart(&origin);
        assert_eq!(held.put(entry("k", 5)), None);
        assert_eq!(held.delete("k", 6, Marker { expired: true }), None);
        assert_eq!(held.unseen(), Vec::<String>::new());
        assert!(held.delete("k", 10, Marker { expired: true }).is_some());
    }

    #[test]
    fn a_stream_that_lost_its_past_is_believed() {
        let mut held = Held::default();
        held.restart(&Origin { created: "old".to_owned(), last_seq: 100 });
        for key in ["a", "b"] {
            held.put(entry(key, 100));
        }
        for origin in [("old", 3), ("new", 200)] {
            held.restart(&Origin { created: origin.0.to_owned(), last_seq: origin.1 });
            assert!(held.put(entry("a", 2)).is_some(), "{origin:?}");
        }
    }

    #[test]
    fn live_is_told_once() {
        let mut held = Held::default();
        assert_eq!(held.live(), Some(WatchEvent::Live));
        assert_eq!(held.live(), None);
    }
}
