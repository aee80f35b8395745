//! Watches that are late.
//!
//! Owns: which events are delayed and which may be skipped meanwhile. Never skips the last version of a key or a
//! deletion, and never delays an event forever.

use std::time::Duration;

use tokio::sync::watch as channel;

use crate::engine::{ConnectionState, Watch, WatchEvent, WatchSender};
use crate::simulation::FaultRng;

/// Maximum delay of an event while the link is up.
const LATE: Duration = Duration::from_millis(5);

/// Events that have not been forwarded.
#[derive(Debug, Default)]
struct DelayedEvents(Vec<WatchEvent>);

impl DelayedEvents {
    /// Adds an event; a version that follows another version of the same key replaces it.
    fn push(&mut self, event: WatchEvent) {
        if let Some(key) = key(&event)
            && let Some(place) = self.0.iter().rposition(|held| self::key(held) == Some(key))
            && matches!(self.0[place], WatchEvent::Put(_))
        {
            self.0.remove(place);
        }
        self.0.push(event);
    }

    /// Forwards all events. After an outage, missed events are found by comparing entries, which cannot distinguish an
    /// expiry from a deletion.
    fn release(&mut self, to: &WatchSender, outage: bool) {
        for event in self.0.drain(..) {
            let event = match event {
                WatchEvent::Delete { key, .. } if outage => WatchEvent::Delete { key, expired: None },
                event => event,
            };
            // the reader may be gone
            let _ = to.send(event);
        }
    }
}

fn key(event: &WatchEvent) -> Option<&str> {
    match event {
        WatchEvent::Put(entry) => Some(&entry.key),
        WatchEvent::Delete { key, .. } => Some(key),
        WatchEvent::Live => None,
    }
}

/// Forwards the events of a watch, some of them late, and none while the link is down.
pub(super) async fn delay(
    mut from: Watch,
    to: WatchSender,
    mut rng: FaultRng,
    per_mille: u16,
    mut link: channel::Receiver<ConnectionState>,
) {
    let mut held = DelayedEvents::default();
    let (mut live, mut outage) = (false, false);
    loop {
        tokio::select! {
            () = to.closed() => return,
            event = from.next() => {
                let Some(event) = event else { break };
                live |= event == WatchEvent::Live;
                held.push(event);
                // the snapshot is never late: `Live` means that all of it was yielded
                if live && rng.hits(per_mille) {
                    continue;
                }
            }
            changed = link.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(LATE), if !held.0.is_empty() && !outage => {}
        }
        if matches!(*link.borrow_and_update(), ConnectionState::Down { .. }) {
            outage = true;
        } else {
            held.release(&to, std::mem::take(&mut outage));
        }
    }
    held.release(&to, outage);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;
    use crate::engine::{Entry, OperationId};

    fn put(key: u8, rev: u64) -> WatchEvent {
        let entry = Entry {
            key: key.to_string(),
            rev,
            op: OperationId::default(),
            meta: "".into(),
            value: "".into(),
        };
        WatchEvent::Put(entry)
    }

    fn apply(view: &mut BTreeMap<String, u64>, event: &WatchEvent) {
        match event {
            WatchEvent::Put(entry) => drop(view.insert(entry.key.clone(), entry.rev)),
            WatchEvent::Delete { key, .. } => drop(view.remove(key)),
            WatchEvent::Live => {}
        }
    }

    proptest! {
        #[test]
        fn neither_a_last_version_nor_a_deletion_is_skipped(
            changes in prop::collection::vec((0u8..4, any::<bool>(), any::<bool>()), 0..40),
        ) {
            let (to, mut read) = mpsc::unbounded_channel();
            let (mut held, mut truth, mut deletions) = (DelayedEvents::default(), BTreeMap::new(), 0);
            for (rev, (key, deletes, release)) in changes.into_iter().enumerate() {
                let delete = WatchEvent::Delete { key: key.to_string(), expired: Some(false) };
                let event = if deletes { delete } else { put(key, rev as u64) };
                deletions += usize::from(deletes);
                apply(&mut truth, &event);
                held.push(event);
                if release {
                    held.release(&to, false);
                }
            }
            held.release(&to, true);
            let (mut view, mut deleted) = (BTreeMap::new(), 0);
            while let Ok(event) = read.try_recv() {
                deleted += usize::from(matches!(event, WatchEvent::Delete { .. }));
                apply(&mut view, &event);
            }
            prop_assert_eq!(view, truth);
            prop_assert_eq!(deleted, deletions);
        }
    }
}
