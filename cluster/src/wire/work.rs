//! Messages between nodes and workers about calls and jobs.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::PageEvent;
use crate::code::ErrorCode;
use crate::id::{Address, Key, WorkOwner};

/// Deserializes a raw value that is present, `null` included: serde itself maps `null` to `None`.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// A notification to a page about a job that it submitted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename = "job")]
pub struct JobNotification {
    /// The page, on whichever node it is now.
    pub page: Key,
    /// Request id of the page, byte for byte as it sent it.
    pub frame: Box<RawValue>,
    /// The job.
    pub job: Key,
    /// The update.
    pub news: JobUpdate,
}

/// An update of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobUpdate {
    /// The job has made progress.
    Progress(Progress),
    /// The job has ended; sent once and last.
    Ended(Box<Ending>),
}

/// An event of a job for its watchers, delivered at most once. The record contains the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobEvent {
    /// State of the job.
    pub state: String,
    /// Progress of the job, if the event is progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The record of a job that has ended with its revision, unless it is large; absent in events of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Box<RawValue>>,
}

impl JobEvent {
    /// The event of a job that is in this state now.
    pub fn of_state(state: impl Into<String>) -> Self {
        Self { state: state.into(), progress: None, ended: None }
    }
}

/// Longest code of an error of a handler, in bytes.
const MAX_CODE: usize = 200;
/// Longest message of an error or of progress, in bytes. The record of a job has room for its data, its result and these.
const MAX_MESSAGE: usize = 8 * 1024;

/// Cuts a text to at most so many bytes, at the end of a character.
fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

/// The progress of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 1.
    pub progress: f64,
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Progress {
    /// Cuts a message that is too long for the record of a job.
    #[must_use]
    pub fn cut(mut self) -> Self {
        if let Some(message) = &mut self.message {
            cut(message, MAX_MESSAGE);
        }
        self
    }
}

/// The end of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ending {
    /// Terminal state of the job.
    pub state: String,
    /// Return value of the handler.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    /// Error, if there is no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<HandlerError>,
}

/// Why a handler has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerError {
    /// Code for programs.
    pub code: String,
    /// Text for people.
    pub message: String,
    /// Whether the same work can succeed later.
    pub retryable: bool,
}

impl HandlerError {
    /// Creates an error with a code of Pagewire, which decides whether it is retryable.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.text().to_owned(), message: message.into(), retryable: code.retryable() }
    }

    /// Cuts a code and a message that are too long for the record of a job.
    #[must_use]
    pub fn cut(mut self) -> Self {
        cut(&mut self.code, MAX_CODE);
        cut(&mut self.message, MAX_MESSAGE);
        self
    }
}

/// A method to run at once, sent to [`Subjects::calls`](crate::subject::Subjects::calls) or to the assigned worker of a
/// user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerCall {
    /// Id of the call, used to cancel it.
    pub id: Key,
    /// Name of the handler.
    pub method: String,
    /// Argument of the handler, as raw JSON.
    pub params: Box<RawValue>,
    /// User for whom the method runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Page that made the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Address>,
    /// Session of that page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Key>,
    /// Connection of that page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Key>,
    /// The lane in which the call runs although its user may be in another one, because its page keeps the lane. A worker of
    /// an older release may send the call to the lane of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// The class that its page has named when it opened; only such a page has an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What has happened to a resident page, in place of a call of its method. `method` is the class of its object. A worker
    /// of an older release has no handler of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<PageEvent>,
    /// How long the caller waits for the reply, in milliseconds from its sending: a point in time would compare the
    /// clocks of two machines. Not a header, because a message without headers is cheaper to send and to parse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

impl WorkerCall {
    /// Returns the owner key of the call if it is assigned.
    pub fn owner(&self) -> Option<Cow<'_, str>> {
        WorkOwner::of(self.user.as_deref(), self.connection).map(WorkOwner::key)
    }
}

/// The reply to a [`WorkerCall`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallAnswer {
    /// Result of the handler.
    Value(Box<RawValue>),
    /// Error of the handler.
    Error(HandlerError),
    /// This worker has no such handler: the call did not run.
    NoHandler,
    /// All slots of this worker are taken: the call did not run.
    Busy,
    /// The executor died while it ran the call. A caller of an older release treats it as a reply that it cannot parse: the
    /// call may have run.
    Lost,
    /// Another worker is assigned to the user: the call did not run.
    Elsewhere {
        /// The assigned worker.
        worker: Key,
    },
}

/// A request to stop a running call or job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Id of the call or job.
    pub id: Key,
}

/// A request to check the claims of a worker. The worker checks whether it runs these jobs, which their records assign
/// to it, and gives back the jobs that it does not run. A worker of an older release ignores the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsQuery {
    /// Ids of the jobs.
    pub jobs: Vec<Key>,
}

/// A notification that the receiver owns a user with assigned jobs that wait, from a worker that was chosen for the
/// user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// The user.
    pub user: String,
}

/// The answer of a worker to a new job that it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJobAnswer {
    /// Whether the worker has created the job, and runs it.
    pub taken: bool,
}

/// An offer of a free job that waits, from a worker that has got its work item but has no handler for it. The receiver
/// may claim the job. A worker of an older release ignores the offer: the work item comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOffer {
    /// Id of the job.
    pub job: Key,
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
    fn a_text_is_cut_between_characters_and_a_short_one_stays() {
        let error = HandlerError::new(ErrorCode::Failed, "€".repeat(10_000)).cut();
        assert_eq!((error.code.as_str(), error.message.len()), ("failed", 8190));
        let progress = Progress { progress: 0.5, message: Some("half".to_owned()) };
        assert_eq!(progress.clone().cut(), progress);
    }

    #[test]
    fn a_call_of_an_older_release_has_no_limit_that_depends_on_clocks() {
        let id = Key::from_bits(1);
        let older = format!(r#"{{"id":"{id}","method":"echo","params":1,"deadline_ms":1}}"#);
        let call: WorkerCall = serde_json::from_str(&older).unwrap();
        assert_eq!((call.left_ms, call.session, call.connection), (None, None, None));
        let sent = encode(&WorkerCall { left_ms: Some(30), ..call.clone() });
        assert_eq!(sent, format!(r#"{{"id":"{id}","method":"echo","params":1,"left_ms":30}}"#));
        let [session, connection] = [2, 3].map(Key::from_bits);
        let of_a_page = WorkerCall { session: Some(session), connection: Some(connection), ..call };
        let members = format!(r#""session":"{session}","connection":"{connection}""#);
        assert_eq!(encode(&of_a_page), format!(r#"{{"id":"{id}","method":"echo","params":1,{members}}}"#));
    }

    #[test]
    fn the_answer_to_a_call_keeps_the_raw_value() {
        let value: Box<RawValue> = serde_json::from_str(r#"{"z":1,  "a":2}"#).unwrap();
        let answer: CallAnswer = serde_json::from_slice(&encode(&CallAnswer::Value(value))).unwrap();
        assert!(matches!(answer, CallAnswer::Value(value) if value.get() == r#"{"z":1,  "a":2}"#));
    }
}
