//! A node of the interleavings: its pages, its late view, and its operations, each of which waits at every read and write.

use std::collections::BTreeMap;
use std::pin::Pin;

use super::super::{connection_of, key, removal, row};
use crate::engine::{Bucket, Engine, Faults, Faulty, Memory, Precondition, Watch, WatchMode, WriteError};
use crate::id::Key;
use crate::registry::{
    Expirable, Lifetimes, PageRemoval, PageRow, Registry, RegistryEvent, RemovalKind, RowLookup, WatchKind,
    to_event,
};
use crate::subject::page_key;

/// The end of an operation, for the node that ran it.
pub(super) enum Outcome {
    /// The page has joined.
    Joined {
        page: Key,
        session: u128,
        rev: u64,
        /// What the view showed as idle when the operation began.
        idle: Vec<Expirable>,
    },
    Rewritten {
        page: Key,
        rev: u64,
    },
    Nothing,
}

pub(super) type Operation = Pin<Box<dyn Future<Output = Outcome>>>;

pub(super) struct Node {
    pub(super) number: u16,
    pub(super) registry: Registry,
    rows: Watch,
    /// The pages that are here, with their sessions and the revisions of their rows.
    pub(super) pages: BTreeMap<Key, (u128, u64)>,
    pub(super) running: Vec<Operation>,
    pub(super) is_alive: bool,
}

pub(super) fn both(session: u128) -> [Expirable; 2] {
    [Expirable::Session(key(session)), Expirable::Connection(key(connection_of(session)))]
}

impl Node {
    pub(super) async fn new(
        memory: &Memory,
        number: u16,
        lifetimes: Lifetimes,
        seed: u64,
        faults: Faults,
    ) -> Self {
        let faulty = Faulty::new(memory.new_process_handle(), seed.wrapping_add(number.into()), faults);
        let registry = Registry::new(&Engine::Faulty(faulty), lifetimes);
        let watching = Engine::Memory(memory.new_process_handle()).kv(Bucket::Pages);
        let rows = watching.watch(page_key::ALL, WatchMode::Meta).await.unwrap();
        Self { number, registry, rows, pages: BTreeMap::new(), running: Vec::new(), is_alive: true }
    }

    pub(super) fn open(&mut self, page: Key, session: u128) {
        let (registry, number) = (self.registry.clone(), self.number);
        let shown = |of: &Expirable| registry.view().idle.joinable(*of).is_some();
        let idle = both(session).into_iter().filter(shown).collect();
        self.running.push(Box::pin(async move {
            match registry.write(page, &row(number, session), Precondition::Absent).await {
                Ok(rev) => Outcome::Joined { page, session, rev, idle },
                Err(WriteError::Unknown) => {
                    while remove_unclaimed(&registry, page).await.is_err() {}
                    Outcome::Nothing
                }
                Err(_) => Outcome::Nothing,
            }
        }));
    }

    /// Writes the row of a page again, as for a login or a topic.
    pub(super) fn rewrite(&mut self, place: usize) {
        let Some((&page, &(session, rev))) = self.pages.iter().nth(place) else { return };
        let (registry, number) = (self.registry.clone(), self.number);
        self.running.push(Box::pin(async move {
            let row = PageRow { user: Some("ann".into()), ..row(number, session) };
            match registry.write(page, &row, Precondition::Rev(rev)).await {
                Ok(rev) => Outcome::Rewritten { page, rev },
                Err(_) => Outcome::Nothing,
            }
        }));
    }

    /// Removes a page from this node, then from the cluster, however often it takes.
    pub(super) fn leave(&mut self, page: Key, kind: RemovalKind) {
        let Some((session, rev)) = self.pages.remove(&page) else { return };
        let mut leaving = removal(&self.pages, page, session, rev);
        let registry = self.registry.clone();
        self.running.push(Box::pin(async move {
            loop {
                match registry.leave(&leaving, kind).await {
                    Ok(()) | Err(WriteError::Invalid) => return Outcome::Nothing,
                    Err(WriteError::Conflict { .. }) => match registry.row(page).await {
                        // the row was written once more before the page left
                        Ok(Some((_, now))) => leaving.rev = now,
                        Ok(None) => return Outcome::Nothing,
                        Err(_) => {}
                    },
                    Err(WriteError::Down | WriteError::Unknown) => {}
                }
            }
        }));
    }

    pub(super) fn receive(&mut self, events: usize) {
        for _ in 0..events {
            let Some(event) = self.rows.try_next() else { return };
            let ending = match to_event(&event) {
                Some(RegistryEvent::Ending(of)) => Some(of),
                _ => None,
            };
            self.registry.apply(&WatchKind::Pages, event);
            if let Some(of) = ending {
                self.close(of);
            }
        }
    }

    fn close(&mut self, ending: Expirable) {
        let of = self.pages.iter().filter(|(_, (session, _))| both(*session).contains(&ending));
        for page in of.map(|(page, _)| *page).collect::<Vec<_>>() {
            self.leave(page, RemovalKind::Unregister);
        }
    }

    pub(super) fn begin(&mut self, operation: impl AsyncFnOnce(Registry) + 'static) {
        let registry = self.registry.clone();
        self.running.push(Box::pin(async move {
            operation(registry).await;
            Outcome::Nothing
        }));
    }
}

/// Removes the row of a page whose write had an unknown outcome.
async fn remove_unclaimed(registry: &Registry, page: Key) -> Result<(), WriteError> {
    match registry.write_tombstone(page).await {
        Err(WriteError::Conflict { .. }) => {}
        outcome => return outcome,
    }
    match registry.find(page).await.map_err(|_| WriteError::Down)? {
        RowLookup::Page(row, rev) => {
            registry.leave(&PageRemoval::of_row(page, &row, rev), RemovalKind::Forget).await
        }
        RowLookup::Nothing | RowLookup::Unregistered => Ok(()),
    }
}
