//! `job.submit` and `call`: other work that a handler asks for.
//!
//! Owns: for whom it runs, and how long a call may take. Never: where it runs (`outgoing`).

use std::time::Duration;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::ExecMode;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::members::{ForUser, Members};
use super::reply;
use crate::effects::Effects;
use crate::handlers::HandlerResult;
use crate::outgoing::{NestedCall, NestedJob, WorkIdentity};

impl ForUser {
    /// Returns the identity of work that `work` asks for.
    fn identity(self, work: &WorkIdentity) -> WorkIdentity {
        match self {
            Self::Same => work.clone(),
            Self::Other(user) => work.with_user(user),
        }
    }
}

fn argument(members: &mut Members, name: &str) -> Box<RawValue> {
    members.json(name).unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// Takes where other work runs; `None` lets the node decide.
fn exec_mode(members: &mut Members) -> Result<Option<ExecMode>, HandlerError> {
    let named: Option<String> = members.optional("exec_mode")?;
    let mode = named.as_deref().map(ExecMode::parse).transpose();
    mode.map_err(|error| HandlerError::new(ErrorCode::Malformed, error.to_string()))
}

/// `job.submit`.
pub(super) struct SubmitJob {
    kind: String,
    data: Box<RawValue>,
    user: ForUser,
    exec_mode: Option<ExecMode>,
    pool: Option<String>,
    run_in: Option<Duration>,
    retries: Option<u32>,
    idempotency_key: Option<String>,
}

impl SubmitJob {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        Ok(Self {
            kind: members.name("kind")?,
            data: argument(members, "data"),
            user: members.user()?,
            exec_mode: exec_mode(members)?,
            pool: members.optional("pool")?,
            run_in: members.millis("run_in_ms")?,
            retries: members.optional("retries")?,
            idempotency_key: members.optional("idempotency_key")?,
        })
    }

    pub(super) async fn run(self, effects: &Effects, work: &WorkIdentity) -> HandlerResult {
        let Self { kind, data, user, exec_mode, pool, run_in, retries, idempotency_key } = self;
        let identity = user.identity(work);
        let job = NestedJob { kind, data, identity, exec_mode, pool, run_in, retries, idempotency_key };
        let job = effects.outgoing()?.submit(job).await?;
        reply(&json!({ "job": job }))
    }
}

/// `call`.
pub(super) struct MakeCall {
    method: String,
    params: Box<RawValue>,
    user: ForUser,
    exec_mode: Option<ExecMode>,
    pool: Option<String>,
    timeout: Option<Duration>,
}

impl MakeCall {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        Ok(Self {
            method: members.name("method")?,
            params: argument(members, "params"),
            user: members.user()?,
            exec_mode: exec_mode(members)?,
            pool: members.optional("pool")?,
            timeout: members.millis("timeout_ms")?,
        })
    }

    pub(super) async fn run(self, effects: &Effects, work: &WorkIdentity) -> HandlerResult {
        let Self { method, params, user, exec_mode, pool, timeout } = self;
        let outgoing = effects.outgoing()?;
        let asked = timeout.unwrap_or(effects.jobs()?.timing.call);
        // no longer than the caller of this work waits
        let left = work.until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(asked, |left| left.min(asked));
        let identity = user.identity(work);
        outgoing.call(NestedCall { method, params, identity, exec_mode, pool, timeout }).await
    }
}
