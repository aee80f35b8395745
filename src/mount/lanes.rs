//! The lanes of a mount: which release of its application serves a request.
//!
//! Owns: the lane of a request, and where it goes when the lane has no process. Never: which process of a lane it is
//! (`sticky_upstream`), or how users are split (`pagewire_cluster::rollout`).
//!
//! A request has the lane of its user, or of its browser if it names no user: the cookie that also tells browsers apart for
//! `sticky`. So the requests of one user have one lane as long as the document of the pool says so. What has begun stays
//! where it began: a response, an upload, a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Body;
use pagewire_cluster::rollout::analysis::{FinishedWork, LaneRelease, LaneWork, OutcomeLog, WorkOutcome};
use pagewire_cluster::rollout::{Admissions, LaneAssignment, Rollouts, RoutingKey};
use pagewire_worker::runtime::child::http_lease::NoProcess;

use super::body::MountBody;
use super::process_upstream::OfferedBody;
use super::sticky_upstream::{Aim, StickyAnswer, StickyUpstream};
use super::unit::{Browser, Unit, UnitFacts};
use super::upstream::UpstreamError;
use crate::config::Sticky;
use crate::telemetry::MountMetrics;

/// The processes of one mount, in all of its lanes.
pub(super) struct LanedUpstream {
    processes: StickyUpstream,
    /// `None` for a mount without lanes.
    rollout: Option<MountRollout>,
}

/// The rollout of a mount.
struct MountRollout {
    /// The path of the mount.
    mount: String,
    pool: String,
    rollouts: Rollouts,
    outcomes: OutcomeLog,
    metrics: MountMetrics,
}

/// What decides where a request goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestUnits<'a> {
    /// What one process serves again and again.
    sticky: Option<Unit>,
    /// What has one lane; `None` for a mount without lanes.
    routing: Option<RoutingKey<'a>>,
    /// The browser that may get a cookie, because the cookie decides.
    pub(super) browser: Option<Browser>,
}

impl RequestUnits<'_> {
    /// Of a request that may go anywhere.
    pub(super) const NONE: RequestUnits<'static> =
        RequestUnits { sticky: None, routing: None, browser: None };
}

/// A lane of a mount, as its rollout names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneRef<'a> {
    /// Empty for a mount without lanes.
    pub(super) name: &'a str,
    /// Whether the lane is the base of the rollout.
    pub(super) is_base: bool,
}

impl LaneRef<'_> {
    /// The only lane of a mount without lanes.
    pub(super) const WHOLE: LaneRef<'static> = LaneRef { name: "", is_base: true };
}

/// The lane of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RequestLane {
    name: String,
    is_base: bool,
}

impl RequestLane {
    fn borrowed(&self) -> LaneRef<'_> {
        LaneRef { name: &self.name, is_base: self.is_base }
    }
}

/// An answer of an application, or why there is none.
pub(super) struct LaneAnswer {
    pub(super) answer: Result<StickyAnswer, UpstreamError>,
    /// `None` for a mount without lanes.
    pub(super) served: Option<ServedLane>,
}

/// The lane that a request was in, and the release that has answered it, or that has no process for it.
pub(super) struct ServedLane {
    pub(super) lane: String,
    release: Arc<str>,
}

/// A request of a mount with lanes that has its answer: what the releases of two lanes are compared by. A request is
/// counted once, at the node that received it from its client.
#[derive(Debug, Clone, Copy)]
struct LaneOutcome<'a> {
    lane: &'a str,
    /// The release that has answered, or that has no process for the request.
    release: &'a str,
    /// The user or the browser.
    unit: RoutingKey<'a>,
    status: StatusCode,
    /// From sending the request until the head of the answer.
    took: Duration,
}

impl LanedUpstream {
    /// Creates the upstream of a mount. `pool` is the pool of its rollout if it has lanes.
    pub(super) fn new(
        mount: &str,
        pool: Option<String>,
        processes: StickyUpstream,
        (rollouts, outcomes): (Rollouts, OutcomeLog),
        metrics: MountMetrics,
    ) -> Self {
        let mount = mount.to_owned();
        let rollout = pool.map(|pool| MountRollout { mount, pool, rollouts, outcomes, metrics });
        Self { processes, rollout }
    }

    /// Returns what decides where a request goes. `user` is the user whom its token names.
    pub(super) fn units<'a>(
        &self,
        headers: &HeaderMap,
        uri: &http::Uri,
        user: Option<&'a str>,
    ) -> RequestUnits<'a> {
        let sticky = self.processes.sticky();
        let is_unknown = self.rollout.is_some() && user.is_none();
        let browser = (is_unknown || *sticky == Sticky::Connection).then(|| Browser::of(headers));
        let of_browser = browser.map(|browser| browser.connection);
        RequestUnits {
            sticky: self.processes.unit(UnitFacts { headers, uri, user, browser }),
            routing: self.rollout.is_some().then(|| RoutingKey::of(user, of_browser)),
            browser,
        }
    }

    /// Sends a request to a process of its lane. A request that no process of the lane has received goes to the base lane if
    /// the document says so.
    pub(super) async fn send(
        &self,
        request: Request<MountBody>,
        units: RequestUnits<'_>,
        within: Option<Duration>,
    ) -> LaneAnswer {
        let (Some(rollout), Some(routing)) = (&self.rollout, units.routing) else {
            let aim = Aim { unit: units.sticky, lane: LaneRef::WHOLE };
            return LaneAnswer { answer: self.processes.send(request, aim, within).await, served: None };
        };
        let serves = |lane: LaneRef<'_>| self.processes.serves(lane);
        let lane = rollout.lane(routing, serves).await;
        let fallback = rollout.fallback(routing, &lane);
        let Some(fallback) = fallback else {
            let aim = Aim { unit: units.sticky, lane: lane.borrowed() };
            return self.answered(&lane, self.processes.send(request, aim, within).await);
        };
        let (head, body) = request.into_parts();
        let is_repeatable = body.is_end_stream();
        let body = OfferedBody::new(body);
        let offered = || Request::from_parts(head.clone(), body.offer());
        let aim = |lane| Aim { unit: units.sticky, lane };
        match self.processes.send(offered(), aim(lane.borrowed()), within).await {
            Err(error) if is_without_process(&error, is_repeatable) => {
                tracing::debug!(pool = rollout.pool, lane = lane.name, %error, "the base lane serves a request");
                let answer = self.processes.send(offered(), aim(fallback.borrowed()), within).await;
                self.answered(&fallback, answer)
            }
            answer => self.answered(&lane, answer),
        }
    }

    fn answered(&self, lane: &RequestLane, answer: Result<StickyAnswer, UpstreamError>) -> LaneAnswer {
        let release = match &answer {
            Ok(answer) => answer.release.clone(),
            Err(_) => self.processes.release(lane.borrowed()),
        };
        LaneAnswer { answer, served: Some(ServedLane { lane: lane.name.clone(), release }) }
    }

    /// Sends a request that another node has received to a process of this node. `lane` is the one that the other node has
    /// decided; it has no name if the mount has no lanes there.
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
        let lane = if lane.name.is_empty() { LaneRef::WHOLE } else { lane };
        self.processes.send_here(request, unit, lane, within).await
    }

    /// Reports the answer that the client of a request gets.
    pub(super) fn report(
        &self,
        served: &ServedLane,
        units: RequestUnits<'_>,
        status: StatusCode,
        took: Duration,
    ) {
        let ServedLane { lane, release } = served;
        if let (Some(rollout), Some(unit)) = (&self.rollout, units.routing) {
            rollout.finished(LaneOutcome { lane, release, unit, status, took });
        }
    }
}

impl MountRollout {
    /// Returns the lane of a request, and counts it. `serves` returns whether a lane has a process.
    async fn lane(&self, unit: RoutingKey<'_>, serves: impl Fn(LaneRef<'_>) -> bool) -> RequestLane {
        let serves = |lane: &str| serves(LaneRef { name: lane, is_base: false });
        Admissions::new(&self.rollouts).admit(&self.pool, unit, None, &serves).await;
        let LaneAssignment { lane: name, is_base, .. } = self.rollouts.lane_for(&self.pool, unit, serves);
        RequestLane { name, is_base }
    }

    /// Returns the lane for a request whose own lane turns out to have no process; `None` if it stays there.
    fn fallback(&self, unit: RoutingKey<'_>, lane: &RequestLane) -> Option<RequestLane> {
        if lane.is_base {
            return None;
        }
        let LaneAssignment { lane: name, is_base, .. } = self.rollouts.explain(&self.pool, unit, |_| false);
        (name != lane.name).then_some(RequestLane { name, is_base })
    }

    /// Counts a request of a lane that has its answer. The one place that knows the outcome of each request of a pool.
    fn finished(&self, outcome: LaneOutcome<'_>) {
        let LaneOutcome { lane, release, unit, status, took } = outcome;
        let at = LaneRelease { pool: self.pool.clone(), lane: lane.to_owned(), release: release.to_owned() };
        let outcome = if status.is_server_error() { WorkOutcome::Failed } else { WorkOutcome::Served };
        let work = FinishedWork { kind: LaneWork::Http, unit, revision: None, outcome, ran: took };
        self.outcomes.record(&at, work);
        self.metrics.lane_answered(&self.mount, lane, release, status);
    }
}

/// Returns whether a request has reached no process, because the lane has none that is ready. Of a request with a body, a
/// part may be on its way to another node.
fn is_without_process(error: &UpstreamError, is_repeatable: bool) -> bool {
    match error {
        UpstreamError::NoLane => true,
        UpstreamError::NoProcess(NoProcess::Starting | NoProcess::Failing(_) | NoProcess::PlaceLost) => true,
        UpstreamError::NoProcess(NoProcess::Stopping) | UpstreamError::Unreachable(_) => is_repeatable,
        _ => false,
    }
}
