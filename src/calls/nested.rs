//! The jobs and calls of handlers.
//!
//! Owns: how they become requests like those of a program. Never: whether the work that asks still stands
//! (`pagewire_worker::effects`).

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::Idempotency;
use pagewire_cluster::wire::{HandlerError, split_method};
use pagewire_worker::outgoing::{NestedCall, NestedJob, WorkIdentity, WorkSubmitter};
use serde_json::value::RawValue;
use tracing::field::Empty;
use tracing::{Instrument, info_span};

use super::{CallRequest, ExecutorError, Executors, JobRequest};
use crate::protocol::CommandError;
use crate::telemetry::child_of;

/// Scope of idempotency keys. All handlers share it; the keys of pages and programs are separate.
const SCOPE: &str = "work";

fn job_request(job: NestedJob) -> Result<JobRequest, CommandError> {
    let NestedJob { kind, data, identity, exec_mode, pool, run_in, retries, idempotency_key } = job;
    let scope = SCOPE.to_owned();
    Ok(JobRequest {
        exec_mode,
        kind,
        data,
        pool,
        user: identity.user.map(Into::into),
        // selects the lane; the page does not wait for the job
        connection: identity.connection,
        page: None,
        session: None,
        frame: None,
        run_at: None,
        run_in,
        retries,
        idempotency: idempotency_key.map(|key| Idempotency { scope, key }),
        rules: None,
    })
}

fn call_request(call: NestedCall) -> Result<CallRequest, CommandError> {
    let NestedCall { method, params, identity, exec_mode, pool, timeout } = call;
    let WorkIdentity { user, page, session, connection, .. } = identity;
    let class = page.map(|_| split_method(&method).0.to_owned());
    Ok(CallRequest {
        exec_mode,
        method,
        params,
        pool,
        timeout: Some(timeout),
        user: user.map(Into::into),
        connection,
        page,
        session,
        pins: None,
        // a handler is a part of the server: it may call the object of the page for which it works
        class,
        event: None,
    })
}

/// Submits the jobs and makes the calls of the handlers of a worker, as executors do it for programs.
pub struct NestedExecutors(pub Executors);

impl WorkSubmitter for NestedExecutors {
    fn submit(&self, job: NestedJob) -> BoxFuture<'_, Result<Key, HandlerError>> {
        let span = info_span!("nested job", kind = job.kind, trace = Empty);
        let span = child_of(span, job.identity.trace.as_ref());
        let submitting = async move {
            let job = job_request(job)?;
            let submitted = self.0.submit(job, |_| {}).await?;
            Ok(submitted.record.id)
        };
        submitting.instrument(span).boxed()
    }

    fn call(&self, call: NestedCall) -> BoxFuture<'_, Result<Box<RawValue>, HandlerError>> {
        let span = info_span!("nested call", method = call.method, trace = Empty);
        let span = child_of(span, call.identity.trace.as_ref());
        let calling = async move {
            let call = call_request(call)?;
            self.0.call(call).await.map_err(|error| match error {
                ExecutorError::Failed(failure) => failure,
                ExecutorError::Refused(error) => error.into(),
            })
        };
        calling.instrument(span).boxed()
    }
}
