//! `POST /_call/{method}`: a call over HTTP, with the identity of a page's socket.
//!
//! Owns: who calls, the limits of such calls, and the JSON of the response. Never: where the call runs (`calls`). A web
//! page of another origin is refused, whether or not it has a token: a browser sends the cookie of this server along.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use pagewire_cluster::id::Account;
use pagewire_cluster::trace::TraceParent;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tracing::Instrument;
use tracing::field::Empty;

use super::Edge;
use super::handshake;
use super::http::retry_after;
use super::listener::Peer;
use super::origin::OriginCheck;
use crate::calls::{self, CallRequest, ExecutorError};
use crate::protocol::{CommandError, ErrorCode, TOO_DEEP, is_too_deep, read};
use crate::telemetry::{REQUEST_ID, RequestId, child_of};

/// The path of the route.
pub(super) const PATH: &str = "/_call/{method}";
/// The longest name of a method in bytes.
pub(super) const MAX_METHOD: usize = 200;

/// Headers of every response, which is data for a program.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The query of a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallOptions {
    exec_mode: Option<String>,
    pool: Option<String>,
    timeout_ms: Option<u64>,
}

/// Why a call has no result.
pub(super) struct HttpCallError {
    error: ExecutorError,
    /// The status, if it is not that of the code.
    status: Option<StatusCode>,
    /// When the client may try again.
    after: Option<Duration>,
}

impl<E: Into<ExecutorError>> From<E> for HttpCallError {
    fn from(error: E) -> Self {
        Self { error: error.into(), status: None, after: None }
    }
}

pub(super) fn refused(code: ErrorCode, message: impl Into<std::borrow::Cow<'static, str>>) -> HttpCallError {
    CommandError::new(code, message).into()
}

/// Runs the call and returns its response. Dropping the future, when the client is gone, stops the handler.
pub(super) async fn call(
    State(edge): State<Arc<Edge>>,
    method: Result<Path<String>, PathRejection>,
    options: Result<Query<CallOptions>, QueryRejection>,
    request: Request,
) -> Response<Body> {
    let parent = caller_trace(request.headers());
    answer(parent.as_ref(), run(&edge, method, options, request)).await
}

/// Returns the trace of the caller.
pub(super) fn caller_trace(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get("traceparent").and_then(|value| TraceParent::parse(value.to_str().ok()?))
}

/// Runs a call in a span of its own and returns its response.
pub(super) async fn answer(
    parent: Option<&TraceParent>,
    call: impl Future<Output = Result<Box<RawValue>, HttpCallError>>,
) -> Response<Body> {
    let span = child_of(tracing::info_span!("http call", trace = Empty), parent);
    async move {
        let id = RequestId::of_trace();
        match call.await {
            Ok(value) => respond(StatusCode::OK, Box::<str>::from(value).into(), None, &id),
            Err(failure) => failure.respond(&id),
        }
    }
    .instrument(span)
    .await
}

async fn run(
    edge: &Edge,
    method: Result<Path<String>, PathRejection>,
    options: Result<Query<CallOptions>, QueryRejection>,
    request: Request,
) -> Result<Box<RawValue>, HttpCallError> {
    let user = edge.caller(request.headers())?;
    let Path(method) = method.map_err(|_| refused(ErrorCode::Malformed, "the method is not UTF-8"))?;
    let Query(options) = options.map_err(|_| {
        refused(
            ErrorCode::Malformed,
            "the query has exec_mode, pool and timeout_ms, a number of milliseconds",
        )
    })?;
    if !(1..=MAX_METHOD).contains(&method.len()) {
        return Err(refused(ErrorCode::Malformed, "the name of a method has 1 to 200 bytes"));
    }
    let exec_mode = calls::exec_mode(options.exec_mode.as_deref())?;
    let _counted = match &user {
        Some(user) => Some(edge.context.in_flight.count(Account::User(user.clone()))?),
        None => {
            edge.admit_anonymous_call(&request)?;
            None
        }
    };
    let call = CallRequest {
        method,
        params: params(request).await?,
        exec_mode,
        pool: options.pool,
        timeout: options.timeout_ms.map(Duration::from_millis),
        user,
        connection: None,
        page: None,
        session: None,
        pins: None,
        class: None,
        event: None,
    };
    Ok(edge.context.executors.call(call).await?)
}

impl Edge {
    /// Returns the user of a request; `None` for an anonymous one.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Option<Arc<str>>, HttpCallError> {
        if self.is_draining() {
            let after = Some(self.timing.reconnect_jitter);
            return Err(HttpCallError { after, ..CommandError::unavailable().into() });
        }
        let origin = self.origins.check(headers);
        match origin {
            OriginCheck::Foreign => {
                self.foreign_origins.report(headers, std::time::Instant::now());
                return Err(refused(
                    ErrorCode::Forbidden,
                    "this web page's origin is not in websocket.origins",
                ));
            }
            OriginCheck::ForeignHost => {
                let message = "the Host header names another host: set node.advertise or websocket.origins";
                return Err(refused(ErrorCode::Forbidden, message));
            }
            OriginCheck::Known | OriginCheck::Program => {}
        }
        let cookie = self.cookie.as_deref().filter(|_| origin == OriginCheck::Known);
        let authenticator = &self.context.authenticator;
        match handshake::token(headers, cookie) {
            Some(token) => match authenticator.verify(&token) {
                Ok(verified) => Ok(verified.identity.user),
                Err(error) => Err(refused(ErrorCode::Unauthenticated, error.to_string())),
            },
            None if authenticator.allows_anonymous() => Ok(None),
            None => Err(refused(ErrorCode::Unauthenticated, "a token is required")),
        }
    }

    pub(super) fn admit_anonymous_call(&self, request: &Request) -> Result<(), HttpCallError> {
        let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
            return Err(refused(ErrorCode::Malformed, "the request has no address"));
        };
        self.anonymous_calls.admit(peer.address.ip()).map_err(|wait| {
            let message = "too many calls without a user from this address \
                           (limits.anonymous_pages_per_ip_per_minute)";
            HttpCallError { after: Some(wait), ..refused(ErrorCode::RateLimited, message) }
        })
    }
}

/// Reads the body: the argument of the call, `null` if it is empty.
pub(super) async fn params(request: Request) -> Result<Box<RawValue>, HttpCallError> {
    let is_json = is_json(request.headers());
    // the listener limits the size and the time of a body
    let body = to_bytes(request.into_body(), usize::MAX).await.map_err(|error| unread(&error))?;
    if body.is_empty() {
        return Ok(RawValue::NULL.to_owned());
    }
    if !is_json {
        let unsupported = refused(ErrorCode::Malformed, "the body must be application/json");
        return Err(HttpCallError { status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), ..unsupported });
    }
    parse(&body)
}

fn parse(body: &Bytes) -> Result<Box<RawValue>, HttpCallError> {
    if is_too_deep(body) {
        return Err(refused(ErrorCode::Malformed, TOO_DEEP));
    }
    read(body).map_err(|problem| refused(ErrorCode::Malformed, problem))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn unread(error: &(dyn std::error::Error + 'static)) -> HttpCallError {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    match causes.find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind) {
        Some(io::ErrorKind::FileTooLarge) => refused(ErrorCode::TooLarge, "the body is too large"),
        Some(io::ErrorKind::TimedOut) => HttpCallError {
            status: Some(StatusCode::REQUEST_TIMEOUT),
            ..refused(ErrorCode::Malformed, "the body did not arrive in time")
        },
        _ => refused(ErrorCode::Malformed, "the body did not arrive"),
    }
}

impl HttpCallError {
    fn respond(self, request_id: &RequestId) -> Response<Body> {
        let (code, message, retryable, status) = match self.error {
            ExecutorError::Refused(CommandError { code, message }) => {
                (code.text().to_owned(), message.into_owned(), code.retryable(), code.status())
            }
            ExecutorError::Failed(failure) => {
                (failure.code, failure.message, failure.retryable, ErrorCode::Failed.status())
            }
        };
        let status = self.status.or_else(|| StatusCode::from_u16(status?).ok());
        let error =
            json!({"code": code, "message": message, "retryable": retryable, "request_id": request_id});
        let body = json!({"error": error}).to_string();
        respond(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body, self.after, request_id)
    }
}

fn respond(
    status: StatusCode,
    body: String,
    after: Option<Duration>,
    request_id: &RequestId,
) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.extend(HEADERS);
    headers.insert(REQUEST_ID, request_id.header());
    if let Some(after) = after {
        headers.insert(header::RETRY_AFTER, retry_after(after));
    }
    response
}
