//! `POST /_page/{page}/{method}`: a method of the object of a resident page, over HTTP at any node.
//!
//! Owns: which page is meant, and who may call its object. Never: where the object lives (`calls`).
//!
//! A page of a user is called by this user. A page without a user is called with its token, which only the client of the page
//! has; the identity of a browser would not tell its pages apart.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::Response;
use pagewire_cluster::id::{Account, Address, Key};
use pagewire_cluster::rollout::LanePins;
use pagewire_cluster::worker::ExecMode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Edge;
use super::http_call::{self, HttpCallError, MAX_METHOD, refused};
use crate::calls::CallRequest;
use crate::pages::Membership;
use crate::protocol::{CommandError, ErrorCode};

/// The path of the route.
pub(super) const PATH: &str = "/_page/{page}/{method}";
/// The header with the token of a page without a user.
const TOKEN: &str = "pagewire-page-token";

/// The query of a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageCallOptions {
    timeout_ms: Option<u64>,
}

/// Runs the method and returns the response. Dropping the future, when the client is gone, stops the method.
pub(super) async fn call(
    State(edge): State<Arc<Edge>>,
    path: Result<Path<(String, String)>, PathRejection>,
    options: Result<Query<PageCallOptions>, QueryRejection>,
    request: Request,
) -> Response<Body> {
    let parent = http_call::caller_trace(request.headers());
    http_call::answer(parent.as_ref(), run(&edge, path, options, request)).await
}

async fn run(
    edge: &Edge,
    path: Result<Path<(String, String)>, PathRejection>,
    options: Result<Query<PageCallOptions>, QueryRejection>,
    request: Request,
) -> Result<Box<RawValue>, HttpCallError> {
    let user = edge.caller(request.headers())?;
    let Path((page, method)) = path.map_err(|_| refused(ErrorCode::Malformed, "the path is not UTF-8"))?;
    let message = "the query has timeout_ms, a number of milliseconds";
    let Query(PageCallOptions { timeout_ms }) =
        options.map_err(|_| refused(ErrorCode::Malformed, message))?;
    let page: Address =
        page.parse().map_err(|_| refused(ErrorCode::Malformed, "the page has no valid id"))?;
    if user.is_none() {
        edge.admit_anonymous_call(&request)?;
    }
    let (pages, token) = (&edge.context.pages, page_token(&request));
    let found = pages.store.membership(page.key).await.map_err(CommandError::from)?;
    // one answer for a page that does not exist and one of another user
    let Some(place) = found else { return Err(no_page()) };
    edge.check_access(&place, page.key, user.as_deref(), token.as_deref()).await?;
    let Some(class) = place.resident.clone() else {
        return Err(refused(
            ErrorCode::Unknown,
            "this page has no object: it has named no class when it opened",
        ));
    };
    let connection = place.connection.key;
    let account = place.user.clone().map_or(Account::Connection(connection), Account::User);
    let _counted = edge.context.in_flight.count(account)?;
    let method = format!("{}.{method}", class.class);
    if method.len() > MAX_METHOD {
        return Err(refused(ErrorCode::Malformed, "the name of a method has 1 to 200 bytes with its class"));
    }
    let call = CallRequest {
        method,
        params: http_call::params(request).await?,
        exec_mode: Some(ExecMode::Assigned),
        pool: class.pool.clone(),
        timeout: timeout_ms.map(Duration::from_millis),
        user: place.user,
        connection: Some(connection),
        page: Some(page),
        session: Some(place.session.key),
        pins: Some(Arc::new(LanePins::new(place.pins))),
        class: Some(class.class.clone()),
        event: None,
    };
    Ok(edge.context.executors.call(call).await?)
}

fn page_token(request: &Request) -> Option<String> {
    request.headers().get(TOKEN).and_then(|token| token.to_str().ok()).map(str::to_owned)
}

fn no_page() -> HttpCallError {
    refused(ErrorCode::Unknown, "there is no such page of this user")
}

impl Edge {
    /// Refuses a caller to whom a page does not belong.
    async fn check_access(
        &self,
        place: &Membership,
        page: Key,
        user: Option<&str>,
        token: Option<&str>,
    ) -> Result<(), HttpCallError> {
        match (place.user.as_deref(), token) {
            (Some(owner), _) if Some(owner) == user => Ok(()),
            (Some(_), _) => Err(no_page()),
            (None, Some(token)) => {
                let proves = self.context.pages.tokens.proves(token, page, self.timing.page_token).await;
                match proves.map_err(CommandError::from)? {
                    true => Ok(()),
                    false => Err(refused(ErrorCode::Forbidden, "the token is not one of this page")),
                }
            }
            (None, None) => {
                let message = "a page without a user is called with its token (header pagewire-page-token)";
                Err(refused(ErrorCode::Unauthenticated, message))
            }
        }
    }
}
