//! The OpenAPI document of the API, generated from the types that serve it.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use super::{
    calls, events, health, jobs, keys, nodes, pages, rollouts, send, sessions, state, topics, unregister,
    users, workers,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Pagewire", description = "The server API of a Pagewire cluster. Any node answers for all of it."),
    paths(
        send::send, send::batch,
        calls::call, calls::executors,
        jobs::submit, jobs::list::jobs, jobs::job, jobs::events::events, jobs::cancel, jobs::retry,
        nodes::stats, nodes::nodes, keys::keys, keys::rotate, workers::workers, workers::drain,
        events::events,
        users::users, users::user, unregister::user, sessions::of_user,
        sessions::connection, unregister::connection, sessions::of_connection,
        sessions::session, unregister::session, pages::session_pages,
        pages::page, unregister::page,
        state::whole, state::replace, state::clear, state::patch, state::read, state::set, state::delete,
        topics::topics, topics::topic,
        rollouts::rollouts, rollouts::status, rollouts::change, rollouts::explain, rollouts::history,
        health::live, health::ready, health::metrics,
    ),
    modifiers(&Bearer),
    security((), ("bearer" = []))
)]
struct ApiDoc;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    }
}

/// Returns the document.
pub(super) fn describe() -> Document {
    ApiDoc::openapi()
}

/// `GET /api/openapi.json`
pub(super) async fn document() -> Json<Document> {
    Json(describe())
}
