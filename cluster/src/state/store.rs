//! The handle on all trees.
//!
//! Owns: the engine calls that writers request, and the callers that wait for a result. Never: a decision (`writer`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::batch::{DraftWrite, Operation};
use super::cache::TreeCache;
use super::feed::{FeedCommand, TreeFeed, TreeNotification};
use super::record::TreeVersion;
use super::writer::{Found, TreeWriter, WriterRequest, WriterStep};
use super::{ClientPath, Fence, Path, StateError};
use crate::engine::{
    Bucket, Consistency, Engine, Kv, OperationId, Precondition, Put, Unavailable, WatchEvent, WatchMode,
    WriteError,
};
use crate::id::Entity;
use crate::id::Key;
use crate::subject::state_key;
use crate::table;

/// Memory in bytes of the cache of trees, without those that are being written.
const CACHE: usize = 32 * 1024 * 1024;

type ReplySender = oneshot::Sender<Result<u64, StateError>>;

/// The trees of the cluster, as one process uses them. Cheap to clone.
#[derive(Clone)]
pub struct StateStore {
    shared: Arc<StateStoreInner>,
}

/// The result of reading a path.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadValue {
    /// Revision of the tree; 0 for a tree that does not exist.
    pub revision: u64,
    /// A value or a branch; `None` when the path does not exist.
    pub value: Option<Value>,
}

pub(super) struct StateStoreInner {
    pub(super) store: Kv,
    writers: Mutex<ActiveWriters>,
    commands: mpsc::UnboundedSender<FeedCommand>,
    /// The receiver of `commands`, until the feed takes it.
    receiver: Mutex<Option<mpsc::UnboundedReceiver<FeedCommand>>>,
}

/// The writers at work, and the cache of trees that were written before.
pub(super) struct ActiveWriters {
    active: HashMap<Arc<str>, Arc<Mutex<WriterSlot>>>,
    pub(super) cache: TreeCache,
}

/// A writer with work.
struct WriterSlot {
    writer: TreeWriter<ReplySender>,
    /// The driver task is still running and will pick up the next call.
    is_driven: bool,
    next: Option<WriterRequest>,
    /// The writer was removed from `active`.
    retired: bool,
}

impl WriterSlot {
    fn read(&mut self, found: Result<Found, Unavailable>) -> WriterStep<ReplySender> {
        let step = self.writer.read(found, OperationId::random());
        self.after(step)
    }

    fn on_written(&mut self, outcome: Result<u64, WriteError>) -> WriterStep<ReplySender> {
        let step = self.writer.on_written(outcome, OperationId::random());
        self.after(step)
    }

    /// Records whether the driver task stays for another call. When no call follows, a caller that was just notified
    /// may write again at once; continuing in the same task costs less than starting a new one.
    fn after(&mut self, step: WriterStep<ReplySender>) -> WriterStep<ReplySender> {
        self.is_driven = step.call.is_none();
        step
    }
}

/// Locks a mutex. A poisoned lock is still usable, because every step leaves its data consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateStoreInner {
    pub(super) fn writers(&self) -> MutexGuard<'_, ActiveWriters> {
        lock(&self.writers)
    }

    /// Returns the receiver of feed commands, once, for the only feed of the process.
    pub(super) fn take_commands(&self) -> Option<mpsc::UnboundedReceiver<FeedCommand>> {
        lock(&self.receiver).take()
    }
}

impl StateStore {
    /// Opens the trees of the engine's cluster. Followers receive nothing before [`StateStore::feed`] runs.
    pub fn new(engine: &Engine) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let writers = Mutex::new(ActiveWriters { active: HashMap::new(), cache: TreeCache::new(CACHE) });
        let store = engine.kv(Bucket::State);
        Self {
            shared: Arc::new(StateStoreInner {
                store,
                writers,
                commands,
                receiver: Mutex::new(Some(receiver)),
            }),
        }
    }

    /// Calls `notify` with each notification for followers, in order. Ends only when the engine is gone. A process has
    /// one feed: a second one ends at once.
    pub fn feed<F: FnMut(TreeNotification)>(&self, notify: F) -> impl Future<Output = ()> + use<F> {
        let shared = self.shared.clone();
        let feed = shared.take_commands().map(|commands| TreeFeed::new(shared.store.clone(), commands));
        async move {
            if let Some(feed) = feed {
                feed.run(|event| shared.writers().cache.on_event(event), notify).await;
            }
        }
    }

    /// Follows a path: a snapshot, then changes, through [`StateStore::feed`]. A key that already follows the path
    /// receives another snapshot.
    pub fn follow(&self, owner: Entity, path: Path, who: Key) {
        self.follow_on(owner, path, who, 0);
    }

    /// Follows a path like [`StateStore::follow`], for a follower that has seen the tree at revision `seen`. It
    /// receives nothing older.
    pub fn follow_on(&self, owner: Entity, path: Path, who: Key, seen: u64) {
        self.send_command(FeedCommand::Follow(owner, path, who, seen));
    }

    /// Ends following a path. Notifications that were already passed on may still be in transit.
    pub fn unfollow(&self, owner: Entity, path: Path, who: Key) {
        self.send_command(FeedCommand::Unfollow(owner, path, who));
    }

    /// Ends following all paths.
    pub fn leave(&self, who: Key) {
        self.send_command(FeedCommand::Leave(who));
    }

    fn send_command(&self, command: FeedCommand) {
        // without a feed the engine is gone, so there is nothing to deliver
        let _ = self.shared.commands.send(command);
    }

    /// Lists the owners of all trees of connections, sessions and pages. Reads only the keys and metas.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn owners(&self) -> Result<Vec<Entity>, Unavailable> {
        let mut owners = Vec::new();
        for prefix in [state_key::CONNECTIONS, state_key::SESSIONS, state_key::PAGES] {
            let mut watch = self.shared.store.watch(prefix, WatchMode::Meta).await?;
            loop {
                match watch.next().await.ok_or(Unavailable)? {
                    WatchEvent::Live => break,
                    WatchEvent::Put(entry) => owners.extend(Entity::of_tree_key(&entry.key)),
                    WatchEvent::Delete { .. } => {}
                }
            }
        }
        Ok(owners)
    }

    /// Reads a path as last acknowledged. Writes that this process accepted before are included.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] when the engine is unavailable. While this process writes the tree, the read queues
    /// behind its writes and can also fail with [`StateError::Overloaded`] or [`StateError::Uncertain`].
    pub async fn get(&self, owner: &Entity, path: &ClientPath) -> Result<ReadValue, StateError> {
        let key = owner.tree_key();
        if self.is_writing(&key) {
            // queues behind the writes in progress
            self.write(
                owner,
                DraftWrite {
                    operation: Operation::Edit(Vec::new()),
                    if_revision: None,
                    from: None,
                    fence: None,
                },
            )
            .await?;
        }
        let found = self.read(&key).await.map_err(|Unavailable| StateError::Unavailable)?;
        let Some(stored) = found.filter(|stored| !stored.absent) else {
            return Ok(ReadValue { revision: 0, value: None });
        };
        let value = stored.tree.resolve(path).ok().and_then(|path| stored.tree.get(&path).cloned());
        Ok(ReadValue { revision: stored.rev, value })
    }

    /// Writes a tree and returns its revision afterwards, 0 for a tree that does not exist. Writes of one process are
    /// done in the order of their calls. Dropping the future does not cancel the write.
    ///
    /// # Errors
    ///
    /// - [`StateError::Stale`] when the tree has seen a later term of the owner in the write's fence.
    /// - [`StateError::Conflict`] when the tree is not at `if_revision`.
    /// - [`StateError::Child`], [`StateError::Root`], [`StateError::Depth`], [`StateError::Key`], [`StateError::Size`]
    ///   or [`StateError::Changes`] when the write is invalid.
    /// - [`StateError::Overloaded`] when too many writes wait, or other processes were faster too often.
    /// - [`StateError::Unavailable`] when the engine is unavailable and nothing was written.
    /// - [`StateError::Uncertain`] when the write may have happened.
    pub async fn write(&self, owner: &Entity, write: DraftWrite) -> Result<u64, StateError> {
        self.begin(owner, write).await
    }

    /// Enqueues a write like [`StateStore::write`]. The write is in the queue when this function returns, before the
    /// future is polled.
    pub fn begin(
        &self,
        owner: &Entity,
        write: DraftWrite,
    ) -> impl Future<Output = Result<u64, StateError>> + Send + use<> {
        let (ticket, reply) = oneshot::channel();
        self.enqueue(owner.tree_key().into(), write, ticket);
        // a result always arrives, unless the runtime ends
        async move { reply.await.unwrap_or(Err(StateError::Uncertain)) }
    }

    /// Removes a tree in the whole cluster.
    ///
    /// # Errors
    ///
    /// See [`StateStore::write`].
    pub async fn remove(&self, owner: &Entity) -> Result<(), StateError> {
        self.write(
            owner,
            DraftWrite { operation: Operation::Remove, if_revision: None, from: None, fence: None },
        )
        .await
        .map(drop)
    }

    /// Guards a tree before the first write of a new owner: from now on, writes with an earlier term of the same owner
    /// key are refused. A tree that does not exist stays absent for its readers.
    ///
    /// # Errors
    ///
    /// [`StateError::Stale`] when a later owner has written or stamped the tree, otherwise see [`StateStore::write`].
    pub async fn stamp(&self, owner: &Entity, fence: Fence) -> Result<(), StateError> {
        let nothing = Operation::Edit(Vec::new());
        let write = DraftWrite { operation: nothing, if_revision: None, from: None, fence: Some(fence) };
        self.write(owner, write).await.map(drop)
    }

    /// Lets a tree expire `after` its last write, this one included (whole seconds, at least one). `None` keeps it
    /// without a limit again. The value is unchanged; the revision grows.
    ///
    /// # Errors
    ///
    /// See [`StateStore::write`].
    pub async fn expire(&self, owner: &Entity, after: Option<Duration>) -> Result<(), StateError> {
        self.write(
            owner,
            DraftWrite { operation: Operation::Expire(after), if_revision: None, from: None, fence: None },
        )
        .await
        .map(drop)
    }

    fn is_writing(&self, key: &str) -> bool {
        self.shared.writers().active.contains_key(key)
    }

    fn enqueue(&self, key: Arc<str>, write: DraftWrite, ticket: ReplySender) {
        loop {
            let place = self.place(&key);
            let mut at = lock(&place);
            if at.retired {
                continue;
            }
            let mut step = at.writer.enqueue(write, ticket, OperationId::random());
            if at.is_driven {
                at.next = at.next.take().or(step.call.take());
            }
            drop(at);
            if let Some(call) = send_replies(step) {
                tokio::spawn(self.clone().drive(key, place, call));
            }
            return;
        }
    }

    fn place(&self, key: &Arc<str>) -> Arc<Mutex<WriterSlot>> {
        let ActiveWriters { active, cache } = &mut *self.shared.writers();
        if let Some(place) = active.get(key) {
            return place.clone();
        }
        let writer = TreeWriter::new(cache.take(key).map(Some));
        let place = WriterSlot { writer, is_driven: false, next: None, retired: false };
        let place = Arc::new(Mutex::new(place));
        active.insert(key.clone(), place.clone());
        place
    }

    /// Makes the calls of one writer until it has no work.
    async fn drive(self, key: Arc<str>, place: Arc<Mutex<WriterSlot>>, mut call: WriterRequest) {
        loop {
            let step = match call {
                WriterRequest::Read => {
                    let found = self.read(&key).await;
                    lock(&place).read(found)
                }
                WriterRequest::Put { expect, op, meta, value, ttl, large } => {
                    if large {
                        tracing::warn!(%key, bytes = value.len(), "a tree has become large");
                    }
                    let put = Put { key: key.to_string(), value, meta, expect, ttl, op };
                    let outcome = self.shared.store.put(put).await;
                    lock(&place).on_written(outcome)
                }
                WriterRequest::Delete { rev } => {
                    let outcome = self.shared.store.delete(&key, Precondition::Rev(rev)).await.map(|()| 0);
                    lock(&place).on_written(outcome)
                }
            };
            let next = match send_replies(step) {
                Some(next) => Some(next),
                None => {
                    tokio::task::yield_now().await;
                    let mut at = lock(&place);
                    at.is_driven = false;
                    at.next.take()
                }
            };
            match next {
                Some(next) => call = next,
                None => return self.retire(key, &place),
            }
        }
    }

    /// Removes a writer without work from `active` and moves its known version to the cache.
    fn retire(&self, key: Arc<str>, place: &Mutex<WriterSlot>) {
        let mut writers = self.shared.writers();
        let mut at = lock(place);
        // another caller may have enqueued a write meanwhile, and its task drives the writer
        if at.writer.is_idle() && !at.retired {
            at.retired = true;
            writers.active.remove(&key);
            table::shrink(&mut writers.active);
            if let Some(Some(known)) = at.writer.take_known() {
                writers.cache.put(key, known);
            }
        }
    }

    async fn read(&self, key: &str) -> Result<Found, Unavailable> {
        let Some(entry) = self.shared.store.get(key, Consistency::Latest).await? else { return Ok(None) };
        let stored = TreeVersion::decode(&entry);
        if stored.is_none() {
            tracing::error!(key, "a tree of an unknown shape is neither read nor written");
        }
        stored.map(Some).ok_or(Unavailable)
    }
}

/// Sends the results to the callers and returns the call to make next.
fn send_replies(step: WriterStep<ReplySender>) -> Option<WriterRequest> {
    for (ticket, reply) in step.replies {
        // the caller may have dropped its receiver
        let _ = ticket.send(reply);
    }
    step.call
}
