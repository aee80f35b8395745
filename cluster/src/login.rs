//! Logins that have ended before their tokens expire.
//!
//! Owns: from which moment on tokens of a user are accepted, in rows of the bucket `cluster` that every node watches. Never:
//! tokens, or pages.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::engine::{
    Bucket, Consistency, Engine, Entry, Kv, Precondition, Put, Unavailable, Watch, WatchEvent, WatchMode,
    WriteError,
};
use crate::subject::cluster_key;
use crate::timing::LOGIN_LONGEST;
use crate::wire;

/// Maximum attempts of one write.
const ATTEMPTS: usize = 3;

/// The ended logins of all users, as this process knows them. Cheap to clone.
#[derive(Clone)]
pub struct EndedLogins {
    store: Kv,
    /// By the key of the row: microseconds since the Unix epoch.
    ended: Arc<RwLock<HashMap<String, u64>>>,
}

/// The row of a user.
#[derive(Serialize, Deserialize)]
struct End {
    /// Tokens that were issued then or before are not accepted, in microseconds since the Unix epoch: a login may follow at
    /// once.
    at: u64,
}

impl EndedLogins {
    /// Returns the ended logins of the engine's cluster. Nothing is known before [`EndedLogins::follow`].
    pub fn new(engine: &Engine) -> Self {
        Self { store: engine.kv(Bucket::Cluster), ended: Arc::default() }
    }

    /// Reads all ends. The returned future keeps this process current and ends only with the engine.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn follow(&self) -> Result<impl Future<Output = ()> + Send + use<>, Unavailable> {
        let mut watch = self.store.watch(cluster_key::ENDED_LOGINS, WatchMode::Value).await?;
        loop {
            match watch.next().await.ok_or(Unavailable)? {
                WatchEvent::Live => break,
                event => self.apply(event),
            }
        }
        Ok(self.clone().run(watch))
    }

    async fn run(self, mut watch: Watch) {
        while let Some(event) = watch.next().await {
            self.apply(event);
        }
    }

    fn apply(&self, event: WatchEvent) {
        match event {
            WatchEvent::Put(Entry { key, value, .. }) => {
                if let Ok(End { at }) = serde_json::from_slice(&value) {
                    self.adopt(key, at);
                }
            }
            WatchEvent::Delete { key, .. } => {
                self.ended.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
            WatchEvent::Live => {}
        }
    }

    fn adopt(&self, key: String, at: u64) {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        let known = ended.entry(key).or_default();
        *known = at.max(*known);
    }

    /// Ends all logins of a user that have begun until `at`, in microseconds since the Unix epoch. An end that is stored already
    /// and is later, by the clock of another process, stays.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not confirm it: they may have ended.
    pub async fn end(&self, user: &str, at: u64) -> Result<(), Unavailable> {
        let key = cluster_key::ended_logins(user);
        for _ in 0..ATTEMPTS {
            let stored = self.store.get(&key, Consistency::Latest).await?;
            let before = stored.as_ref().and_then(|entry| serde_json::from_slice::<End>(&entry.value).ok());
            if let Some(End { at: later }) = before.filter(|before| before.at >= at) {
                self.adopt(key, later);
                return Ok(());
            }
            let precondition = stored.map_or(Precondition::Absent, |entry| Precondition::Rev(entry.rev));
            let ttl = Some(LOGIN_LONGEST);
            let put = Put { ttl, ..Put::new(key.clone(), wire::encode(&End { at }), precondition) };
            match self.store.put(put).await {
                Ok(_) => {
                    self.adopt(key, at);
                    return Ok(());
                }
                // the next read shows this end, or that of another process
                Err(WriteError::Unknown | WriteError::Conflict { .. }) => {}
                Err(WriteError::Down | WriteError::Invalid) => break,
            }
        }
        Err(Unavailable)
    }

    /// Returns whether a login of a user has ended that began at a moment in microseconds since the Unix epoch; `None` is a
    /// login without a known beginning.
    pub fn has_ended(&self, user: &str, began: Option<u64>) -> bool {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        // most clusters have none, and the key costs more than that
        if ended.is_empty() {
            return false;
        }
        let end = ended.get(&cluster_key::ended_logins(user));
        end.is_some_and(|end| began.is_none_or(|began| began <= *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Memory;

    #[tokio::test]
    async fn an_end_holds_at_every_process_for_logins_before_it_and_for_this_user_only() {
        let engine = Engine::Memory(Memory::new());
        let [one, other] = [(); 2].map(|()| EndedLogins::new(&engine));
        tokio::spawn(other.follow().await.unwrap());
        one.end("ann", 1000).await.unwrap();
        while !other.has_ended("ann", None) {
            tokio::task::yield_now().await;
        }
        for process in [&one, &other] {
            let has_ended = |user, began| process.has_ended(user, began);
            assert!(has_ended("ann", Some(999)) && has_ended("ann", Some(1000)) && has_ended("ann", None));
            assert!(!has_ended("ann", Some(1001)) && !has_ended("bob", Some(1)) && !has_ended("bob", None));
        }
        let late = EndedLogins::new(&engine);
        drop(late.follow().await.unwrap());
        assert!(late.has_ended("ann", Some(1000)), "a process that starts knows what has ended");
    }

    #[tokio::test]
    async fn an_earlier_end_takes_no_later_one_back() {
        let engine = Engine::Memory(Memory::new());
        let [one, other, late] = [(); 3].map(|()| EndedLogins::new(&engine));
        one.end("ann", 1000).await.unwrap();
        // of a process with a clock that is behind
        other.end("ann", 500).await.unwrap();
        drop(late.follow().await.unwrap());
        for process in [&one, &other, &late] {
            assert!(process.has_ended("ann", Some(900)));
        }
        one.end("ann", 2000).await.unwrap();
        assert!(one.has_ended("ann", Some(2000)));
    }
}
