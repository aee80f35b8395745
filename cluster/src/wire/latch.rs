//! The messages of abort latches, which travel on the Bus alone.
//!
//! Owns: the shape of a latch and the bytes that are signed. Never: whether a latch is genuine or valid (`rollout`).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::encode;
use crate::id::NodeNumber;

/// What other signatures of the same keys never begin with.
const PURPOSE: &[u8] = b"abort latch\0";

/// An abort of a lane: it holds for revisions of the pool's rollout up to its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortLatch {
    /// The pool.
    pub pool: String,
    /// The lane that gets no work any more.
    pub lane: String,
    /// The last revision for which the latch holds.
    #[serde(rename = "rev")]
    pub revision: u64,
    /// The origin of the document: a document of another origin, whose revisions began again, is not meant.
    #[serde(default)]
    pub origin: String,
    /// Author of the abort.
    pub by: String,
    /// Reason of the abort, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// A latch as its signer wrote it. Every process passes it on byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedLatch {
    /// The JSON of an [`AbortLatch`], as base64url.
    pub latch: String,
    /// Signature of a key of the cluster over [`SignedLatch::signed`].
    pub signature: String,
}

impl SignedLatch {
    /// Creates a signed latch. `sign` returns the signature of bytes.
    pub fn new(latch: &AbortLatch, sign: impl FnOnce(&[u8]) -> String) -> Self {
        let latch = BASE64_URL_SAFE_NO_PAD.encode(encode(latch));
        let signature = sign(&Self::content(&latch));
        Self { latch, signature }
    }

    /// Returns the bytes that are signed.
    pub fn signed(&self) -> Vec<u8> {
        Self::content(&self.latch)
    }

    fn content(latch: &str) -> Vec<u8> {
        [PURPOSE, latch.as_bytes()].concat()
    }

    /// Returns the latch, whether or not it is genuine; `None` for one that cannot be read.
    pub fn read(&self) -> Option<AbortLatch> {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(&self.latch).ok()?).ok()
    }
}

/// A message about latches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LatchMessage {
    /// Latches that a process holds. With a reply subject, each process that applies them answers with a [`LatchReply`].
    Hold {
        /// The latches.
        latches: Vec<SignedLatch>,
    },
    /// A request of a process that starts or has reconnected: the answer is [`LatchMessage::Hold`].
    Ask,
    /// A message of a newer release.
    #[serde(other)]
    Unknown,
}

/// The process that has applied an announced latch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "snake_case")]
pub enum LatchReply {
    /// A node.
    Node {
        /// Its number.
        node: NodeNumber,
    },
    /// A process of workers outside the nodes.
    Workers {
        /// Name of its machine.
        host: String,
        /// Process id on that machine.
        pid: u32,
    },
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use serde_json::Value;
    use sha2::Sha256;

    use super::*;

    /// Signs like a ring whose key 1 has this secret.
    fn sign(secret: &[u8]) -> impl Fn(&[u8]) -> String {
        move |content| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
            mac.update(&1u32.to_be_bytes());
            mac.update(content);
            format!("1.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        }
    }

    #[test]
    fn the_golden_vectors_hold() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/latches.json"));
        let golden: Value = serde_json::from_str(text).unwrap();
        let secret = BASE64_URL_SAFE_NO_PAD.decode(golden["secret"].as_str().unwrap()).unwrap();
        let vectors = golden["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 3);
        for vector in vectors {
            let latch: AbortLatch = serde_json::from_value(vector["latch"].clone()).unwrap();
            let signed: SignedLatch = serde_json::from_value(vector["signed"].clone()).unwrap();
            assert_eq!(SignedLatch::new(&latch, sign(&secret)), signed, "{latch:?}");
            assert_eq!(signed.read(), Some(latch));
            let message = LatchMessage::Hold { latches: vec![signed] };
            assert_eq!(encode(&message), vector["message"].as_str().unwrap());
        }
        let reply = |reply: &LatchReply| String::from_utf8(encode(reply).to_vec()).unwrap();
        let node = LatchReply::Node { node: NodeNumber::new(3).unwrap() };
        let workers = LatchReply::Workers { host: "a".into(), pid: 7 };
        assert_eq!([reply(&node), reply(&workers)].as_slice(), golden["replies"].as_array().unwrap());
        assert_eq!(encode(&LatchMessage::Ask), golden["ask"].as_str().unwrap());
    }

    #[test]
    fn what_a_newer_release_sends_is_recognised_as_such_and_passed_on_as_it_is() {
        let newer = r#"{"type":"release","latches":[]}"#;
        assert_eq!(serde_json::from_str::<LatchMessage>(newer).unwrap(), LatchMessage::Unknown);
        let text = BASE64_URL_SAFE_NO_PAD.encode(r#"{"pool":"p","lane":"c","rev":3,"by":"ann","until":9}"#);
        let signed = SignedLatch { latch: text, signature: "1.x".into() };
        assert_eq!(signed.read().map(|latch| (latch.revision, latch.origin)), Some((3, String::new())));
    }
}
