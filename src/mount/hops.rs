//! Requests that this node sends to the node of their process.
//!
//! Owns: the connections to other nodes, and how long one of them is waited for. Never: which node a request goes to
//! (`sticky_upstream`), or the ticket that it carries (`hop_ticket`).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::HeaderName;
use http::{Request, Response};
use pagewire_cluster::clock::ClusterClock;
use pagewire_cluster::id::{Holder, Key};
use pagewire_cluster::keyring::Keyring;
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::register::Registers;
use pagewire_cluster::registry::Registry;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::rollout::analysis::OutcomeLog;
use pagewire_cluster::timing::Timing;
use pagewire_worker::runtime::child::http_lease::NoProcess;
use tokio::sync::watch;

use super::body::MountBody;
use super::hop_ticket::{HopRefusal, HopTicket, HopTickets, TICKET};
use super::lanes::LaneRef;
use super::upstream::{UpstreamBody, UpstreamClient, UpstreamError};
use crate::config::UpstreamAddress;

/// The header of an answer that says that the node has no process for the request.
pub(super) const NO_PROCESS: HeaderName = HeaderName::from_static("x-pagewire-hop-no-process");

/// What this node knows about its cluster.
#[derive(Clone)]
pub(crate) struct MountCluster {
    /// The nodes with their processes.
    pub(crate) registry: Registry,
    /// The number of this node.
    pub(crate) lease: NodeLease,
    /// The keys that prove a node to another one.
    pub(crate) keyring: Keyring,
    /// The clock that all nodes share.
    pub(crate) clock: ClusterClock,
    /// The rollouts, which decide the lane of a request.
    pub(crate) rollouts: Rollouts,
    /// The log of what the lanes are compared by.
    pub(crate) outcomes: OutcomeLog,
    /// The registers of applications.
    pub(crate) registers: Registers,
    /// Whether this node leaves the cluster.
    pub(crate) draining: watch::Receiver<bool>,
}

/// The other nodes, as receivers of requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Hops(Arc<HopState>);

struct HopState {
    cluster: MountCluster,
    tickets: HopTickets,
    timing: Timing,
    clients: Mutex<BTreeMap<Holder, UpstreamClient>>,
}

/// The process of a request at another node.
#[derive(Debug, Clone, Copy)]
pub(super) struct HopTarget<'a> {
    pub(super) node: Holder,
    /// The address at which the node receives requests of other nodes.
    pub(super) address: &'a str,
    /// The path of the mount.
    pub(super) mount: &'a str,
    /// The lane that the request is in.
    pub(super) lane: LaneRef<'a>,
    pub(super) unit: Key,
}

impl Hops {
    pub(super) fn new(cluster: MountCluster, timing: &Timing) -> Self {
        let tickets = HopTickets::new(cluster.keyring.clone(), cluster.clock.clone(), timing.hop_ticket);
        Self(Arc::new(HopState { cluster, tickets, timing: *timing, clients: Mutex::default() }))
    }

    pub(super) fn cluster(&self) -> &MountCluster {
        &self.0.cluster
    }

    /// Sends a request to another node, and returns the response when its head has arrived.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] without a response; [`NoProcess::Stopping`] when the node has no process for it.
    pub(super) async fn send(
        &self,
        target: HopTarget<'_>,
        mut request: Request<MountBody>,
        within: Option<Duration>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let HopTarget { node, address, .. } = target;
        let ticket = self.0.tickets.ticket(target, request.method(), request.uri());
        let (Some(ticket), Some(client)) = (ticket, self.client(node, address)) else {
            let reason = format!("{address:?} is not the address of a node");
            return Err(UpstreamError::Unreachable(io::Error::other(reason)));
        };
        request.headers_mut().insert(TICKET, ticket);
        let response = tokio::select! {
            response = client.send(request, within) => response?,
            () = self.left(node) => {
                return Err(UpstreamError::Broken(format!("the node {} has left the cluster", node.node)));
            }
        };
        match response.headers().contains_key(NO_PROCESS) {
            true => Err(UpstreamError::NoProcess(NoProcess::Stopping)),
            false => Ok(response),
        }
    }

    /// Takes the ticket out of a request that another node has sent.
    ///
    /// # Errors
    ///
    /// [`HopRefusal`] for any other request.
    pub(super) async fn accept<B>(&self, request: &mut Request<B>) -> Result<HopTicket, HopRefusal> {
        let own = self.0.cluster.lease.holder().ok_or(HopRefusal::OtherNode)?;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        self.0.tickets.accept(own, &method, &uri, request.headers_mut()).await
    }

    /// Resolves when a node does not hold its number any more: one that hangs never answers, and a request may have no
    /// time limit.
    async fn left(&self, node: Holder) {
        loop {
            tokio::time::sleep(self.0.timing.lease_renew).await;
            if !self.0.cluster.registry.view().is_alive(node) {
                return;
            }
        }
    }

    fn client(&self, node: Holder, address: &str) -> Option<UpstreamClient> {
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&node) {
            return Some(client.clone());
        }
        let view = self.0.cluster.registry.view();
        clients.retain(|node, _| view.is_alive(*node));
        let client = UpstreamClient::new(UpstreamAddress::Tcp(address.parse().ok()?), &self.0.timing);
        clients.insert(node, client.clone());
        Some(client)
    }
}
