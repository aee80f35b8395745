//! A mount whose requests go to an upstream.
//!
//! Owns: the way of one request to the upstream and back. Never: the rules for heads (`forward`), or connections
//! (`upstream`).

use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use pagewire_cluster::timing::Timing;
use pagewire_worker::runtime::child::http_lease::HttpLease;

use super::body::{MountBody, MountResponse, empty};
use super::forward::{ForwardFacts, asks_for_upgrade, becomes_websocket, request_headers, response_headers};
use super::hops::NO_PROCESS;
use super::identity::{SenderIdentity, knows_identity};
use super::lanes::{LaneRef, LanedUpstream, RequestUnits, ServedLane};
use super::path::below;
use super::process_upstream::LeasedBody;
use super::refusal::refusal;
use super::trust::Origin;
use super::tunnel::ClientSide;
use super::unit::Unit;
use super::upstream::{UpstreamBody, UpstreamClient, UpstreamError};
use super::{BodyFailure, MountRequest};
use crate::config::{MountConfig, Upstream};
use crate::telemetry::RequestId;

/// The upstream of a mount.
pub(super) struct Proxy {
    upstream: ProxyUpstream,
    /// The path of the mount, and what it is replaced by; `None`: the upstream gets paths as they are.
    rewrite: Option<(String, String)>,
    /// The name of the upstream, if it gets that as `Host`.
    host: Option<HeaderValue>,
    timeout: Option<Duration>,
    /// Whether the application learns whom a request is from.
    tells_identity: bool,
    /// How long one side of another protocol may still send when the other one has ended.
    tunnel_rest: Duration,
}

enum ProxyUpstream {
    /// Another server.
    Server(Box<UpstreamClient>),
    /// An application in processes of this server.
    Processes(Box<LanedUpstream>),
}

/// A response, and the lease of the process that gives it.
type Answer = (Response<UpstreamBody>, Option<HttpLease>);

/// A request for an upstream.
pub(super) struct ProxyRequest<'a> {
    /// On the heap, because it passes through many calls.
    pub(super) request: Box<MountRequest>,
    pub(super) origin: Origin,
    pub(super) request_id: &'a RequestId,
}

/// A request that another node has received from its client and rewritten.
pub(super) struct NodeRequest<'a> {
    pub(super) request: Request<MountBody>,
    pub(super) unit: Unit,
    /// The lane that the other node has decided.
    pub(super) lane: LaneRef<'a>,
    /// Tells whether the body was longer than the mount allows, or too slow.
    pub(super) body_failure: BodyFailure,
}

impl Proxy {
    /// Creates the proxy of a mount, whose application runs in `processes` if there are any. `None` for a mount of folders
    /// alone.
    pub(super) fn new(
        config: &MountConfig,
        timing: &Timing,
        processes: Option<LanedUpstream>,
    ) -> Option<Self> {
        let timeout = config.timeout_ms().map(Duration::from_millis);
        let tunnel_rest = timing.close_timeout;
        if let Some(processes) = processes {
            let upstream = ProxyUpstream::Processes(Box::new(processes));
            let base = config.program().and_then(|program| program.base);
            let rewrite = base.map(|base| (config.path.clone(), base));
            let tells_identity = knows_identity(config);
            return Some(Self { upstream, rewrite, host: None, timeout, tells_identity, tunnel_rest });
        }
        let Upstream { address, base } = config.upstream()?;
        let client = UpstreamClient::new(address, timing);
        let host = HeaderValue::from_str(client.authority().as_str()).ok().filter(|_| config.upstream_host);
        let rewrite = base.map(|base| (config.path.clone(), base));
        let upstream = ProxyUpstream::Server(Box::new(client));
        Some(Self { upstream, rewrite, host, timeout, tells_identity: false, tunnel_rest })
    }

    /// Sends a request to the upstream and returns its answer, or the page for its failure.
    pub(super) async fn respond(&self, asked: ProxyRequest<'_>) -> MountResponse {
        let ProxyRequest { request, origin, request_id } = asked;
        let MountRequest { mut request, body_failure, user, .. } = *request;
        let accept = request.headers().get(header::ACCEPT).cloned();
        let failed = |status| refusal(status, accept.as_ref(), request_id);
        let is_upgrade = asks_for_upgrade(request.version(), request.headers());
        let client_side = is_upgrade.then(|| ClientSide::of(&mut request));
        let units = self.units(&request, user.as_deref());
        let set_cookie = units.browser.and_then(|browser| browser.set_cookie(origin.is_secure));
        let facts = ForwardFacts {
            origin: &origin,
            request_id,
            prefix: self.rewrite.as_ref().map(|(mount, _)| mount.as_str()),
            host: self.host.as_ref(),
            is_upgrade,
        };
        let identity = self.tells_identity.then(|| SenderIdentity::of(&request, user.clone(), units.browser));
        let Some(mut forwarded) = self.rebuilt(request, facts) else {
            return failed(StatusCode::BAD_REQUEST);
        };
        identity.iter().for_each(|identity| identity.add_to(forwarded.headers_mut()));
        let started = Instant::now();
        let (answer, served) = self.send(forwarded, units).await;
        let mut response = match answer {
            Ok(answer) => passed_on(answer, client_side, self.tunnel_rest, request_id).unwrap_or_else(failed),
            Err(error) => {
                let status = body_failure().unwrap_or_else(|| error.status());
                let lane = served.as_ref().map(|served| &served.lane);
                tracing::warn!(%request_id, %error, status = status.as_u16(), lane, "an upstream has not answered");
                failed(status)
            }
        };
        if let (ProxyUpstream::Processes(processes), Some(served)) = (&self.upstream, served) {
            processes.report(&served, units, response.status(), started.elapsed());
        }
        if let Some(cookie) = set_cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Answers a request that another node has received and rewritten, in a process of this node.
    pub(super) async fn respond_to_node(&self, asked: NodeRequest<'_>) -> MountResponse {
        let NodeRequest { mut request, unit, lane, body_failure } = asked;
        let request_id = RequestId::passed_on(request.headers()).unwrap_or_else(RequestId::random);
        let failed = |status| refusal(status, None, &request_id);
        let ProxyUpstream::Processes(processes) = &self.upstream else {
            return no_process(failed(StatusCode::SERVICE_UNAVAILABLE));
        };
        let is_upgrade = asks_for_upgrade(request.version(), request.headers());
        let client_side = is_upgrade.then(|| ClientSide::of(&mut request));
        match processes.send_here(request, unit, lane, self.timeout).await {
            Ok(answer) => {
                passed_on((answer.response, answer.lease), client_side, self.tunnel_rest, &request_id)
                    .unwrap_or_else(failed)
            }
            Err(error) => {
                let status = body_failure().unwrap_or_else(|| error.status());
                tracing::warn!(%request_id, %error, status = status.as_u16(), "a process has not answered");
                let is_unserved = matches!(error, UpstreamError::NoProcess(_) | UpstreamError::NoLane);
                if is_unserved { no_process(failed(status)) } else { failed(status) }
            }
        }
    }

    /// Returns what decides the process of a request.
    fn units<'a>(&self, request: &Request<MountBody>, user: Option<&'a str>) -> RequestUnits<'a> {
        match &self.upstream {
            ProxyUpstream::Server(_) => RequestUnits::NONE,
            ProxyUpstream::Processes(processes) => processes.units(request.headers(), request.uri(), user),
        }
    }

    /// Sends a request, and returns its lane as well if the mount has lanes.
    async fn send(
        &self,
        request: Request<MountBody>,
        units: RequestUnits<'_>,
    ) -> (Result<Answer, UpstreamError>, Option<ServedLane>) {
        match &self.upstream {
            ProxyUpstream::Server(client) => {
                (client.send(request, self.timeout).await.map(|response| (response, None)), None)
            }
            ProxyUpstream::Processes(processes) => {
                // on the heap, because it is much larger than that of a server
                let sent = Box::pin(processes.send(request, units, self.timeout)).await;
                (sent.answer.map(|answer| (answer.response, answer.lease)), sent.served)
            }
        }
    }

    /// Returns the request with a new head. `None` if its path cannot be written.
    fn rebuilt(&self, request: Request<MountBody>, facts: ForwardFacts<'_>) -> Option<Request<MountBody>> {
        let (parts, body) = request.into_parts();
        let mut forwarded = Request::new(body);
        *forwarded.method_mut() = parts.method;
        *forwarded.uri_mut() = self.path_of(&parts.uri)?;
        *forwarded.version_mut() = Version::HTTP_11;
        *forwarded.headers_mut() = request_headers(parts.headers, facts);
        Some(forwarded)
    }

    fn path_of(&self, uri: &Uri) -> Option<Uri> {
        let path = match &self.rewrite {
            None => {
                let asked = uri.path_and_query()?;
                // a URL without a path, such as `http://a?b`, leaves the query alone
                let is_query = asked.as_str().starts_with('?');
                if is_query {
                    PathAndQuery::try_from(format!("/{}", asked.as_str())).ok()?
                } else {
                    asked.clone()
                }
            }
            Some((mount, base)) => {
                let rest = if mount == "/" { uri.path() } else { below(uri.path(), mount)? };
                let rest = if rest.is_empty() && base.is_empty() { "/" } else { rest };
                let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
                PathAndQuery::try_from(format!("{base}{rest}{query}")).ok()?
            }
        };
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }
}

/// Returns the response for the client, and connects both sides if the upstream has changed the protocol. `rest` is how
/// long one side may still send when the other one has ended.
///
/// # Errors
///
/// The status for an upstream that changes the protocol without being asked, or to another one than WebSocket.
fn passed_on(
    (response, lease): Answer,
    client_side: Option<ClientSide>,
    rest: Duration,
    request_id: &RequestId,
) -> Result<MountResponse, StatusCode> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (parts, body) = response.into_parts();
    let body = match client_side {
        Some(client) if switches && becomes_websocket(&parts.headers) => {
            let tunnel = body.into_tunnel().ok_or(StatusCode::BAD_GATEWAY)?;
            client.connect(tunnel, rest, lease);
            empty()
        }
        _ if switches => return Err(StatusCode::BAD_GATEWAY),
        _ => LeasedBody { body, lease }.boxed_unsync(),
    };
    let mut passed = Response::new(body);
    *passed.status_mut() = parts.status;
    *passed.headers_mut() = response_headers(parts.headers, switches, request_id);
    Ok(passed)
}

/// Returns the answer with the mark that no process has received the request.
pub(super) fn no_process(mut response: MountResponse) -> MountResponse {
    response.headers_mut().insert(NO_PROCESS, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_behind(mount: &str, url: &str, asked: &str) -> String {
        let mut config = MountConfig::default();
        (config.path, config.http) = (mount.to_owned(), url.to_owned());
        let proxy = Proxy::new(&config, &Timing::TEST, None).unwrap();
        proxy.path_of(&asked.parse().unwrap()).unwrap().to_string()
    }

    #[tokio::test]
    async fn a_path_in_the_url_replaces_that_of_the_mount() {
        for (mount, url, asked, expected) in [
            ("/", "http://a:1", "/x/y?q=1", "/x/y?q=1"),
            ("/shop", "http://a:1", "/shop/x", "/shop/x"),
            ("/shop", "http://a:1/", "/shop/x?q", "/x?q"),
            ("/shop", "http://a:1/", "/shop", "/"),
            ("/shop", "http://a:1/base/", "/shop/x", "/base/x"),
            ("/shop", "http://a:1/base", "/shop", "/base"),
            ("/", "http://a:1/base", "/x", "/base/x"),
            ("/", "unix:/run/a.sock", "//sys//x", "//sys//x"),
            ("/", "http://a:1", "http://b?q", "/?q"),
        ] {
            assert_eq!(path_behind(mount, url, asked), expected, "{mount} {url} {asked}");
        }
    }
}
