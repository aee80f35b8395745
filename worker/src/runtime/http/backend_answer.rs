//! The result that a response of a backend stands for.
//!
//! Owns: the meaning of a status, an error body and `Retry-After`. Never: reading a response.

use std::time::Duration;

use bytes::Bytes;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::HandlerError;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::handlers::{RunFailure, RunResult};

/// Maximum bytes of an error body that is read; a longer one is no error of a handler.
pub(super) const MAX_ERROR: usize = 64 * 1024;
/// Maximum characters of the message of an error.
const MAX_MESSAGE: usize = 4096;
/// Maximum bytes of the code of an error.
const MAX_CODE: usize = 64;

/// A response of a backend.
pub(super) struct BackendAnswer {
    pub(super) status: StatusCode,
    /// `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// `Date`, by the clock of the backend.
    pub(super) date: Option<String>,
    pub(super) body: Bytes,
}

/// `{"error": {…}}`
#[derive(Deserialize)]
struct ErrorEnvelope {
    error: BackendError,
}

#[derive(Deserialize)]
struct BackendError {
    code: String,
    message: String,
    #[serde(default)]
    retryable: Option<bool>,
    #[serde(default)]
    after_ms: Option<u64>,
}

/// Returns an error of the code `failed`.
pub(super) fn failed(message: impl Into<String>, retryable: bool) -> HandlerError {
    HandlerError { retryable, ..HandlerError::new(ErrorCode::Failed, message) }
}

impl BackendAnswer {
    /// Returns the result that the response stands for.
    pub(super) fn result(self, method: &str) -> RunResult {
        match self.status {
            status if status.is_success() => self.value().map_err(RunFailure::Failed),
            status if status.is_client_error() || status.is_server_error() => Err(self.failure(method)),
            status => {
                let message = format!("the backend answered {status}, which is not followed: use 307 or 308");
                Err(RunFailure::Failed(failed(message, false)))
            }
        }
    }

    fn value(&self) -> Result<Box<RawValue>, HandlerError> {
        if self.body.is_empty() {
            return Ok(RawValue::NULL.to_owned());
        }
        // the handler has run, so that a repetition would run it twice
        serde_json::from_slice(&self.body)
            .map_err(|error| failed(format!("the result of the backend is not JSON: {error}"), false))
    }

    fn failure(&self, method: &str) -> RunFailure {
        let reported: Option<ErrorEnvelope> = serde_json::from_slice(&self.body).ok();
        let (refuses, error, after) = match reported {
            Some(ErrorEnvelope { error }) => {
                let after = error.after_ms.map(Duration::from_millis);
                (error.retryable == Some(false), self.reported(error), after)
            }
            None => (false, self.unreported(method), None),
        };
        match after.or_else(|| self.wait()) {
            Some(after) if !refuses => {
                RunFailure::RetryAfter(HandlerError { retryable: true, ..error }, after)
            }
            _ => RunFailure::Failed(error),
        }
    }

    /// Returns the error that a handler has returned.
    fn reported(&self, error: BackendError) -> HandlerError {
        let BackendError { code, message, retryable, .. } = error;
        let is_code =
            (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_graphic());
        let code = if is_code { code } else { ErrorCode::Failed.text().to_owned() };
        let message = message.chars().take(MAX_MESSAGE).collect();
        HandlerError { code, message, retryable: retryable.unwrap_or_else(|| self.may_succeed_later()) }
    }

    /// Returns the error of a response without one.
    fn unreported(&self, method: &str) -> HandlerError {
        match self.status {
            StatusCode::NOT_FOUND => {
                let message = format!("the backend has no method {method} at its URL (404)");
                HandlerError::new(ErrorCode::NoExecutor, message)
            }
            status => failed(format!("the backend answered {status}"), self.may_succeed_later()),
        }
    }

    fn may_succeed_later(&self) -> bool {
        let waits = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        self.status.is_server_error() || waits.contains(&self.status)
    }

    /// Returns how long the backend asks to wait.
    fn wait(&self) -> Option<Duration> {
        if !matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return None;
        }
        let text = self.retry_after.as_deref()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        // both times are of the clock of the backend
        let [until, now] =
            [text, self.date.as_deref()?.trim()].map(|text| OffsetDateTime::parse(text, &Rfc2822).ok());
        Some((until? - now?).try_into().unwrap_or(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> BackendAnswer {
        let body = Bytes::copy_from_slice(body.as_bytes());
        BackendAnswer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, date: None, body }
    }

    /// Returns the code of an error and whether the work is tried again.
    fn failure(status: u16, body: &str) -> (String, bool) {
        match answer(status, body).result("sum").unwrap_err() {
            RunFailure::Failed(error) => (error.code, error.retryable),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_success_has_the_value_of_its_body() {
        let value = |status, body| answer(status, body).result("sum").map(|value| value.get().to_owned());
        assert_eq!(value(200, r#"{"z":1,  "a":2}"#).as_deref(), Ok(r#"{"z":1,  "a":2}"#));
        assert_eq!(value(204, "").as_deref(), Ok("null"));
        assert_eq!(value(201, "null").as_deref(), Ok("null"));
        for garbage in ["<html>", "{", "1 2", "\u{0}"] {
            assert_eq!(failure(200, garbage), ("failed".to_owned(), false), "{garbage}");
        }
    }

    #[test]
    fn an_error_of_a_handler_keeps_its_code() {
        let body = r#"{"error":{"code":"no_money","message":"too little","retryable":true}}"#;
        assert_eq!(failure(422, body), ("no_money".to_owned(), true));
        let body = r#"{"error":{"code":"no_money","message":"too little"}}"#;
        assert_eq!(failure(422, body), ("no_money".to_owned(), false));
        assert_eq!(failure(500, body), ("no_money".to_owned(), true));
        assert_eq!(failure(404, body), ("no_money".to_owned(), false));
        let strange = r#"{"error":{"code":"a b","message":""}}"#;
        assert_eq!(failure(400, strange), ("failed".to_owned(), false));
    }

    #[test]
    fn a_status_alone_says_whether_the_work_is_tried_again() {
        for status in [500, 502, 503, 504, 408, 425, 429] {
            assert_eq!(failure(status, "<html>"), ("failed".to_owned(), true), "{status}");
        }
        for status in [400, 401, 403, 405, 413, 422, 301, 302, 303, 304] {
            assert_eq!(failure(status, ""), ("failed".to_owned(), false), "{status}");
        }
        assert_eq!(failure(404, "not found"), ("no_executor".to_owned(), true));
    }

    #[test]
    fn the_backend_may_say_when_a_job_is_tried_again() {
        let after = |status, retry_after: &str, body| {
            let date = Some("Sun, 06 Nov 1994 08:49:07 GMT".to_owned());
            match (BackendAnswer { retry_after: Some(retry_after.to_owned()), date, ..answer(status, body) })
                .result("sum")
            {
                Err(RunFailure::RetryAfter(error, after)) if error.retryable => Some(after.as_millis()),
                _ => None,
            }
        };
        assert_eq!(after(429, "7", ""), Some(7000));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:49:37 GMT", ""), Some(30_000));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:00:00 GMT", ""), Some(0));
        assert_eq!(after(503, "soon", ""), None);
        assert_eq!(after(500, "7", ""), None);
        assert_eq!(after(422, "", r#"{"error":{"code":"a","message":"b","after_ms":50}}"#), Some(50));
        assert_eq!(after(429, "7", r#"{"error":{"code":"a","message":"b","retryable":false}}"#), None);
    }
}
