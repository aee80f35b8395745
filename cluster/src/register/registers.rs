//! The registers of the cluster, as one process uses them.
//!
//! Owns: the one watch on all registers, which begins with the first use, and the requests. Never: permissions.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

use tokio::sync::{OnceCell, watch as channel};
use tokio::time::timeout;

use super::cursors::SeenCursors;
use super::edit::ItemEdit;
use super::entry::{self, EntryHead, Publication, Recipients};
use super::index::{IndexedItem, ItemFilter};
use super::item::{ItemHead, ItemVersion};
use super::items::{Changed, Items};
use super::name::{cursor_of, entry_row, log_of};
use super::plan::{Relabel, Removal};
use super::recent::RecentRows;
use super::rows;
use super::view::{RegisterView, Views};
use super::{ItemKey, ItemLevel, MAX_LISTED, RegisterError, RegisterName};
use crate::clock::ClusterClock;
use crate::engine::{
    Bucket, Consistency, Engine, Entry, Kv, Precondition, Put, Unavailable, Watch, WatchEvent, WatchMode,
    WriteError,
};
use crate::subject::register_key;
use crate::timing::{REGISTER_APPLIED, REGISTER_LOG, REGISTER_RETRY};

/// Maximum attempts of one publication.
const ATTEMPTS: usize = 3;

/// The registers of the cluster. Cheap to clone. A process that uses none of them receives nothing.
#[derive(Clone)]
pub struct Registers {
    shared: Arc<Shared>,
}

struct Shared {
    store: Kv,
    clock: ClusterClock,
    views: RwLock<Views>,
    /// Revision up to which the views show everything.
    applied: channel::Sender<u64>,
    /// The same, changed only with what is published.
    published: channel::Sender<u64>,
    watching: OnceCell<()>,
    seen: SeenCursors,
    recent: RecentRows,
}

/// One register. Cheap to clone.
#[derive(Clone)]
pub struct Register {
    shared: Arc<Shared>,
    pub(super) name: RegisterName,
}

impl Registers {
    /// Returns the registers of the engine's cluster. The watch begins with the first [`Registers::open`].
    pub fn new(engine: &Engine) -> Self {
        let (store, clock) = (engine.kv(Bucket::Register), engine.clock());
        let shared = Shared {
            store,
            clock,
            views: RwLock::default(),
            applied: channel::Sender::new(0),
            published: channel::Sender::new(0),
            watching: OnceCell::new(),
            seen: SeenCursors::default(),
            recent: RecentRows::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Opens a register, when this process has applied all that exists.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unavailable`] when the engine is unavailable.
    pub async fn open(&self, name: RegisterName) -> Result<Register, RegisterError> {
        self.shared.watching.get_or_try_init(|| self.watch()).await?;
        Ok(Register { shared: self.shared.clone(), name })
    }

    /// Returns all registers, when this process has applied all that exists.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unavailable`] when the engine is unavailable.
    pub(super) async fn all(&self) -> Result<Vec<Register>, RegisterError> {
        self.shared.watching.get_or_try_init(|| self.watch()).await?;
        let views = self.shared.views.read().unwrap_or_else(PoisonError::into_inner);
        let names = views.names().filter_map(|name| RegisterName::new(name).ok());
        Ok(names.map(|name| Register { shared: self.shared.clone(), name }).collect())
    }

    async fn watch(&self) -> Result<(), Unavailable> {
        let prefixes = vec![register_key::ITEMS.to_owned(), register_key::LOG.to_owned()];
        let mut watch = self.shared.store.watch_several(prefixes, WatchMode::Meta).await?;
        loop {
            match watch.next().await.ok_or(Unavailable)? {
                WatchEvent::Live => break,
                event => self.shared.apply(event).await,
            }
        }
        tokio::spawn(follow(Arc::downgrade(&self.shared), watch));
        Ok(())
    }
}

/// Applies events until the engine or the registers are gone.
async fn follow(shared: Weak<Shared>, mut watch: Watch) {
    while let Some(event) = watch.next().await {
        let Some(shared) = shared.upgrade() else { return };
        shared.apply(event).await;
    }
}

impl Shared {
    /// Each change leaves the views consistent, so a poisoned lock is still usable.
    fn change<T>(&self, change: impl FnOnce(&mut Views) -> T) -> T {
        change(&mut self.views.write().unwrap_or_else(PoisonError::into_inner))
    }

    async fn apply(&self, event: WatchEvent) {
        match event {
            WatchEvent::Live => {}
            WatchEvent::Put(entry) => {
                let is_published = log_of(&entry.key).is_some();
                if is_published {
                    self.apply_entry(&entry).await;
                } else {
                    self.change(|views| views.put_item(&entry));
                }
                self.applied.send_replace(entry.rev);
                if is_published {
                    self.published.send_replace(entry.rev);
                }
            }
            WatchEvent::Delete { key, expired } => {
                self.change(|views| views.delete(&key, expired != Some(false)));
                // another process may have ended the page
                if let Some(cursor) = cursor_of(&key) {
                    self.seen.forget(&cursor);
                }
            }
        }
    }

    async fn apply_entry(&self, entry: &Entry) {
        let Some(head) = EntryHead::decode(&entry.meta) else { return };
        let to = match head.to {
            Some(to) => to,
            None => self.recipients(&entry.key).await,
        };
        self.change(|views| views.put_entry(entry, to));
    }

    /// Reads the recipients of the publications of a row from its value.
    async fn recipients(&self, key: &str) -> Vec<Recipients> {
        loop {
            match self.store.get(key, Consistency::Latest).await {
                Ok(found) => {
                    let read = found.and_then(|entry| entry::decode(&entry.value)).unwrap_or_default();
                    return read.into_iter().map(|publication| publication.to).collect();
                }
                Err(Unavailable) => tokio::time::sleep(REGISTER_RETRY).await,
            }
        }
    }
}

/// Returns the position up to which the process of a register has seen what is published, and its changes.
pub(super) fn publications_seen(register: &Register) -> channel::Receiver<u64> {
    register.shared.published.subscribe()
}

/// Returns what the index of this process has of an item.
pub(super) fn indexed(register: &Register, item: &ItemKey) -> Option<Arc<ItemHead>> {
    register.view(|view| view.index.get(&item.row(&register.name)).map(|item| item.head.clone()))
}

impl Register {
    pub(super) fn store(&self) -> &Kv {
        &self.shared.store
    }

    pub(super) fn seen(&self) -> &SeenCursors {
        &self.shared.seen
    }

    pub(super) fn recent(&self) -> &RecentRows {
        &self.shared.recent
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    pub(super) fn views(&self) -> RwLockReadGuard<'_, Views> {
        self.shared.views.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the position of the log up to which this process has applied everything.
    pub fn position(&self) -> u64 {
        *self.shared.applied.borrow()
    }

    /// Waits until this process has applied the log up to a position, or [`REGISTER_APPLIED`].
    pub async fn reach(&self, position: u64) {
        let mut applied = self.shared.applied.subscribe();
        let _ = timeout(REGISTER_APPLIED, applied.wait_for(|applied| *applied >= position)).await;
    }

    fn items(&self) -> Items<'_> {
        let Shared { store, clock, .. } = &*self.shared;
        Items { store, clock, register: &self.name }
    }

    pub(super) fn view<T: Default>(&self, read: impl FnOnce(&RegisterView) -> T) -> T {
        self.views().get(self.name.as_str()).map(read).unwrap_or_default()
    }

    /// Reads an item as last acknowledged.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unavailable`] when the engine is unavailable.
    pub async fn read(&self, key: &ItemKey) -> Result<Option<ItemVersion>, RegisterError> {
        self.items().read(key).await
    }

    /// Changes an item. Returns its revision; 0 if it does not exist any more.
    ///
    /// # Errors
    ///
    /// The reason why the item was not changed; after [`RegisterError::Uncertain`] it may be.
    pub async fn write(&self, key: &ItemKey, edit: &ItemEdit) -> Result<u64, RegisterError> {
        let changed = self.items().write(key, edit, self.position()).await?;
        let row = key.row(&self.name);
        Ok(match changed {
            Changed::Nothing(revision) => revision,
            Changed::Put(entry) => {
                // the next request of this process sees it, before the watch shows it
                self.shared.change(|views| views.put_item(&entry));
                entry.rev
            }
            Changed::Deleted => {
                self.shared.change(|views| views.delete(&row, false));
                if key.level == ItemLevel::Page {
                    self.seen().forget(&key.cursor(&self.name));
                }
                0
            }
        })
    }

    /// Returns the pages of a connection, or the connections of a user, sorted by their ids.
    pub fn below(&self, of: &ItemKey) -> Vec<ItemKey> {
        self.view(|view| view.index.below(of).map(|item| item.key.clone()).collect())
    }

    /// Returns the items of a level that a filter describes, sorted by their ids, at most [`MAX_LISTED`].
    pub fn list(&self, level: ItemLevel, filter: &ItemFilter) -> Vec<IndexedItem> {
        self.view(|view| view.index.list(level, filter, MAX_LISTED))
    }

    /// Returns those of these tables that a page follows.
    pub fn followed<'a>(&self, tables: &'a [String]) -> Vec<&'a String> {
        self.view(|view| tables.iter().filter(|table| view.index.is_followed(table)).collect())
    }

    /// Gives a connection to another user. Returns its pages.
    ///
    /// # Errors
    ///
    /// Those of [`Register::write`]; the changes before the one that failed stand.
    pub async fn relabel(&self, relabel: Relabel) -> Result<Vec<ItemKey>, RegisterError> {
        let pages = self.below(&relabel.connection);
        let edits = match self.views().get(self.name.as_str()) {
            Some(view) => relabel.edits(&view.index, &self.name),
            None => return Err(RegisterError::Unknown),
        };
        for (key, edit) in edits {
            match self.write(&key, &edit).await {
                Ok(_) => {}
                // another request has created the user, or a page has ended meanwhile
                Err(RegisterError::Conflict { .. }) if edit.create.is_some() => {}
                Err(RegisterError::Unknown) if key.level == ItemLevel::Page => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pages)
    }

    /// Ends an item with what belongs to it. Returns what has ended.
    ///
    /// # Errors
    ///
    /// Those of [`Register::write`]; what has ended before stays ended.
    pub async fn remove(&self, removal: Removal) -> Result<Vec<ItemKey>, RegisterError> {
        let ended = match self.views().get(self.name.as_str()) {
            Some(view) => removal.items(&view.index, &self.name),
            None => return Ok(Vec::new()),
        };
        for key in &ended {
            self.write(key, &ItemEdit::deletion()).await?;
        }
        Ok(ended)
    }

    /// Publishes to pages, all in one row. Returns its position, and for each publication the number of pages that it is for
    /// now.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Message`] and [`RegisterError::Pages`] if it is too large, [`RegisterError::Uncertain`] if it may be
    /// published.
    pub async fn publish(&self, publications: &[Publication]) -> Result<(u64, Vec<usize>), RegisterError> {
        let (meta, value) = entry::encode(publications)?;
        let key = entry_row(&self.name);
        let put = Put { meta, ttl: Some(REGISTER_LOG), ..Put::new(key, value, Precondition::Absent) };
        let position = match rows::put(self.store(), &put, ATTEMPTS).await {
            Ok(Some(rev)) => rev,
            Err(WriteError::Down) => return Err(RegisterError::Unavailable),
            Err(WriteError::Invalid) => return Err(RegisterError::Message),
            // no other write has this random key
            Ok(None) | Err(WriteError::Unknown | WriteError::Conflict { .. }) => {
                return Err(RegisterError::Uncertain);
            }
        };
        // a later answer would be no error: the row is stored
        self.reach(position).await;
        let counts = self.view(|view| {
            let of =
                |to: &Recipients| view.index.pages().filter(|page| to.include(&page.head, position)).count();
            publications.iter().map(|publication| of(&publication.to)).collect()
        });
        Ok((position, counts))
    }

    /// Withdraws what was published for one page or user only, if all of its changes have a `path` that begins with this one.
    /// Returns the number of rows.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unavailable`] when the engine is unavailable.
    pub async fn withdraw(&self, of: &ItemKey, path: &str) -> Result<usize, RegisterError> {
        let is_addressed = |to: &Recipients| match (to, of.level) {
            (Recipients::Page { page }, ItemLevel::Page) => *page == of.id,
            (Recipients::User { user, .. }, ItemLevel::User) => *user == of.id,
            _ => false,
        };
        let rows: Vec<Arc<str>> =
            self.view(|view| view.log.only_for(is_addressed).map(|row| row.key.clone()).collect());
        let mut withdrawn = 0;
        for key in rows {
            let Some(publications) = self.publications(&key).await? else { continue };
            if publications.iter().all(|publication| publication.is_below(path)) {
                self.store().delete(&key, Precondition::Any).await.map_err(|_| RegisterError::Unavailable)?;
                self.shared.change(|views| views.delete(&key, false));
                withdrawn += 1;
            }
        }
        Ok(withdrawn)
    }

    /// Returns the fields of a page, from the index or as last acknowledged.
    pub(super) async fn page(&self, page: &ItemKey) -> Result<Arc<ItemHead>, RegisterError> {
        match indexed(self, page) {
            Some(head) => Ok(head),
            None => {
                let stored = self.read(page).await?.ok_or(RegisterError::Unknown)?;
                Ok(Arc::new(stored.item.head))
            }
        }
    }
}
