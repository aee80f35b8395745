//! The web site of the board: the page of `examples/orders-python`, and a login that issues a token (JWT, HS256).

use axum::Router;
use axum::extract::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

const HOUR: u64 = 3600;

/// Returns what is served at `/`. The node serves `/pagewire.js` and the sockets by itself.
pub(crate) fn routes() -> Router {
    let file = |kind: &'static str, text: &'static str| {
        get(async move || ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], text))
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../orders-python/board.html")))
        .route("/board.js", file("text/javascript; charset=utf-8", include_str!("../orders-python/board.js")))
        .route("/board.css", file("text/css; charset=utf-8", include_str!("../orders-python/board.css")))
        .route("/settings", get(settings))
        .route("/login", post(login))
}

/// Returns where the page opens its socket: at the address of the page itself.
async fn settings(headers: HeaderMap) -> Json<Value> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080");
    Json(json!({ "socket": format!("ws://{host}/_ws") }))
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// Issues a token. The example believes the name; a real login checks a password or an identity provider here.
async fn login(body: String) -> Response {
    let user =
        serde_json::from_str::<Login>(&body).map(|login| login.user.trim().to_owned()).unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    if !(1..=20).contains(&user.len()) || !user.chars().all(plain) {
        return refused(StatusCode::BAD_REQUEST, "a name has 1 to 20 small letters or digits");
    }
    let secret = std::env::var("PAGEWIRE_AUTH__HS256_SECRET").unwrap_or_default();
    let claims = json!({ "sub": user, "exp": get_current_timestamp() + HOUR });
    match encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())) {
        Ok(token) => Json(json!({ "token": token })).into_response(),
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}
