//! The processes of a mount at all nodes as its upstream, for requests that belong together.
//!
//! Owns: the way of such a request to its process. Never: the decision which process that is (`placement`), the processes of
//! this node (`process_upstream`), or the connections to other nodes (`hops`).

use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::Body;
use pagewire_cluster::id::Holder;
use pagewire_worker::runtime::child::http_lease::{HttpLease, NoProcess};

use super::body::MountBody;
use super::hops::{HopTarget, Hops, MountCluster};
use super::placement::placement;
use super::process_upstream::{OfferedBody, ProcessUpstream};
use super::unit::{Browser, Unit, UnitFacts, unit};
use super::upstream::{UpstreamBody, UpstreamError};
use crate::config::Sticky;
use crate::telemetry::MountMetrics;

/// How often a process is looked for, because the one before has ended meanwhile.
const ATTEMPTS: usize = 4;

/// The processes of one mount at all nodes.
pub(super) struct StickyUpstream {
    /// The path of the mount.
    mount: String,
    sticky: Sticky,
    local: ProcessUpstream,
    hops: Hops,
    metrics: MountMetrics,
}

/// Where a unit is served.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    /// In the process at this place of this node; `None`: no process is ready, and any one of this node is waited for.
    Here(Option<u32>),
    /// At another node, with the address at which it receives requests.
    Node(Holder, String),
}

/// A response, and the lease of its process if that is one of this node.
pub(super) type StickyAnswer = (Response<UpstreamBody>, Option<HttpLease>);

impl StickyUpstream {
    pub(super) fn new(
        mount: &str,
        sticky: &Sticky,
        local: ProcessUpstream,
        hops: Hops,
        metrics: MountMetrics,
    ) -> Self {
        Self { mount: mount.to_owned(), sticky: sticky.clone(), local, hops, metrics }
    }

    /// Returns the browser of a request, if that says which process it goes to.
    pub(super) fn browser(&self, headers: &HeaderMap) -> Option<Browser> {
        (self.sticky == Sticky::Connection).then(|| Browser::of(headers))
    }

    /// Returns the unit of a request; `None` for one that may go anywhere.
    pub(super) fn unit(&self, request: UnitFacts<'_>) -> Option<Unit> {
        unit(&self.sticky, request)
    }

    /// Sends a request to the process of its unit. A request that its process has not received is sent to the next one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] without a response.
    pub(super) async fn send(
        &self,
        request: Request<MountBody>,
        unit: Option<Unit>,
        within: Option<Duration>,
    ) -> Result<StickyAnswer, UpstreamError> {
        let Some(unit) = unit else { return self.local.send(request, None, within).await.map(of_this_node) };
        let (head, body) = request.into_parts();
        let is_repeatable = body.is_end_stream();
        let body = OfferedBody::new(body);
        let (mut tried, mut last) = (Vec::new(), UpstreamError::NoProcess(NoProcess::Busy));
        for _ in 0..ATTEMPTS {
            let offered = Request::from_parts(head.clone(), body.offer());
            let sent = match self.destination(unit, &tried) {
                Destination::Here(place) => self.local.send(offered, place, within).await.map(of_this_node),
                Destination::Node(node, address) => {
                    tried.push(node);
                    self.metrics.hopped(&self.mount);
                    let (address, mount) = (address.as_str(), self.mount.as_str());
                    let target = HopTarget { node, address, mount, unit: unit.key };
                    self.hops.send(target, offered, within).await.map(|response| (response, None))
                }
            };
            last = match sent {
                Err(error) if is_unreceived(&error, is_repeatable) => error,
                sent => return sent,
            };
            tracing::debug!(mount = self.mount, error = %last, "the process of a unit is not there");
        }
        Err(last)
    }

    /// Sends a request that another node has received to a process of this node.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] without a response.
    pub(super) async fn send_here(
        &self,
        request: Request<MountBody>,
        unit: Unit,
        within: Option<Duration>,
    ) -> Result<StickyAnswer, UpstreamError> {
        let Some(own) = self.hops.cluster().lease.holder() else {
            return Err(UpstreamError::NoProcess(NoProcess::Stopping));
        };
        let (head, body) = request.into_parts();
        let body = OfferedBody::new(body);
        for _ in 0..ATTEMPTS {
            let place = placement(unit, &[(own.node, &self.local.places())]).map(|found| found.place.number);
            let offered = Request::from_parts(head.clone(), body.offer());
            match self.local.send(offered, place, within).await {
                Err(UpstreamError::NoProcess(NoProcess::PlaceLost)) => {}
                sent => return sent.map(of_this_node),
            }
        }
        Err(UpstreamError::NoProcess(NoProcess::Stopping))
    }

    /// Returns where a unit is served. `tried` are nodes that have not received it.
    fn destination(&self, unit: Unit, tried: &[Holder]) -> Destination {
        let MountCluster { registry, lease, draining, .. } = self.hops.cluster();
        let mut own_places = self.local.places();
        // without its number this node does not know which of the nodes it is, and serves what it gets
        let Some(own) = lease.holder() else {
            return Destination::Here(own_places.ready.first().copied());
        };
        let view = registry.view();
        let nodes = view.nodes();
        let others = nodes.iter().filter(|(holder, row)| {
            holder.node != own.node && !row.note.internal.is_empty() && !tried.contains(holder)
        });
        let others =
            others.filter_map(|(holder, row)| Some((*holder, *row, row.note.mounts.get(&self.mount)?)));
        let others: Vec<_> = others.collect();
        let mut serving = others.iter().filter(|(_, _, places)| !places.ready.is_empty());
        if *draining.borrow() && serving.next().is_some() {
            own_places.ready.clear();
        }
        let all = others.iter().map(|(holder, _, places)| (holder.node, *places));
        let all: Vec<_> = all.chain([(own.node, &own_places)]).collect();
        let Some(found) = placement(unit, &all) else { return Destination::Here(None) };
        if found.is_displaced {
            self.metrics.displaced(&self.mount);
        }
        match others.iter().find(|(holder, ..)| holder.node == found.place.node) {
            Some((holder, row, _)) => Destination::Node(*holder, row.note.internal.clone()),
            None => Destination::Here(Some(found.place.number)),
        }
    }
}

/// Returns whether no process has received the request. Of a request with a body, a part may be on its way to a node that
/// has no process for it; then it cannot be sent again.
fn is_unreceived(error: &UpstreamError, is_repeatable: bool) -> bool {
    match error {
        UpstreamError::Unreachable(_) | UpstreamError::NoProcess(NoProcess::PlaceLost) => true,
        UpstreamError::NoProcess(NoProcess::Stopping) => is_repeatable,
        _ => false,
    }
}

fn of_this_node((response, lease): (Response<UpstreamBody>, HttpLease)) -> StickyAnswer {
    (response, Some(lease))
}
