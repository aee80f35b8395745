//! The proof that a request comes from another node, which has received it from its client.
//!
//! Owns: the ticket of such a request, its signature, and that it is used once. Never: connections, or which node a request
//! goes to (`placement`). The address at which a node receives such requests is not for clients; a client that reaches it all the same
//! cannot make a ticket, because the keys stay in the cluster.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};
use pagewire_cluster::clock::ClusterClock;
use pagewire_cluster::id::{Holder, Key};
use pagewire_cluster::keyring::Keyring;
use serde::{Deserialize, Serialize};

use super::hops::HopTarget;

/// The header of a ticket. A client cannot send it: names that begin like this one do not pass a node.
pub(super) const TICKET: HeaderName = HeaderName::from_static("x-pagewire-hop");
/// What other signatures of the same keys never begin with.
const PURPOSE: &[u8] = b"hop\0";

/// What a node says about a request that it sends to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HopTicket {
    /// The path of the mount.
    pub(super) mount: String,
    /// The lane that the request is in; empty for a mount without lanes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) lane: String,
    /// Whether that is the base lane of the rollout.
    #[serde(default)]
    pub(super) is_base: bool,
    /// The unit of the request.
    pub(super) unit: Key,
    /// The node that it is for.
    to: Holder,
    /// When it was made, by the clock of the cluster.
    at_ms: u64,
    /// Tells it from all others.
    nonce: Key,
}

/// Why a request is not from another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HopRefusal {
    /// It has no ticket, or none that can be read.
    NoTicket,
    /// The ticket is not signed by a key of the cluster, or for another request.
    Forged,
    /// The ticket is for another node, or for an earlier process of this one.
    OtherNode,
    /// The ticket is too old, or used already.
    Spent,
}

impl HopRefusal {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::NoTicket => "no_ticket",
            Self::Forged => "forged_ticket",
            Self::OtherNode => "ticket_of_other_node",
            Self::Spent => "spent_ticket",
        }
    }
}

/// Makes and checks tickets.
pub(super) struct HopTickets {
    keyring: Keyring,
    clock: ClusterClock,
    /// How long a ticket is valid.
    valid: Duration,
    spent: Mutex<SpentNonces>,
}

impl HopTickets {
    pub(super) fn new(keyring: Keyring, clock: ClusterClock, valid: Duration) -> Self {
        Self { keyring, clock, valid, spent: Mutex::default() }
    }

    /// Returns the ticket for a request of a mount.
    pub(super) fn ticket(&self, target: HopTarget<'_>, method: &Method, uri: &Uri) -> Option<HeaderValue> {
        let HopTarget { node, mount, lane, unit, .. } = target;
        let ticket = HopTicket {
            mount: mount.to_owned(),
            lane: lane.name.to_owned(),
            is_base: lane.is_base,
            unit,
            to: node,
            at_ms: self.clock.now_ms(),
            nonce: Key::random(),
        };
        let text = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&ticket).ok()?);
        let signature = self.keyring.sign(&signed(&text, method, uri));
        HeaderValue::from_str(&format!("{text}.{signature}")).ok()
    }

    /// Takes the ticket out of the headers of a request. `own` is this node.
    ///
    /// # Errors
    ///
    /// [`HopRefusal`] for a request that no node of the cluster has sent here, or that was sent before.
    pub(super) async fn accept(
        &self,
        own: Holder,
        method: &Method,
        uri: &Uri,
        headers: &mut HeaderMap,
    ) -> Result<HopTicket, HopRefusal> {
        let value = headers.remove(TICKET).ok_or(HopRefusal::NoTicket)?;
        let (text, signature) =
            value.to_str().ok().and_then(|text| text.split_once('.')).ok_or(HopRefusal::NoTicket)?;
        // an engine that does not reply has no key that this node does not know
        let is_genuine = self.keyring.verify(&signed(text, method, uri), signature).await.unwrap_or(false);
        if !is_genuine {
            return Err(HopRefusal::Forged);
        }
        let ticket = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let ticket: HopTicket =
            ticket.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(HopRefusal::NoTicket)?;
        if ticket.to != own {
            return Err(HopRefusal::OtherNode);
        }
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let valid_ms = self.valid.as_millis() as u64;
        match spent.spend(&ticket, self.clock.now_ms(), valid_ms) {
            true => Ok(ticket),
            false => Err(HopRefusal::Spent),
        }
    }
}

fn signed(text: &str, method: &Method, uri: &Uri) -> Vec<u8> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    [PURPOSE, text.as_bytes(), b"\0", method.as_str().as_bytes(), b"\0", target.as_bytes()].concat()
}

/// The tickets that were used in the last two periods in which one is valid: an older one is refused for its age.
#[derive(Debug, Default)]
struct SpentNonces {
    /// The number of the current period.
    period: u64,
    current: HashSet<Key>,
    before: HashSet<Key>,
}

impl SpentNonces {
    /// Returns whether a ticket is neither too old, nor from the future, nor used, and notes that it is used now.
    fn spend(&mut self, ticket: &HopTicket, now_ms: u64, valid_ms: u64) -> bool {
        if now_ms.abs_diff(ticket.at_ms) >= valid_ms {
            return false;
        }
        // a ticket may be ahead of this clock by as much as it may be behind it
        let period = now_ms / (2 * valid_ms).max(1);
        match period.saturating_sub(self.period) {
            0 => {}
            1 => self.before = std::mem::take(&mut self.current),
            _ => *self = Self::default(),
        }
        self.period = self.period.max(period);
        !self.before.contains(&ticket.nonce) && self.current.insert(ticket.nonce)
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::engine::{Engine, Memory};
    use pagewire_cluster::id::NodeNumber;
    use pagewire_cluster::timing::Timing;
    use proptest::prelude::*;

    use super::super::lanes::LaneRef;
    use super::*;

    fn holder(node: u16) -> Holder {
        Holder { node: NodeNumber::new(node).unwrap(), epoch: 7 }
    }

    async fn tickets(engine: &Engine) -> HopTickets {
        let keyring = Keyring::load(engine).await.unwrap();
        HopTickets::new(keyring, engine.clock(), Timing::TEST.hop_ticket)
    }

    fn with(ticket: HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(TICKET, ticket)])
    }

    #[tokio::test]
    async fn a_ticket_is_accepted_once_by_its_node_for_its_request() {
        let engine = Engine::Memory(Memory::with_timing(&Timing::TEST));
        let (sender, receiver) = (tickets(&engine).await, tickets(&engine).await);
        let uri = Uri::from_static("/shop/cart?x=1");
        let (lane, unit) = (LaneRef { name: "canary", is_base: false }, Key::from_bits(9));
        let target = HopTarget { node: holder(2), address: "", mount: "/shop", lane, unit };
        let ticket = || sender.ticket(target, &Method::GET, &uri).unwrap();
        let first = ticket();
        let mut headers = with(first.clone());
        let accepted = receiver.accept(holder(2), &Method::GET, &uri, &mut headers).await.unwrap();
        assert_eq!((accepted.mount.as_str(), accepted.lane.as_str()), ("/shop", "canary"));
        assert_eq!((accepted.unit, accepted.is_base), (unit, false));
        assert!(headers.is_empty(), "the application does not see the ticket");
        let other = Uri::from_static("/shop/cart?x=2");
        for (own, method, uri, ticket, refusal) in [
            (holder(2), Method::GET, &uri, first, HopRefusal::Spent),
            (holder(2), Method::POST, &uri, ticket(), HopRefusal::Forged),
            (holder(2), Method::GET, &other, ticket(), HopRefusal::Forged),
            (holder(3), Method::GET, &uri, ticket(), HopRefusal::OtherNode),
            (Holder { epoch: 8, ..holder(2) }, Method::GET, &uri, ticket(), HopRefusal::OtherNode),
            (holder(2), Method::GET, &uri, HeaderValue::from_static("x.y.z"), HopRefusal::Forged),
            (holder(2), Method::GET, &uri, HeaderValue::from_static("x"), HopRefusal::NoTicket),
        ] {
            let refused = receiver.accept(own, &method, uri, &mut with(ticket)).await.unwrap_err();
            assert_eq!(refused, refusal, "{method} {uri}");
        }
        let stranger = Engine::Memory(Memory::with_timing(&Timing::TEST));
        let forged = tickets(&stranger).await.ticket(target, &Method::GET, &uri);
        let mut forged = with(forged.unwrap());
        let refused = receiver.accept(holder(2), &Method::GET, &uri, &mut forged).await;
        assert_eq!(refused, Err(HopRefusal::Forged));
    }

    #[test]
    fn a_ticket_of_a_node_that_knows_no_lanes_is_for_the_mount_itself() {
        let (unit, to) = (Key::from_bits(9), holder(2));
        let before = serde_json::json!({"mount": "/", "unit": unit, "to": to, "at_ms": 7, "nonce": unit});
        let ticket: HopTicket = serde_json::from_value(before).unwrap();
        assert_eq!((ticket.lane.as_str(), ticket.is_base), ("", false));
    }

    proptest! {
        #[test]
        fn no_ticket_is_used_twice_whatever_the_times(
            uses in proptest::collection::vec((0u128..4, 0u64..100, 0u64..30), 1..40)
        ) {
            let mut spent = SpentNonces::default();
            let (mut now_ms, mut used) = (1000, HashSet::new());
            for (nonce, at, step) in uses {
                now_ms += step;
                // one ticket has one time
                let ticket = HopTicket {
                    mount: String::new(),
                    lane: String::new(),
                    is_base: false,
                    unit: Key::from_bits(0),
                    to: holder(1),
                    at_ms: 1000 + u64::try_from(nonce).unwrap() * 20 + at / 100,
                    nonce: Key::from_bits(nonce),
                };
                if spent.spend(&ticket, now_ms, 50) {
                    prop_assert!(used.insert(nonce), "used again at {}", now_ms);
                    prop_assert!(now_ms.abs_diff(ticket.at_ms) < 50);
                }
            }
        }
    }
}
