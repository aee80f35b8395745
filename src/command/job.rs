//! `job`: durable work. `accepted` says that it is durable; its one terminal frame comes when it is over.

use std::sync::Arc;

use pagewire_cluster::job::{Idempotency, QuotaAccount};
use pagewire_cluster::wire::{JobNotification, JobUpdate, PageJob};
use serde_json::value::RawValue;

use super::job_catch_up::conclude;
use super::{Caller, Context, Reply};
use crate::calls::{self, Mode};
use crate::protocol::{CommandError, ErrorCode, FrameBody, FrameId, SubmitJob};

pub(super) async fn run(
    context: &Arc<Context>,
    caller: &Caller,
    frame: SubmitJob,
    id: Option<FrameId>,
) -> Result<Reply, CommandError> {
    let Some(id) = id else {
        return Err(CommandError::new(ErrorCode::Malformed, "a job needs an id for its result"));
    };
    let page = &caller.page;
    // without an address nobody could tell the page how it ends
    let Some(address) = context.sessions.address(page) else {
        return Err(CommandError::unavailable());
    };
    let (user, connection) = (page.user(), page.connection().key);
    let scope =
        user.as_deref().map_or_else(|| format!("connection {connection}"), |user| format!("user {user}"));
    let job = calls::JobRequest {
        mode: Mode::parse(frame.exec_mode.as_deref())?,
        kind: frame.kind,
        data: frame.data.unwrap_or_else(|| RawValue::NULL.to_owned()),
        pool: frame.pool,
        user,
        connection: Some(connection),
        page: Some(address),
        frame: Some(id.raw().to_owned()),
        run_at: frame.run_at,
        retries: frame.retries,
        idempotency: frame.idempotency_key.map(|key| Idempotency { scope, key }),
        rules: Some(context.job_rules),
    };
    let accepted = context.executors.submit(job, |record| {
        page.push(&FrameBody::accepted(&id, record.id));
        page.track_job(record.id, id.json());
    });
    let submitted = accepted.await?;
    if !submitted.fresh {
        // it may have ended before the page was known to wait for it, and then no worker tells the page
        let (context, page) = (context.clone(), page.clone());
        let waits = PageJob { job: submitted.record.id, frame: id.json().to_owned() };
        tokio::spawn(async move { conclude(&context, &page, &waits).await });
    }
    Ok(Reply::Later)
}

/// A page here is told that a job is over: it is not counted as open any more.
pub fn job_over(context: &Context, note: &JobNotification) {
    if let JobUpdate::Ended(_) = note.news
        && let Some(place) = context.sessions.find(note.page)
    {
        let account = match place.user {
            Some(user) => QuotaAccount::User(user.to_string()),
            None => QuotaAccount::Connection(place.connection.key),
        };
        context.jobs.is_over(&account, note.job);
    }
}
