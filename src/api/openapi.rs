//! The OpenAPI document of the API, generated from the routes and the types that serve them.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use super::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pagewire",
        description = "The server API of a Pagewire cluster. Any node serves the whole cluster."
    ),
    security((), ("bearer" = []))
)]
struct ApiDoc;

/// Returns the document.
pub(super) fn describe() -> Document {
    let mut document = ApiDoc::openapi();
    let routes = routes::probes().merge(routes::push()).merge(routes::admin());
    document.merge(routes.into_openapi());
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    // `{*path}`, which matches several segments, is the router's own spelling
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    document
}

/// `GET /api/openapi.json`
pub(super) async fn document() -> Json<Document> {
    Json(describe())
}
