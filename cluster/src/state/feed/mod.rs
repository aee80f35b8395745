//! The feed of changes to the followers in this process.
//!
//! Owns: the one watch on all trees, and the reads that it needs. Never: a decision (`subscriptions`, `replica`), or
//! how a notification reaches a follower.

pub(super) mod replica;
pub(super) mod subscriptions;
mod update;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};

use self::replica::Action;
use self::subscriptions::Subscriptions;
pub use self::update::{TreeNotification, TreeUpdate};
use super::Path;
use super::record::TreeVersion;
use super::writer::Found;
use crate::engine::{Consistency, Kv, Unavailable, Watch, WatchEvent, WatchMode};
use crate::id::Entity;
use crate::id::Key;

/// Maximum number of concurrent reads.
const READINGS: usize = 64;
/// Delay before a failed engine call is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// A command to the feed.
#[derive(Debug)]
pub(super) enum FeedCommand {
    Follow(Entity, Path, Key, u64),
    Unfollow(Entity, Path, Key),
    Leave(Key),
}

/// The result of a read: the key, the number of the read, and the version.
type ReadResult = (String, u64, Found);

/// The feed of one process.
pub(super) struct TreeFeed {
    store: Kv,
    commands: mpsc::UnboundedReceiver<FeedCommand>,
}

impl TreeFeed {
    /// Creates a feed that follows the trees of `store` on command.
    pub(super) fn new(store: Kv, commands: mpsc::UnboundedReceiver<FeedCommand>) -> Self {
        Self { store, commands }
    }

    /// Shows each change of a tree to `observe`, and notifies followers; ends only when the engine is gone. A process without followers opens no watch, because
    /// receiving a change costs about as much as writing it.
    pub(super) async fn run(mut self, observe: impl Fn(&WatchEvent), notify: impl FnMut(TreeNotification)) {
        let mut followers = Subscriptions::default();
        let first = loop {
            match self.commands.recv().await {
                None => return,
                Some(command) => match execute(&mut followers, command) {
                    actions if actions.is_empty() => {}
                    actions => break actions,
                },
            }
        };
        if let Some(watch) = self.watch().await {
            self.follow(watch, followers, first, observe, notify).await;
        }
    }

    /// Opens a watch and skips the existing entries, so that it yields only later changes and deletions. Returns
    /// `None` when the engine is gone.
    async fn watch(&self) -> Option<Watch> {
        let mut watch = loop {
            match self.store.watch("", WatchMode::Meta).await {
                Ok(watch) => break watch,
                Err(Unavailable) => tokio::time::sleep(PAUSE).await,
            }
        };
        while watch.next().await? != WatchEvent::Live {}
        Some(watch)
    }

    async fn follow(
        &mut self,
        mut watch: Watch,
        mut followers: Subscriptions,
        mut actions: Vec<Action>,
        observe: impl Fn(&WatchEvent),
        mut notify: impl FnMut(TreeNotification),
    ) {
        let mut readings = FuturesUnordered::new();
        let slots = Arc::new(Semaphore::new(READINGS));
        loop {
            for action in actions {
                match action {
                    Action::Notify(delivery) => notify(delivery),
                    Action::Read { key, number } => {
                        readings.push(read(self.store.clone(), slots.clone(), key, number));
                    }
                }
            }
            actions = tokio::select! {
                // in this order, so that a follower receives nothing that was written after it left, and a steady
                // stream of changes does not delay a snapshot
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => execute(&mut followers, command),
                    None => return,
                },
                Some(result) = readings.next() => {
                    let (key, number, found): ReadResult = result;
                    followers.found(&key, number, found)
                }
                event = watch.next() => match event {
                    Some(event) => {
                        observe(&event);
                        on_event(&mut followers, event)
                    }
                    None => return,
                },
            };
        }
    }
}

fn on_event(followers: &mut Subscriptions, event: WatchEvent) -> Vec<Action> {
    match event {
        WatchEvent::Live => Vec::new(),
        WatchEvent::Put(entry) => followers.on_entry(&entry),
        WatchEvent::Delete { key, .. } => followers.on_delete(&key),
    }
}

fn execute(followers: &mut Subscriptions, command: FeedCommand) -> Vec<Action> {
    match command {
        FeedCommand::Follow(owner, path, who, seen) => return followers.follow(owner, path, who, seen),
        FeedCommand::Unfollow(owner, path, who) => followers.unfollow(&owner, &path, who),
        FeedCommand::Leave(who) => followers.leave(who),
    }
    Vec::new()
}

/// Reads a tree and retries until the engine responds.
async fn read(store: Kv, slots: Arc<Semaphore>, key: String, number: u64) -> ReadResult {
    // the semaphore is never closed; without a slot there would only be one more concurrent read
    let _slot = slots.acquire().await.ok();
    loop {
        match store.get(&key, Consistency::Latest).await {
            Ok(None) => return (key, number, None),
            Ok(Some(entry)) => match TreeVersion::decode(&entry) {
                Some(stored) => return (key, number, Some(stored)),
                None => tracing::error!(key, "a tree of an unknown shape cannot be followed"),
            },
            Err(Unavailable) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
