//! `job`: durable work. `accepted` confirms that the job is durable. One terminal frame follows when the job ends.

use std::sync::Arc;

use pagewire_cluster::id::Account;
use pagewire_cluster::job::Idempotency;
use pagewire_cluster::wire::{JobNotification, JobUpdate, PageJob};
use serde_json::value::RawValue;

use super::job_catch_up::deliver_stored_result;
use super::{Caller, Context, Reply};
use crate::calls;
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
    // without the page's address, no worker could send it the result
    let Some(address) = context.pages.store.address(page) else {
        return Err(CommandError::unavailable());
    };
    let (user, connection) = (page.user(), page.connection().key);
    let scope =
        user.as_deref().map_or_else(|| format!("connection {connection}"), |user| format!("user {user}"));
    let job = calls::JobRequest {
        exec_mode: calls::exec_mode(frame.exec_mode.as_deref())?,
        kind: frame.kind,
        data: frame.data.unwrap_or_else(|| RawValue::NULL.to_owned()),
        pool: frame.pool,
        user,
        connection: Some(connection),
        page: Some(address),
        session: Some(page.session().key),
        frame: Some(id.raw().to_owned()),
        run_at: frame.run_at,
        run_in: None,
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
        // the job may have ended before the page was registered as a waiter; then no worker notifies the page
        let (context, page) = (context.clone(), page.clone());
        let waits = PageJob { job: submitted.record.id, frame: id.json().to_owned() };
        tokio::spawn(async move { deliver_stored_result(&context, &page, &waits).await });
    }
    Ok(Reply::Later)
}

/// Removes a job that has ended from the open jobs of its page's account. Called for each job notification that a page
/// of this node receives.
pub fn job_over(context: &Context, note: &JobNotification) {
    if let JobUpdate::Ended(_) = note.news
        && let Some(place) = context.pages.store.find(note.page)
    {
        let account = match place.user {
            Some(user) => Account::User(user),
            None => Account::Connection(place.connection.key),
        };
        context.jobs.quotas.is_over(&account, note.job);
    }
}
