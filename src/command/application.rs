//! What the applications of mounts request of pages and of logins.
//!
//! Owns: how a request of an application becomes one of the server API, or a token. Never: whether it stands
//! (`pagewire_worker::effects::application`), or which nodes the pages are at (`pages`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pagewire_cluster::clock;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::{Key, Scope};
use pagewire_cluster::login::EndedLogins;
use pagewire_cluster::wire::{HandlerError, PushCounts};
use pagewire_worker::effects::application::{ApplicationLogins, ApplicationPages};
use serde_json::value::RawValue;

use super::Context;
use crate::auth::TokenIssuer;

/// The pages of the cluster, for the applications of the mounts of a node.
pub struct PagesOfApplications {
    /// What commands use.
    pub context: Arc<Context>,
    /// How long a token of a page is accepted.
    pub page_token: Duration,
}

fn unavailable() -> HandlerError {
    HandlerError::new(ErrorCode::Unavailable, "no connection to the cluster")
}

impl ApplicationPages for PagesOfApplications {
    fn send(&self, to: Scope, payload: Box<RawValue>) -> BoxFuture<'_, Result<PushCounts, HandlerError>> {
        let sent = self.context.deliver.send(to, payload, None);
        async move { Ok(sent.await?.reach) }.boxed()
    }

    fn close(&self, scope: Scope) -> BoxFuture<'_, Result<u64, HandlerError>> {
        let closer = &self.context.pages.closer;
        let closed = async move {
            let closed = match scope {
                Scope::Page(page) => closer.unregister_page(page.key).await,
                scope => closer.unregister(scope).await,
            };
            Ok(closed?.map_or(0, |outcome| outcome.closed))
        };
        closed.boxed()
    }

    fn proves<'a>(&'a self, token: &'a str, page: Key) -> BoxFuture<'a, Result<bool, HandlerError>> {
        let proves = self.context.pages.tokens.proves(token, page, self.page_token);
        async move { proves.await.map_err(|Unavailable| unavailable()) }.boxed()
    }
}

/// The logins of the applications of the mounts of a node.
pub struct LoginsOfApplications {
    /// Issues their tokens; without one there are no logins.
    pub issuer: Option<TokenIssuer>,
    /// Logins that have ended.
    pub ended: EndedLogins,
}

impl LoginsOfApplications {
    fn issuer(&self) -> Result<&TokenIssuer, HandlerError> {
        let message = "a login is a token in a cookie: set auth.hs256_secret and auth.cookie";
        self.issuer.as_ref().ok_or_else(|| HandlerError::new(ErrorCode::Unsupported, message))
    }
}

impl ApplicationLogins for LoginsOfApplications {
    fn issue(&self, user: &str, valid: Duration) -> Result<String, HandlerError> {
        let unsigned = || HandlerError::new(ErrorCode::Internal, "the token cannot be signed");
        self.issuer()?.issue(user, valid).ok_or_else(unsigned)
    }

    fn cookie(&self) -> Result<&str, HandlerError> {
        self.issuer().map(TokenIssuer::cookie)
    }

    fn end_all<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<(), HandlerError>> {
        let at = clock::unix().as_micros() as u64;
        let ended = async move { self.ended.end(user, at).await.map_err(|Unavailable| unavailable()) };
        ended.boxed()
    }
}
