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

/// The feed of one process, with its watch open.
pub(super) struct Feed {
    shared: Arc<Shared>,
    watch: Watch,
    wishes: mpsc::UnboundedReceiver<Wish>,
}

impl Feed {
    /// Opens the watch: from here on nothing is missed.
    pub(super) async fn open(shared: Arc<Shared>) -> Result<Self, Down> {
        let watch = shared.store.watch("", WatchMode::Meta).await?;
        let wishes = shared.wishes_once().ok_or(Down)?;
        Ok(Self { shared, watch, wishes })
    }

    /// Tells followers; ends only when the engine is gone.
    pub(super) async fn run(mut self, mut tell: impl FnMut(Delivery)) {
        let mut followers = Followers::default();
        let mut readings = FuturesUnordered::new();
        let slots = Arc::new(Semaphore::new(READINGS));
        loop {
            let actions = tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(wish) => grant(&mut followers, wish),
                    None => return,
                },
                event = self.watch.next() => match event {
                    Some(event) => self.heard(&mut followers, event),
                    None => return,
                },
                Some(answer) = readings.next() => {
                    let (key, number, found): Answer = answer;
                    followers.found(&key, number, found)
                }
            };
            for action in actions {
                match action {
                    Action::Tell(delivery) => tell(delivery),
                    Action::Read { key, number } => {
                        readings.push(read(self.shared.store.clone(), slots.clone(), key, number));
                    }
                }
            }
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
