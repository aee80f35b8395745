//! Catch-up for pages that wait for jobs: delivers results of jobs that no worker could deliver, and after a reset
//! confirms the jobs that are still open.

use std::collections::HashSet;
use std::sync::Arc;

use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::Key;
use pagewire_cluster::wire::PageJob;
use serde_json::value::RawValue;

use super::Context;
use crate::pages::Page;
use crate::protocol::{CommandError, ErrorCode, FrameBody, FrameId, ResumeOutcome};

/// The most jobs that one resuming page may name.
const MAX_PENDING: usize = 256;

/// Replies for each id in a background task, so that the socket does not wait.
pub fn pending(context: &Arc<Context>, page: &Arc<Page>, recovered: ResumeOutcome, ids: Vec<FrameId>) {
    if ids.is_empty() || recovered == ResumeOutcome::New {
        return;
    }
    if recovered == ResumeOutcome::Reset && ids.len() >= MAX_PENDING {
        page.expect_more();
    }
    let (context, page) = (context.clone(), page.clone());
    tokio::spawn(async move {
        for id in ids.into_iter().take(MAX_PENDING) {
            deliver_if_ended(&context, &page, recovered, &id).await;
        }
    });
}

/// Delivers the results of jobs that ended while this node was cut off to the pages of this node that wait for them.
pub async fn catch_up(context: &Arc<Context>) {
    for page in context.pages.store.pages() {
        for waits in page.waits_for() {
            deliver_stored_result(context, &page, &waits).await;
        }
    }
}

/// The jobs that pages of this node already waited for at the previous check.
pub type Waited = HashSet<(Key, PageJob)>;

/// Looks up the jobs that pages of this node have been waiting for since the previous check, and delivers the results
/// that exist. This covers notifications that were lost. Returns the jobs that the pages wait for now.
pub async fn catch_up_on(context: &Arc<Context>, before: &Waited) -> Waited {
    let mut now = Waited::new();
    for page in context.pages.store.pages().into_iter().filter(|page| page.is_owned()) {
        for waits in page.waits_for() {
            let place = (page.key(), waits);
            if before.contains(&place) {
                deliver_stored_result(context, &page, &place.1).await;
            }
            now.insert(place);
        }
    }
    now
}

/// Delivers the result of a job that the page waits for, if the job has ended. Reads the record as soon as the engine
/// is available, because no other path may deliver this result.
pub(super) async fn deliver_stored_result(context: &Context, page: &Page, waits: &PageJob) {
    let Some(stored) = context.jobs.records.get_when_up(waits.job).await else { return };
    let frame = serde_json::from_str::<&RawValue>(&waits.frame).ok();
    if let Some(note) = frame.and_then(|frame| stored.record.ending(page.key(), frame)) {
        page.deliver_job_result(note.job, &waits.frame, &FrameBody::job(&note));
    }
}

async fn deliver_if_ended(context: &Context, page: &Page, recovered: ResumeOutcome, id: &FrameId) {
    let reset = recovered == ResumeOutcome::Reset;
    let job = loop {
        match context.jobs.of_page(page.key(), id.json()).await {
            Ok(job) => break job,
            // after a reset no other path delivers the result
            Err(Unavailable) if page.is_owned() => context.jobs.records.wait_to_retry().await,
            Err(Unavailable) => return,
        }
    };
    if let Some(job) = job.filter(|_| reset) {
        // before the record is read, so that a result that arrives right after finds the page waiting
        page.track_job(job, id.json());
    }
    let record = match job {
        Some(job) => context.jobs.records.get_when_up(job).await.map(|stored| stored.record),
        None => None,
    };
    let Some(record) = record else {
        let message = "the server has no record of this job";
        page.push(&FrameBody::error(Some(id), &CommandError::new(ErrorCode::Uncertain, message)));
        return;
    };
    match record.ending(page.key(), id.raw()) {
        Some(note) if reset => drop(page.redeliver_job_result(note.job, id.json(), &FrameBody::job(&note))),
        Some(note) => drop(page.deliver_job_result(note.job, id.json(), &FrameBody::job(&note))),
        None if reset => {
            drop(page.push_job_update(record.id, id.json(), &FrameBody::accepted(id, record.id)))
        }
        None => {}
    }
}
