//! The keys that sign page tokens: created once per cluster, shared by all nodes, rotated.
//!
//! Owns: the ring in the bucket `cluster`, its changes, and the signature over any bytes. Never: the content of a
//! token.
//!
//! Every node watches the ring, so that a new key signs on all nodes within moments. A token of a key that a node does
//! not know yet makes the node read the ring. A key that no longer signs is accepted for longer than the lifetime of
//! any token.

mod ring;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::ring::Ring;
pub use self::ring::{Ages, KeyId, KeySeen};
use crate::clock::ClusterClock;
use crate::engine::{
    Bucket, Consistency, Engine, Kv, Precondition, Put, Unavailable, Watch, WatchEvent, WatchMode, WriteError,
};
use crate::subject::cluster_key::{self, KEYRING};
use crate::wire;

/// How often a change is retried with the current ring, because another node was faster.
const ATTEMPTS: usize = 8;

/// The key ring of the cluster, as this process knows it. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    store: Kv,
    clock: ClusterClock,
    /// The ring, and the revision of its entry.
    ring: Arc<RwLock<(Ring, u64)>>,
    /// When the ring was last read for an unknown key, so that unknown keys cause one read at a time.
    last_read: Arc<Mutex<Option<Instant>>>,
}

impl Keyring {
    /// Loads the ring, and creates it if this is the first process of the cluster.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn load(engine: &Engine) -> Result<Self, Unavailable> {
        let (store, clock) = (engine.kv(Bucket::Cluster), engine.clock());
        loop {
            if let Some(ring) = read(&store).await? {
                let ring = Arc::new(RwLock::new(ring));
                return Ok(Self { store, clock, ring, last_read: Arc::default() });
            }
            let first = wire::encode(&Ring::new(clock.now_ms() / 1000));
            match store.put(Put::new(KEYRING, first, Precondition::Absent)).await {
                // the stored ring is authoritative, no matter which process wrote it
                Ok(_) | Err(WriteError::Conflict { .. } | WriteError::Unknown) => {}
                Err(WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
        }
    }

    /// Starts to watch the ring. The returned future keeps this process current and ends only with the engine.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine does not reply.
    pub async fn follow(&self) -> Result<impl Future<Output = ()> + Send + use<>, Unavailable> {
        let watch = self.store.watch(cluster_key::ALL, WatchMode::Value).await?;
        Ok(self.clone().run(watch))
    }

    async fn run(self, mut watch: Watch) {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Put(entry) = event
                && entry.key == KEYRING
                && let Ok(ring) = serde_json::from_slice(&entry.value)
            {
                self.adopt((ring, entry.rev));
            }
        }
    }

    /// Signs `content` and returns `<key id>.<base64url of the MAC>`.
    pub fn sign(&self, content: &[u8]) -> String {
        let known = self.known();
        let id = known.0.current();
        let mac = known.0.mac(id, content).map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
        format!("{id}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    /// Returns whether a signature is genuine. An unknown key id makes this process read the ring again.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the ring has to be read and the engine does not reply.
    pub async fn verify(&self, content: &[u8], signature: &str) -> Result<bool, Unavailable> {
        let Some((id, _)) = parse(signature) else { return Ok(false) };
        if !self.known().0.has(id) {
            self.refresh(id).await?;
        }
        Ok(self.verify_known(content, signature))
    }

    /// Returns whether a signature is genuine, by the keys that this process knows: without the engine.
    pub fn verify_known(&self, content: &[u8], signature: &str) -> bool {
        let Some((id, mac)) = parse(signature) else { return false };
        // verify_slice compares in constant time
        self.known().0.mac(id, content).is_some_and(|expected| expected.verify_slice(&mac).is_ok())
    }

    /// Reads the ring for a key that is not in it. Concurrent callers share one read.
    async fn refresh(&self, id: KeyId) -> Result<(), Unavailable> {
        let arrived = Instant::now();
        let mut last_read = self.last_read.lock().await;
        if self.known().0.has(id) || last_read.is_some_and(|began| began > arrived) {
            return Ok(());
        }
        let began = Instant::now();
        if let Some(ring) = read(&self.store).await? {
            self.adopt(ring);
        }
        *last_read = Some(began);
        Ok(())
    }

    /// Returns the keys of the ring, without their secrets.
    pub fn keys(&self) -> Vec<KeySeen> {
        self.known().0.seen()
    }

    /// Adds a new key, which signs from now on, and returns its id. The old keys stay as long as `ages` requires.
    ///
    /// # Errors
    ///
    /// The error of the engine, when it does not reply: the ring may have changed.
    pub async fn rotate(&self, ages: Ages) -> Result<KeyId, WriteError> {
        let ring = self.change(|ring, now| Some(ring.rotated(now, ages))).await?;
        Ok(ring.map_or_else(|| self.known().0.current(), |ring| ring.current()))
    }

    /// Rotates the ring when the current key has signed for long enough, and removes keys that no token needs any more.
    /// Returns whether the ring has changed.
    ///
    /// # Errors
    ///
    /// The error of the engine, when it does not reply: the ring may have changed.
    pub async fn maintain(&self, ages: Ages) -> Result<bool, WriteError> {
        Ok(self.change(|ring, now| ring.maintained(now, ages)).await?.is_some())
    }

    /// Writes the ring that `change` derives from the current one, and returns it; `None` when no change is needed.
    async fn change(&self, change: impl Fn(&Ring, u64) -> Option<Ring>) -> Result<Option<Ring>, WriteError> {
        for _ in 0..ATTEMPTS {
            let (ring, rev) = self.known().clone();
            let Some(changed) = change(&ring, self.now_s()) else { return Ok(None) };
            let put = Put::new(KEYRING, wire::encode(&changed), Precondition::Rev(rev));
            match self.store.put(put).await {
                Ok(rev) => {
                    self.adopt((changed.clone(), rev));
                    return Ok(Some(changed));
                }
                Err(WriteError::Conflict { .. }) => {
                    if let Some(ring) = read(&self.store).await.map_err(|Unavailable| WriteError::Down)? {
                        self.adopt(ring);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(WriteError::Unknown)
    }

    /// Returns the time of the cluster in seconds since the Unix epoch.
    pub fn now_s(&self) -> u64 {
        self.clock.now_ms() / 1000
    }

    fn adopt(&self, (ring, rev): (Ring, u64)) {
        let mut known = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if known.1 < rev {
            *known = (ring, rev);
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, (Ring, u64)> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the key id and the MAC of a signature.
fn parse(signature: &str) -> Option<(KeyId, Vec<u8>)> {
    let (id, mac) = signature.split_once('.')?;
    Some((id.parse().ok()?, BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?))
}

async fn read(store: &Kv) -> Result<Option<(Ring, u64)>, Unavailable> {
    let entry = store.get(KEYRING, Consistency::Latest).await?;
    Ok(entry.and_then(|entry| Some((serde_json::from_slice(&entry.value).ok()?, entry.rev))))
}

#[cfg(test)]
mod tests;
