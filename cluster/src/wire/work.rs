//! What nodes and workers say of calls and jobs.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::id::{Address, Key};

/// A raw value that is there, `null` included: serde itself reads `null` as nothing.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// What a page is told of a job that it asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobNotification {
    /// The page, wherever it is by now.
    pub page: Key,
    /// The page's own id of the request, as it wrote it.
    pub frame: Box<RawValue>,
    /// The job.
    pub job: Key,
    /// What became of it.
    pub news: JobUpdate,
}

/// What became of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobUpdate {
    /// It has come this far.
    Progress(Progress),
    /// It has ended: the one terminal word.
    Ended(Box<Ending>),
}

/// Something happened to a job; for whoever watches it, at most once. The record says the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// Its state.
    pub state: String,
    /// How far it has come, if that is what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 … 1.
    pub progress: f64,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a job ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ending {
    /// Its terminal state.
    pub state: String,
    /// What the handler returned.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    /// Why there is no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<HandlerError>,
}

/// Why a handler has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerError {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same work can succeed later.
    pub retryable: bool,
}

/// A method to run at once, on [`Subjects::calls`](crate::subject::Subjects::calls) or for a user's own worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerCall {
    /// Names this call, to cancel it.
    pub id: Key,
    /// The handler's name.
    pub method: String,
    /// Its argument, raw.
    pub params: Box<RawValue>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// From which page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Address>,
    /// When nobody waits for the answer any more, in milliseconds since the Unix epoch. Not a header: a message without
    /// headers is the cheaper one all the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// The answer to a [`WorkerCall`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallAnswer {
    /// The handler's result.
    Value(Box<RawValue>),
    /// Why there is none.
    Error(HandlerError),
    /// This worker has no such handler: nothing was done.
    NoHandler,
    /// All slots of this worker are taken: nothing was done.
    Busy,
    /// Another worker is the user's own: nothing was done.
    Elsewhere {
        /// That one.
        worker: Key,
    },
}

/// A running call or job is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Its id.
    pub id: Key,
}

/// The receiver looks whether it runs these jobs, whose records name it, and gives back what it does not run. A worker
/// of an older release ignores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsQuery {
    /// Their ids.
    pub jobs: Vec<Key>,
}

/// A user has assigned jobs that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// Whose.
    pub user: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;

    #[test]
    fn a_job_whose_result_is_null_has_a_result() {
        let ending =
            Ending { state: "succeeded".into(), value: Some(RawValue::NULL.to_owned()), error: None };
        let read: Ending = serde_json::from_slice(&encode(&ending)).unwrap();
        assert_eq!(read.value.map(|value| value.get().to_owned()).as_deref(), Some("null"));
        let none: Ending = serde_json::from_str(r#"{"state":"failed"}"#).unwrap();
        assert!(none.value.is_none());
    }

    #[test]
    fn the_answer_to_a_call_keeps_the_raw_value() {
        let value: Box<RawValue> = serde_json::from_str(r#"{"z":1,  "a":2}"#).unwrap();
        let answer: CallAnswer = serde_json::from_slice(&encode(&CallAnswer::Value(value))).unwrap();
        assert!(matches!(answer, CallAnswer::Value(value) if value.get() == r#"{"z":1,  "a":2}"#));
    }
}
