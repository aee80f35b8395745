//! The jobs and calls of handlers of the tests: sent to the one group of workers.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{Affinity, CallError, Idempotency, Jobs, Submission};
use pagewire_cluster::wire::{HandlerError, WorkerCall};
use serde_json::value::RawValue;

use super::{submission, team};
use crate::outgoing::{NestedCall, NestedJob, WorkSubmitter};

pub(super) struct Outgoing(pub(super) Jobs);

fn affinity(user: Option<&String>) -> Affinity {
    if user.is_some() { Affinity::Assigned } else { Affinity::Free }
}

impl WorkSubmitter for Outgoing {
    fn submit(&self, job: NestedJob) -> BoxFuture<'_, Result<Key, HandlerError>> {
        let submission = Submission {
            data: job.data,
            affinity: affinity(job.identity.user.as_ref()),
            user: job.identity.user,
            run_in: job.run_in,
            retries: job.retries.unwrap_or(0),
            idempotency: job.idempotency_key.map(|key| Idempotency { scope: "work".into(), key }),
            trace: job.identity.trace,
            ..submission(&job.kind)
        };
        async {
            let submitted = self.0.submit(submission, |_| {}).await;
            let refused = |error: String| HandlerError::new(ErrorCode::Conflict, error);
            submitted.map(|submitted| submitted.record.id).map_err(|error| refused(error.to_string()))
        }
        .boxed()
    }

    fn call(&self, call: NestedCall) -> BoxFuture<'_, Result<Box<RawValue>, HandlerError>> {
        let NestedCall { method, params, identity, timeout, .. } = call;
        let (user, trace) = (identity.user.clone(), identity.trace);
        let call = WorkerCall {
            id: Key::random(),
            method,
            params,
            user: identity.user,
            page: identity.page,
            session: identity.session,
            connection: identity.connection,
            lane: None,
            class: None,
            event: None,
            left_ms: None,
        };
        async move {
            match self.0.call(&team(), user.as_deref(), call, timeout, trace).await {
                Err(CallError::Failed(error)) => Err(error),
                Err(CallError::Deadline) => Err(HandlerError::new(ErrorCode::Timeout, "no result in time")),
                other => {
                    other.map_err(|error| HandlerError::new(ErrorCode::NoExecutor, format!("{error:?}")))
                }
            }
        }
        .boxed()
    }
}
