//! The answers that a mount gives by itself.
//!
//! Owns: their pages. Never: the reason for an answer, which only the log has, beside the same request id.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use super::body::{MountResponse, whole};
use crate::telemetry::{REQUEST_ID, RequestId};

/// Returns the page for a status: HTML for a client whose `Accept` names it, JSON for other ones.
pub(crate) fn refusal(
    status: StatusCode,
    accept: Option<&HeaderValue>,
    request_id: &RequestId,
) -> MountResponse {
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or("Error");
    let (content_type, body) = if accept.contains("text/html") {
        let title = format!("{} {reason}", status.as_u16());
        let page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
             <h1>{title}</h1>\n<p>Request <code>{request_id}</code></p>\n</html>\n"
        );
        ("text/html; charset=utf-8", page)
    } else {
        let body =
            serde_json::json!({ "status": status.as_u16(), "message": reason, "request_id": request_id });
        ("application/json", format!("{body}\n"))
    };
    let mut response = Response::new(whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    headers.insert(REQUEST_ID, request_id.header());
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn text(response: MountResponse) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_page_has_the_status_and_the_request_id_and_nothing_else() {
        let browser = HeaderValue::from_static("text/html,*/*");
        let id = RequestId::random();
        let page = refusal(StatusCode::BAD_GATEWAY, Some(&browser), &id);
        assert_eq!(page.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(page.headers()["x-request-id"], id.as_str());
        let page = text(page).await;
        assert!(
            page.contains("<h1>502 Bad Gateway</h1>") && page.contains(&format!("<code>{id}</code>")),
            "{page}"
        );
        let answer = refusal(StatusCode::SERVICE_UNAVAILABLE, None, &id);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
        let answer: serde_json::Value = serde_json::from_str(&text(answer).await).unwrap();
        assert_eq!(answer["request_id"], id.as_str());
        assert_eq!(answer["status"], 503);
    }
}
