//! The rules of rollouts that a page meets.
//!
//! Owns: when they are written down: at the opening of a page, and at the login of its connection. Never: the rules
//! (`pagewire_cluster::rollout`).

use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::Key;
use pagewire_cluster::rollout::{PageFacts, RoutingKey};

use super::Context;
use crate::auth::Verified;
use crate::pages::Page;

/// Writes down which rules a page meets that has opened or has come back, before its first frame is read. Without the engine, what
/// was known of the user before stays.
pub async fn page_opened(context: &Context, page: &Page, facts: &PageFacts) {
    let user = page.user();
    let unit = RoutingKey::of(user.as_deref(), Some(page.connection().key));
    log(context.rollouts.enrolments().page_opened(unit, facts).await);
}

/// Writes down which rules a user meets whose connection was anonymous.
pub(super) async fn logged_in(context: &Context, user: &str, connection: Key, verified: &Verified) {
    let token = PageFacts { claims: verified.claims.clone(), ..PageFacts::default() };
    log(context.rollouts.enrolments().logged_in(user, connection, &token).await);
}

fn log(written: Result<(), Unavailable>) {
    if let Err(error) = written {
        tracing::warn!(%error, "the rules of a rollout that a page meets are not written");
    }
}
