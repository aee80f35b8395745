//! `GET /jobs/{id}/events`: the changes of a job, as they happen.
//!
//! The first event is always the current record, so a reader that reconnects misses nothing that still matters.
//! Events are created when the reader takes them: a slow reader costs a subscription of bounded size, and receives
//! the newest state when it continues.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use pagewire_cluster::job::{self, JobNews, JobWatch, Record};

use super::dto::{JobResponse, ProgressResponse};
use super::unknown;
use super::waiting::{Waiting, find_reason};
use crate::api::ApiState;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::id::KeyId;
use crate::api::sse::{self, EventSource};
use crate::command::Context;

/// The state of a job that was last sent to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReportedState {
    state: job::JobState,
    attempts: u32,
    cancelling: bool,
    waiting: Option<Waiting>,
}

struct JobFollower {
    watching: JobWatch,
    context: Arc<Context>,
    reported: ReportedState,
}

/// Streams the changes of a job.
///
/// `job` events carry the job as `GET /jobs/{id}` returns it: first the current state, then one event for each change
/// of its state or of the reason why it waits. `progress` events carry its progress. The stream ends with the job,
/// and when the node shuts down.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/events", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn events(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<Response, ApiError> {
    let mut watching = parts.context.jobs.notifier.watch(id).await?;
    let stored = watching.read().await?.ok_or_else(|| unknown(id))?;
    let beat = Some(watching.pace());
    let context = parts.context.clone();
    let (reported, first) = report(stored.record, &context).await;
    Ok(sse::respond(parts.ready, beat, Some(first), JobFollower { watching, context, reported }))
}

/// Returns the state of a record and its event.
async fn report(record: Record, context: &Context) -> (ReportedState, Event) {
    let waiting = find_reason(context, &record).await;
    let Record { state, attempts, cancelling, .. } = record;
    let reported = ReportedState { state, attempts, cancelling, waiting: waiting.clone() };
    (reported, sse::event("job", &JobResponse::new(record, waiting)))
}

impl EventSource for JobFollower {
    /// Returns the next event; `None` after the end of the job.
    async fn next(&mut self) -> Option<Event> {
        if self.reported.state.is_terminal() { None } else { self.change().await }
    }
}

impl JobFollower {
    async fn change(&mut self) -> Option<Event> {
        loop {
            let record = match self.watching.next().await {
                Ok(JobNews::Progress(progress)) if self.reported.state == job::JobState::Running => {
                    return Some(sse::event("progress", &ProgressResponse::from(progress)));
                }
                Ok(JobNews::Progress(_)) => self.watching.read().await,
                Ok(JobNews::Record(record)) => Ok(record.map(|stored| *stored)),
                Err(error) => Err(error),
            };
            match record {
                Ok(Some(stored)) => {
                    let (now, event) = report(stored.record, &self.context).await;
                    if self.reported != now {
                        self.reported = now;
                        return Some(event);
                    }
                }
                Ok(None) => return None,
                // the engine is unavailable, but the job still exists
                Err(error) => tracing::debug!(%error, "a watched job cannot be read now"),
            }
        }
    }
}
