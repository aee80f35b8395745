//! The keys that sign page tokens: created once per cluster, shared by all nodes, rotated.
//!
//! Owns: the ring in the bucket `cluster` and the signature over any bytes. Never: what a token says.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::engine::{Bucket, Consistency, Down, Engine, Expect, Kv, Put, WriteError};
use crate::subject::cluster_key::KEYRING;
use crate::wire;

/// A key's number in the ring.
pub type KeyId = u32;

#[derive(Clone, Serialize, Deserialize)]
struct Ring {
    /// Signs from now on.
    current: KeyId,
    /// All accepted keys, base64url of 32 bytes.
    keys: BTreeMap<KeyId, String>,
}

impl Ring {
    fn new() -> Self {
        let secret: [u8; 32] = rand::random();
        Self { current: 1, keys: BTreeMap::from([(1, BASE64_URL_SAFE_NO_PAD.encode(secret))]) }
    }

    fn mac(&self, id: KeyId, content: &[u8]) -> Option<Hmac<Sha256>> {
        let secret = BASE64_URL_SAFE_NO_PAD.decode(self.keys.get(&id)?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).ok()?;
        mac.update(&id.to_be_bytes());
        mac.update(content);
        Some(mac)
    }
}

/// The key ring of the cluster, as this process knows it. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    store: Kv,
    ring: Arc<RwLock<Ring>>,
}

impl Keyring {
    /// Loads the ring, creating it if this is the cluster's first process.
    pub async fn load(engine: &Engine) -> Result<Self, Down> {
        let store = engine.kv(Bucket::Cluster);
        loop {
            if let Some(ring) = read(&store).await? {
                return Ok(Self { store, ring: Arc::new(RwLock::new(ring)) });
            }
            match store.put(Put::new(KEYRING, wire::encode(&Ring::new()), Expect::Absent)).await {
                // whoever won, the ring that stands there is the ring
                Ok(_) | Err(WriteError::Conflict { .. } | WriteError::Unknown) => {}
                Err(WriteError::Down | WriteError::Invalid) => return Err(Down),
            }
        }
    }

    /// Signs; `<key id>.<base64url of the MAC>`.
    pub fn sign(&self, content: &[u8]) -> String {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let mac = ring.mac(ring.current, content).map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
        format!("{}.{}", ring.current, BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    /// Whether a signature is genuine. A key id that this process does not know yet makes it read the ring again.
    pub async fn verify(&self, content: &[u8], signature: &str) -> Result<bool, Down> {
        let Some((id, mac)) = signature.split_once('.') else { return Ok(false) };
        let (Ok(id), Ok(mac)) = (id.parse::<KeyId>(), BASE64_URL_SAFE_NO_PAD.decode(mac)) else {
            return Ok(false);
        };
        if !self.knows(id)
            && let Some(ring) = read(&self.store).await?
        {
            *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        }
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        // verify_slice compares in constant time
        Ok(ring.mac(id, content).is_some_and(|expected| expected.verify_slice(&mac).is_ok()))
    }

    fn knows(&self, id: KeyId) -> bool {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).keys.contains_key(&id)
    }
}

async fn read(store: &Kv) -> Result<Option<Ring>, Down> {
    let entry = store.get(KEYRING, Consistency::Latest).await?;
    Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()))
}
