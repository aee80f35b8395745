//! `GET /jobs/{id}/events`: what becomes of a job, as it happens.
//!
//! The first event is always the record, so whoever lost its connection misses nothing that still matters. Events are
//! made when the reader takes them: one that reads slowly, or not at all, costs a subscription of bounded size, and
//! is told of the newest state when it goes on.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use pagewire_cluster::job::{self, JobWatch, Record};
use pagewire_cluster::worker::Workers;
use serde::Serialize;

use super::dto::{JobResponse, ProgressResponse, is_stranded};
use super::unknown;
use crate::api::ApiState;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::events::UNBUFFERED;
use crate::api::id::KeyId;
use crate::telemetry::Readiness;

/// What a reader has been told of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReportedState {
    state: job::JobState,
    attempts: u32,
    cancelling: bool,
    stranded: bool,
}

struct JobFollower {
    watching: JobWatch,
    workers: Workers,
    ready: Readiness,
    told: ReportedState,
}

/// What becomes of a job. `job` events have the job as `GET /jobs/{id}` reads it: the first one as it stands, then one
/// for each change of its state and of what it waits for; `progress` events say how far it has come. The stream ends with the job, and when
/// the node leaves.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/events", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn events(
    State(parts): State<ApiState>,
    KeyId(id): KeyId,
) -> Result<impl IntoResponse, ApiError> {
    let watching = parts.context.jobs.watch(id).await?;
    let stored = watching.read().await?.ok_or_else(|| unknown(id))?;
    let beat = KeepAlive::new().interval(watching.pace());
    let workers = parts.context.workers.clone();
    let (told, first) = tell(stored.record, &workers);
    let follower = JobFollower { watching, workers, ready: parts.ready, told };
    Ok((UNBUFFERED, Sse::new(stream::iter([Ok(first)]).chain(follower.events())).keep_alive(beat)))
}

/// What is told of a record, and the event that does.
fn tell(record: Record, workers: &Workers) -> (ReportedState, Event) {
    let roster = workers.roster();
    let Record { state, attempts, cancelling, .. } = record;
    let told = ReportedState { state, attempts, cancelling, stranded: is_stranded(&record, &roster) };
    (told, event("job", &JobResponse::new(record, &roster)))
}

impl JobFollower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    /// The next thing to say; `None` behind the end, and when this node leaves.
    async fn next(&mut self) -> Option<Event> {
        if self.told.state.is_terminal() {
            return None;
        }
        let ready = self.ready.clone();
        tokio::select! {
            event = self.change() => event,
            () = ready.lost() => None,
        }
    }

    async fn change(&mut self) -> Option<Event> {
        loop {
            if let Some(progress) = self.watching.next().await
                && self.told.state == job::JobState::Running
            {
                return Some(event("progress", &ProgressResponse::from(progress)));
            }
            match self.watching.read().await {
                Ok(Some(stored)) => {
                    let (now, event) = tell(stored.record, &self.workers);
                    if std::mem::replace(&mut self.told, now) != now {
                        return Some(event);
                    }
                }
                Ok(None) => return None,
                // the engine is away: the job is not
                Err(error) => tracing::debug!(%error, "a watched job cannot be read now"),
            }
        }
    }
}

fn event(name: &'static str, data: &impl Serialize) -> Event {
    // what is made of records is JSON
    let data = serde_json::to_string(data).unwrap_or_default();
    // between the tokens of a raw result there may be line ends, and nowhere else: one line is read by every reader
    Event::default().event(name).data(data.replace(['\r', '\n'], " "))
}
