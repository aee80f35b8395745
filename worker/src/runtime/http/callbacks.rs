//! The addresses at which a backend reports the progress of its work.
//!
//! Owns: the tokens of the work that runs, and the body of a report. Never: the listener that receives it.
//!
//! A token is a capability: its 128 random bits are all that a report needs, and it is valid while its work runs, at the
//! process that runs it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pagewire_cluster::id::Key;
use serde::Deserialize;

use crate::reporter::Reporter;

/// The path of the addresses, before the token.
pub const CALLBACK_PATH: &str = "/_work";

/// Maximum bytes of a report.
pub const MAX_REPORT: usize = 16 * 1024;

/// Maximum characters of the text of a report.
const MAX_MESSAGE: usize = 1024;

/// The work that may report progress. Cheap to clone.
#[derive(Clone, Default)]
pub struct Callbacks(Arc<CallbackTable>);

#[derive(Default)]
struct CallbackTable {
    /// URL of the listener.
    listener: OnceLock<String>,
    work: Mutex<HashMap<Key, Reporter>>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackReply {
    /// The work runs, and has the report.
    Accepted,
    /// No work of this process has the token: the work has ended, or never was here.
    Ended,
    /// The report is not of the required form.
    Malformed(String),
}

/// The address of one piece of work, valid until this is dropped.
pub(super) struct CallbackAddress {
    callbacks: Callbacks,
    token: Key,
}

/// The body of a report.
#[derive(Deserialize)]
struct ProgressReport {
    #[serde(default)]
    progress: Option<f64>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    heartbeat: bool,
}

impl Callbacks {
    /// Each change leaves the map consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Reporter>> {
        self.0.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the URL at which a backend reaches the listener of this process. The first one counts; an empty one is none.
    pub fn listen_at(&self, url: &str) {
        if !url.is_empty() {
            // an error means that it is set already
            let _ = self.0.listener.set(url.to_owned());
        }
    }

    /// Returns the URL of the listener.
    pub(super) fn listener(&self) -> Option<&str> {
        self.0.listener.get().map(String::as_str)
    }

    /// Opens an address for a piece of work.
    pub(super) fn open(&self, reporter: Reporter) -> CallbackAddress {
        let token = Key::random();
        self.lock().insert(token, reporter);
        CallbackAddress { callbacks: self.clone(), token }
    }

    /// Receives a report: `{progress, message?}`, or `{heartbeat: true}`, which only asks whether the work still runs.
    pub fn receive(&self, token: &str, body: &[u8]) -> CallbackReply {
        let reporter = token.parse().ok().and_then(|token: Key| self.lock().get(&token).cloned());
        let Some(reporter) = reporter else { return CallbackReply::Ended };
        let report: ProgressReport = match serde_json::from_slice(body) {
            Ok(report) => report,
            Err(error) => return CallbackReply::Malformed(format!("a report is JSON: {error}")),
        };
        match report {
            ProgressReport { progress: Some(progress), .. } if !(0.0..=1.0).contains(&progress) => {
                CallbackReply::Malformed(format!("progress is from 0 to 1, not {progress}"))
            }
            ProgressReport { message: Some(message), .. } if message.chars().count() > MAX_MESSAGE => {
                CallbackReply::Malformed(format!("message has at most {MAX_MESSAGE} characters"))
            }
            ProgressReport { progress: Some(progress), message, .. } => {
                reporter.report(progress, message);
                CallbackReply::Accepted
            }
            ProgressReport { heartbeat: true, .. } => CallbackReply::Accepted,
            ProgressReport { .. } => {
                CallbackReply::Malformed("a report has progress, or heartbeat = true".to_owned())
            }
        }
    }
}

impl CallbackAddress {
    /// Returns the URL below the URL of the listener.
    pub(super) fn url(&self, listener: &str) -> String {
        format!("{}{CALLBACK_PATH}/{}", listener.trim_end_matches('/'), self.token)
    }
}

impl Drop for CallbackAddress {
    fn drop(&mut self) {
        self.callbacks.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_while_its_work_runs() {
        let callbacks = Callbacks::default();
        let address = callbacks.open(Reporter::silent());
        let url = address.url("http://node:8080/");
        let token = url.strip_prefix("http://node:8080/_work/").unwrap();
        let report = |body: &str| callbacks.receive(token, body.as_bytes());
        assert_eq!(report(r#"{"progress":0.5,"message":"half"}"#), CallbackReply::Accepted);
        assert_eq!(report(r#"{"heartbeat":true}"#), CallbackReply::Accepted);
        for bad in ["", "[]", "{}", r#"{"progress":2}"#, r#"{"progress":-0.1}"#, r#"{"progress":"a"}"#] {
            assert!(matches!(report(bad), CallbackReply::Malformed(_)), "{bad}");
        }
        for unknown in [Key::random().to_string(), String::new(), "../x".to_owned()] {
            assert_eq!(callbacks.receive(&unknown, b"{}"), CallbackReply::Ended, "{unknown}");
        }
        drop(address);
        assert_eq!(report(r#"{"heartbeat":true}"#), CallbackReply::Ended);
    }
}
