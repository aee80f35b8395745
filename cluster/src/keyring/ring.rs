//! A ring of keys: which one signs, which are accepted, and how that changes with time. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Number of a key in the ring; grows with every rotation.
pub type KeyId = u32;

/// How long keys are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// How long a key signs.
    pub signs: Duration,
    /// How long a key is accepted after that: longer than the lifetime of any token.
    pub kept: Duration,
}

/// A key without its secret. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySeen {
    /// Number of the key.
    pub id: KeyId,
    /// When the key began to sign; `None` if that is unknown or the key no longer signs.
    pub since: Option<u64>,
    /// When the key signed its last token; `None` for the key that signs.
    pub retired: Option<u64>,
}

/// The value of the key `keyring`. Members that an older release does not know have defaults: an older release
/// continues with the others, and a newer release counts a ring written by an older one as begun when it first reads
/// the ring.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Ring {
    /// Key that signs from now on.
    current: KeyId,
    /// All accepted keys, as base64url of 32 bytes.
    keys: BTreeMap<KeyId, String>,
    /// When the current key began to sign, in seconds since the Unix epoch; 0 for unknown.
    #[serde(default)]
    since: u64,
    /// When each of the other keys signed its last token.
    #[serde(default)]
    retired: BTreeMap<KeyId, u64>,
}

impl Ring {
    pub(super) fn new(now: u64) -> Self {
        Self { current: 1, keys: BTreeMap::from([(1, secret())]), since: now, retired: BTreeMap::new() }
    }

    pub(super) fn current(&self) -> KeyId {
        self.current
    }

    pub(super) fn has(&self, id: KeyId) -> bool {
        self.keys.contains_key(&id)
    }

    pub(super) fn mac(&self, id: KeyId, content: &[u8]) -> Option<Hmac<Sha256>> {
        let secret = BASE64_URL_SAFE_NO_PAD.decode(self.keys.get(&id)?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).ok()?;
        mac.update(&id.to_be_bytes());
        mac.update(content);
        Some(mac)
    }

    pub(super) fn seen(&self) -> Vec<KeySeen> {
        let seen = |&id: &KeyId| match id == self.current {
            true => KeySeen { id, since: Some(self.since).filter(|since| *since > 0), retired: None },
            false => KeySeen { id, since: None, retired: self.retired.get(&id).copied() },
        };
        self.keys.keys().map(seen).collect()
    }

    /// Returns the ring with a new key that signs, without keys that no token needs.
    pub(super) fn rotated(&self, now: u64, ages: Ages) -> Self {
        let mut ring = self.clone();
        let newest = ring.keys.keys().next_back().copied().unwrap_or_default().max(ring.current);
        ring.retired.insert(ring.current, now);
        ring.current = newest.saturating_add(1);
        ring.keys.insert(ring.current, secret());
        ring.since = now;
        ring.drop_old(now, ages);
        ring
    }

    /// Returns the ring as it must be at `now`; `None` when no change is needed.
    pub(super) fn maintained(&self, now: u64, ages: Ages) -> Option<Self> {
        if self.since > 0 && now >= self.since.saturating_add(ages.signs.as_secs()) {
            return Some(self.rotated(now, ages));
        }
        let mut ring = self.clone();
        let dropped = ring.drop_old(now, ages);
        if ring.since == 0 {
            ring.since = now;
            return Some(ring);
        }
        dropped.then_some(ring)
    }

    fn drop_old(&mut self, now: u64, ages: Ages) -> bool {
        let before = self.keys.len();
        let (current, retired) = (self.current, &self.retired);
        let until = |id: &KeyId| retired.get(id).map(|at| at.saturating_add(ages.kept.as_secs()));
        self.keys.retain(|id, _| *id == current || until(id).is_none_or(|until| now <= until));
        let keys = &self.keys;
        self.retired.retain(|id, _| keys.contains_key(id));
        self.keys.len() < before
    }
}

fn secret() -> String {
    let secret: [u8; 32] = rand::random();
    BASE64_URL_SAFE_NO_PAD.encode(secret)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGES: Ages = Ages { signs: Duration::from_secs(70), kept: Duration::from_secs(24) };

    proptest! {
        /// For any sequence of rotations and pauses, a token is accepted for its whole lifetime, and a key that has
        /// signed no token for longer than that is removed.
        #[test]
        fn a_key_outlives_its_tokens_and_not_much_more(
            steps in prop::collection::vec((1u64..40, any::<bool>()), 1..40),
        ) {
            let (mut ring, mut now) = (Ring::new(1000), 1000);
            // the tokens issued: when, and by which key
            let mut given = vec![(now, ring.current())];
            for (pause, by_hand) in steps {
                now += pause;
                let before = ring.current();
                ring = match by_hand {
                    true => ring.rotated(now, AGES),
                    false => ring.maintained(now, AGES).unwrap_or(ring),
                };
                prop_assert!(ring.current() >= before);
                prop_assert!(now - ring.since < AGES.signs.as_secs(), "the present key is not old");
                for (at, key) in &given {
                    prop_assert!(now - at > AGES.kept.as_secs() || ring.has(*key), "{key} given at {at} is needed at {now}");
                }
                for key in ring.seen().into_iter().filter(|key| key.id != ring.current()) {
                    let retired = key.retired.unwrap();
                    prop_assert!(now - retired <= AGES.kept.as_secs(), "{} is of no use", key.id);
                }
                given.push((now, ring.current()));
            }
        }
    }

    #[test]
    fn a_ring_of_an_older_release_is_read_and_its_key_ages_from_then_on() {
        let old = r#"{"current":1,"keys":{"1":"AAAA"}}"#;
        let ring: Ring = serde_json::from_str(old).unwrap();
        let seen = ring.maintained(5000, AGES).unwrap();
        assert_eq!((seen.current(), seen.since), (1, 5000));
        assert!(seen.maintained(5069, AGES).is_none());
        assert_eq!(seen.maintained(5070, AGES).unwrap().current(), 2);
    }
}
