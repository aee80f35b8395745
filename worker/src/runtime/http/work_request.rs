//! The request that runs a piece of work in a backend.
//!
//! Owns: its body, its headers and its signature. Never: sending it.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::handlers::{HandlerInput, WorkUnit};

const TIMESTAMP: HeaderName = HeaderName::from_static("pagewire-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("pagewire-signature");
const TIMEOUT: HeaderName = HeaderName::from_static("pagewire-timeout-ms");
const TRACE: HeaderName = HeaderName::from_static("traceparent");

/// The body of a request.
#[derive(Serialize)]
struct WorkBody<'a> {
    method: &'a str,
    params: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<String>,
}

/// Writes the body of the request for a piece of work.
///
/// # Errors
///
/// Never with JSON that was parsed before; the error of the encoder otherwise.
pub(super) fn body(
    method: &str,
    input: &HandlerInput,
    callback: Option<String>,
) -> Result<Bytes, serde_json::Error> {
    let (job, attempt, left) = match input.unit {
        WorkUnit::Call => (None, None, None),
        WorkUnit::Job { id, attempt, left } => (Some(id.to_string()), Some(attempt), Some(left)),
    };
    let body = WorkBody {
        method,
        params: &input.params,
        user: input.user.as_deref(),
        page: input.page.map(|page| page.to_string()),
        session: input.session.map(|session| session.to_string()),
        connection: input.connection.map(|connection| connection.to_string()),
        job,
        attempt,
        left,
        callback,
    };
    serde_json::to_vec(&body).map(Bytes::from)
}

/// Returns the headers of a request; `now` is its time in seconds since the Unix epoch. It is signed unless the secret
/// is empty.
pub(super) fn headers(
    body: &[u8],
    secret: &str,
    now: u64,
    within: Duration,
    trace: Option<&str>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(TIMESTAMP, HeaderValue::from(now));
    headers.insert(TIMEOUT, HeaderValue::from(u64::try_from(within.as_millis()).unwrap_or(u64::MAX)));
    if let Some(signature) = signature(secret, now, body).and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(SIGNATURE, signature);
    }
    if let Some(trace) = trace.and_then(|trace| HeaderValue::from_str(trace).ok()) {
        headers.insert(TRACE, trace);
    }
    headers
}

/// Signs the time and the body of a request. Returns `None` without a secret.
fn signature(secret: &str, timestamp: u64, body: &[u8]) -> Option<String> {
    if secret.is_empty() {
        return None;
    }
    // never an error: HMAC takes a key of any length
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let hex = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(format!("v1={hex}"))
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::Key;
    use serde_json::{Value, json};

    use super::*;

    fn input() -> HandlerInput {
        HandlerInput::call(RawValue::from_string(r#"{"z": 1,"a":2}"#.to_owned()).unwrap())
    }

    #[test]
    fn a_signature_is_the_hmac_of_the_time_and_the_body() {
        // computed with Python: hmac.new(b"key", b'1700000000.{"a":1}', "sha256").hexdigest()
        let expected = "v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(signature("key", 1_700_000_000, br#"{"a":1}"#).as_deref(), Some(expected));
        assert_eq!(signature("", 1_700_000_000, b"{}"), None);
    }

    #[test]
    fn a_call_has_its_parameters_unchanged_and_no_job() {
        let call = body("sum", &HandlerInput { user: Some("ann".to_owned()), ..input() }, None).unwrap();
        assert_eq!(call, r#"{"method":"sum","params":{"z": 1,"a":2},"user":"ann"}"#);
    }

    #[test]
    fn a_job_has_its_id_its_attempt_and_its_callback() {
        let unit = WorkUnit::Job { id: Key::from_bits(1), attempt: 2, left: 3 };
        let job =
            body("sum", &HandlerInput { unit, ..input() }, Some("http://a/_work/b".to_owned())).unwrap();
        let job: Value = serde_json::from_slice(&job).unwrap();
        assert_eq!(
            (&job["job"], &job["attempt"], &job["left"]),
            (&json!(Key::from_bits(1).to_string()), &json!(2), &json!(3))
        );
        assert_eq!(job["callback"], "http://a/_work/b");
    }

    #[test]
    fn a_request_names_its_time_and_its_trace() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = headers(b"{}", "", 7, Duration::from_millis(1500), Some(trace));
        assert_eq!(
            (&headers[TIMESTAMP], &headers[TIMEOUT], &headers[TRACE]),
            (&"7".parse().unwrap(), &"1500".parse().unwrap(), &trace.parse().unwrap())
        );
        assert!(!headers.contains_key(SIGNATURE));
    }
}
