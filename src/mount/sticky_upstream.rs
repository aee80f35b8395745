//! The processes of a mount at all nodes as its upstream, for requests that belong together.
//!
//! Owns: the way of such a request to its process. Never: the decision which process that is (`placement`), the processes of
//! this node (`process_upstream`), or the connections to other nodes (`hops`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Body;
use pagewire_cluster::id::Holder;
use pagewire_cluster::lease::MountPlaces;
use pagewire_cluster::registry::View;
use pagewire_cluster::timing::Timing;
use pagewire_worker::runtime::child::http_lease::{HttpLease, NoProcess};

use super::body::MountBody;
use super::hops::{HopTarget, Hops, MountCluster};
use super::lane_pools::{LanePool, MountPool};
use super::lanes::LaneRef;
use super::placement::placement;
use super::process_upstream::{OfferedBody, ProcessUpstream};
use super::unit::{Unit, UnitFacts, unit};
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
    local: LocalProcesses,
    hops: Hops,
    metrics: MountMetrics,
}

/// The processes of one mount at this node, by lane.
pub(super) struct LocalProcesses {
    /// Those of the mount itself.
    own: ProcessUpstream,
    /// The name of their lane.
    own_lane: &'static str,
    /// Those of the other lanes.
    others: BTreeMap<String, ProcessUpstream>,
    /// Whether a rollout decides the lane of a request.
    has_rollout: bool,
}

/// Where a request belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim<'a> {
    /// What one process serves again and again; `None` for a request that any process of the lane may serve.
    pub(super) unit: Option<Unit>,
    pub(super) lane: LaneRef<'a>,
}

/// Where a unit is served.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    /// In the process at this place of this node; `None`: no process is ready, and any one of this node is waited for.
    Here(Option<u32>),
    /// At another node.
    Node {
        node: Holder,
        /// Where it receives requests.
        address: String,
        /// The release that its processes run.
        release: Arc<str>,
    },
}

/// A response.
pub(super) struct StickyAnswer {
    pub(super) response: Response<UpstreamBody>,
    /// The process, if it is one of this node.
    pub(super) lease: Option<HttpLease>,
    /// The release that the process runs.
    pub(super) release: Arc<str>,
}

impl LocalProcesses {
    pub(super) fn new(pool: &MountPool, timing: &Timing) -> Self {
        let upstream = |lane: &LanePool| ProcessUpstream::new(lane.clone(), timing);
        Self {
            own: upstream(&pool.own),
            own_lane: pool.own_lane,
            others: pool.others.iter().map(|(name, lane)| (name.clone(), upstream(lane))).collect(),
            has_rollout: pool.rollout.is_some(),
        }
    }

    /// Returns the processes of a lane; `None` for a lane that is at other nodes only.
    fn lane(&self, lane: LaneRef<'_>) -> Option<&ProcessUpstream> {
        let is_own = lane.is_base || lane.name == self.own_lane;
        self.others.get(lane.name).or_else(|| is_own.then_some(&self.own))
    }
}

impl StickyUpstream {
    pub(super) fn new(
        mount: &str,
        sticky: &Sticky,
        local: LocalProcesses,
        hops: Hops,
        metrics: MountMetrics,
    ) -> Self {
        Self { mount: mount.to_owned(), sticky: sticky.clone(), local, hops, metrics }
    }

    pub(super) const fn sticky(&self) -> &Sticky {
        &self.sticky
    }

    /// Returns the unit of a request; `None` for one that may go anywhere.
    pub(super) fn unit(&self, request: UnitFacts<'_>) -> Option<Unit> {
        unit(&self.sticky, request)
    }

    /// Returns whether a process of a lane is ready, at this node or at another one that can be reached.
    pub(super) fn serves(&self, lane: LaneRef<'_>) -> bool {
        if self.is_ready_here(lane) {
            return true;
        }
        let MountCluster { registry, lease, .. } = self.hops.cluster();
        let Some(own) = lease.holder() else { return false };
        let view = registry.view();
        others(&view, own, &self.mount, lane, &[]).any(|other| !other.places.ready.is_empty())
    }

    fn is_ready_here(&self, lane: LaneRef<'_>) -> bool {
        self.local.lane(lane).is_some_and(ProcessUpstream::is_ready)
    }

    /// Returns the release of a lane, also of one without a process that is ready.
    pub(super) fn release(&self, lane: LaneRef<'_>) -> Arc<str> {
        if let Some(local) = self.local.lane(lane) {
            return local.release();
        }
        let view = self.hops.cluster().registry.view();
        let nodes = view.nodes();
        let mut releases = nodes.iter().filter_map(|(_, row)| {
            let places = row.note.places(&self.mount, lane.name, lane.is_base)?;
            Some(places.release.as_str())
        });
        releases.next().unwrap_or_default().into()
    }

    /// Sends a request to the process of its unit. A request that its process has not received is sent to the next one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`] without a response.
    pub(super) async fn send(
        &self,
        request: Request<MountBody>,
        aim: Aim<'_>,
        within: Option<Duration>,
    ) -> Result<StickyAnswer, UpstreamError> {
        let Some(unit) = self.placed_unit(aim) else {
            return self.send_to(request, aim.lane, None, within).await;
        };
        let (head, body) = request.into_parts();
        let is_repeatable = body.is_end_stream();
        let body = OfferedBody::new(body);
        let (mut tried, mut last) = (Vec::new(), UpstreamError::NoProcess(NoProcess::Busy));
        for _ in 0..ATTEMPTS {
            let offered = Request::from_parts(head.clone(), body.offer());
            let sent = match self.destination(unit, aim.lane, &tried) {
                Destination::Here(place) => self.send_to(offered, aim.lane, place, within).await,
                Destination::Node { node, address, release } => {
                    tried.push(node);
                    self.metrics.hopped(&self.mount);
                    let (mount, unit) = (self.mount.as_str(), unit.key);
                    let target = HopTarget { node, address: &address, mount, lane: aim.lane, unit };
                    let response = self.hops.send(target, offered, within).await;
                    response.map(|response| StickyAnswer { response, lease: None, release })
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

    /// Returns the unit that decides the process of a request; `None` for any process of this node.
    fn placed_unit(&self, aim: Aim<'_>) -> Option<Unit> {
        let leaves = || self.local.has_rollout && !self.is_ready_here(aim.lane);
        aim.unit.or_else(|| leaves().then(Unit::alone))
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
        lane: LaneRef<'_>,
        within: Option<Duration>,
    ) -> Result<StickyAnswer, UpstreamError> {
        let Some(own) = self.hops.cluster().lease.holder() else {
            return Err(UpstreamError::NoProcess(NoProcess::Stopping));
        };
        let local = self.local.lane(lane).ok_or(UpstreamError::NoLane)?;
        if self.sticky == Sticky::Nothing {
            return self.send_to(request, lane, None, within).await;
        }
        let (head, body) = request.into_parts();
        let body = OfferedBody::new(body);
        for _ in 0..ATTEMPTS {
            let place = placement(unit, &[(own.node, &local.places())]).map(|found| found.place.number);
            let offered = Request::from_parts(head.clone(), body.offer());
            match self.send_to(offered, lane, place, within).await {
                Err(UpstreamError::NoProcess(NoProcess::PlaceLost)) => {}
                sent => return sent,
            }
        }
        Err(UpstreamError::NoProcess(NoProcess::Stopping))
    }

    /// Sends a request to a process of this node.
    async fn send_to(
        &self,
        request: Request<MountBody>,
        lane: LaneRef<'_>,
        place: Option<u32>,
        within: Option<Duration>,
    ) -> Result<StickyAnswer, UpstreamError> {
        let local = self.local.lane(lane).ok_or(UpstreamError::NoLane)?;
        let (response, lease) = local.send(request, place, within).await?;
        Ok(StickyAnswer { response, lease: Some(lease), release: local.release() })
    }

    /// Returns where a unit is served. `tried` are nodes that have not received it.
    fn destination(&self, unit: Unit, lane: LaneRef<'_>, tried: &[Holder]) -> Destination {
        if let Some(place) = self.local.lane(lane).and_then(|local| local.place_of_object(unit)) {
            return Destination::Here(Some(place));
        }
        let MountCluster { registry, lease, draining, .. } = self.hops.cluster();
        let mut own_places = self.local.lane(lane).map(ProcessUpstream::places).unwrap_or_default();
        // without its number this node does not know which of the nodes it is, and serves what it gets
        let Some(own) = lease.holder() else {
            return Destination::Here(own_places.ready.first().copied());
        };
        let view = registry.view();
        let others: Vec<_> = others(&view, own, &self.mount, lane, tried).collect();
        let mut serving = others.iter().filter(|other| !other.places.ready.is_empty());
        if *draining.borrow() && serving.next().is_some() {
            own_places.ready.clear();
        }
        let all = others.iter().map(|other| (other.node.node, other.places));
        let all: Vec<_> = all.chain([(own.node, &own_places)]).collect();
        let Some(found) = placement(unit, &all) else { return Destination::Here(None) };
        if found.is_displaced {
            self.metrics.displaced(&self.mount);
        }
        match others.iter().find(|other| other.node.node == found.place.node) {
            Some(other) => Destination::Node {
                node: other.node,
                address: other.address.to_owned(),
                release: other.places.release.as_str().into(),
            },
            None => Destination::Here(Some(found.place.number)),
        }
    }
}

/// The places of a lane at another node.
struct OtherPlaces<'a> {
    node: Holder,
    /// Where it receives requests.
    address: &'a str,
    places: &'a MountPlaces,
}

/// Returns the places of a lane of a mount at the nodes other than `own` that can be reached and are not among `tried`.
fn others<'a>(
    view: &'a View,
    own: Holder,
    mount: &'a str,
    lane: LaneRef<'a>,
    tried: &'a [Holder],
) -> impl Iterator<Item = OtherPlaces<'a>> {
    let nodes = view.nodes().into_iter().filter(move |(holder, row)| {
        holder.node != own.node && !row.note.internal.is_empty() && !tried.contains(holder)
    });
    nodes.filter_map(move |(node, row)| {
        let places = row.note.places(mount, lane.name, lane.is_base)?;
        Some(OtherPlaces { node, address: &row.note.internal, places })
    })
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
