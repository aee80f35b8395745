//! The feed: what followers in this process are told.
//!
//! Owns: the one watch on all trees, and the readings that it takes. Never: a decision (`followers`, `followed`), or how
//! a follower is reached.

pub(super) mod followed;
pub(super) mod followers;
mod news;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc};

use self::followed::Action;
use self::followers::Followers;
pub use self::news::{Delivery, News};
use super::record::Stored;
use super::states::Shared;
use super::writer::Found;
use super::{Owner, Path};
use crate::engine::{Consistency, Down, Kv, Watch, WatchEvent, WatchMode};
use crate::id::Key;

/// How many trees are read at once.
const READINGS: usize = 64;
/// Before an engine that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// What somebody wants of the feed.
#[derive(Debug)]
pub(super) enum Wish {
    Follow(Owner, Path, Key, u64),
    Unfollow(Owner, Path, Key),
    Leave(Key),
}

/// A key, the number of the reading, and what stands there.
type Answer = (String, u64, Found);

/// The feed of one process.
pub(super) struct Feed {
    shared: Arc<Shared>,
    wishes: mpsc::UnboundedReceiver<Wish>,
}

impl Feed {
    /// `None` the second time.
    pub(super) fn new(shared: Arc<Shared>) -> Option<Self> {
        let wishes = shared.wishes_once()?;
        Some(Self { shared, wishes })
    }

    /// Tells followers; ends only when the engine is gone. A process in which nobody follows anything hears of no write:
    /// hearing of one costs about as much as making it.
    pub(super) async fn run(mut self, tell: impl FnMut(Delivery)) {
        let mut followers = Followers::default();
        let first = loop {
            match self.wishes.recv().await {
                None => return,
                Some(wish) => match grant(&mut followers, wish) {
                    actions if actions.is_empty() => {}
                    actions => break actions,
                },
            }
        };
        if let Some(watch) = self.watch().await {
            self.follow(watch, followers, first, tell).await;
        }
    }

    /// A watch that has seen everything that stands: from here on it tells of each change and of each deletion. `None` when
    /// the engine is gone.
    async fn watch(&self) -> Option<Watch> {
        let mut watch = loop {
            match self.shared.store.watch("", WatchMode::Meta).await {
                Ok(watch) => break watch,
                Err(Down) => tokio::time::sleep(PAUSE).await,
            }
        };
        while watch.next().await? != WatchEvent::Live {}
        Some(watch)
    }

    async fn follow(
        &mut self,
        mut watch: Watch,
        mut followers: Followers,
        mut actions: Vec<Action>,
        mut tell: impl FnMut(Delivery),
    ) {
        let mut readings = FuturesUnordered::new();
        let slots = Arc::new(Semaphore::new(READINGS));
        loop {
            for action in actions {
                match action {
                    Action::Tell(delivery) => tell(delivery),
                    Action::Read { key, number } => {
                        readings.push(read(self.shared.store.clone(), slots.clone(), key, number));
                    }
                }
            }
            actions = tokio::select! {
                // in this order: who has left is not told what was written afterwards, and no stream of changes holds up a
                // snapshot
                biased;
                wish = self.wishes.recv() => match wish {
                    Some(wish) => grant(&mut followers, wish),
                    None => return,
                },
                Some(answer) = readings.next() => {
                    let (key, number, found): Answer = answer;
                    followers.found(&key, number, found)
                }
                event = watch.next() => match event {
                    Some(event) => self.heard(&mut followers, event),
                    None => return,
                },
            };
        }
    }

    fn heard(&self, followers: &mut Followers, event: WatchEvent) -> Vec<Action> {
        match event {
            WatchEvent::Live => Vec::new(),
            WatchEvent::Put(entry) => {
                self.shared.desk().shelf.heard(&entry);
                followers.heard(&entry)
            }
            WatchEvent::Delete { key, .. } => {
                self.shared.desk().shelf.take(&key);
                followers.gone(&key)
            }
        }
    }
}

fn grant(followers: &mut Followers, wish: Wish) -> Vec<Action> {
    match wish {
        Wish::Follow(owner, path, who, seen) => return followers.follow(owner, path, who, seen),
        Wish::Unfollow(owner, path, who) => followers.unfollow(&owner, &path, who),
        Wish::Leave(who) => followers.leave(who),
    }
    Vec::new()
}

/// Reads a tree, however long the engine does not answer.
async fn read(store: Kv, slots: Arc<Semaphore>, key: String, number: u64) -> Answer {
    // never closed; without a slot there would only be one reading more
    let _slot = slots.acquire().await.ok();
    loop {
        match store.get(&key, Consistency::Latest).await {
            Ok(None) => return (key, number, None),
            Ok(Some(entry)) => match Stored::decode(&entry) {
                Some(stored) => return (key, number, Some(stored)),
                None => tracing::error!(key, "a tree of an unknown shape cannot be followed"),
            },
            Err(Down) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
