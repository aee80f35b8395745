//! What a page that came back still waits for: the ends of jobs that nobody could tell it, and after a reset the
//! word that a job stands.

use std::collections::HashSet;
use std::sync::Arc;

use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::Key;
use pagewire_cluster::wire::PageJob;
use serde_json::value::RawValue;

use super::Context;
use crate::pages::Page;
use crate::protocol::{CommandError, ErrorCode, FrameBody, FrameId, ResumeOutcome};

/// The most jobs that one page asks for.
const MAX_PENDING: usize = 256;

/// Answers for each id, without keeping the socket waiting.
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
            look_up(&context, &page, recovered, &id).await;
        }
    });
}

/// This node was cut off for a while: what ended meanwhile is told to those of its pages that wait for it.
pub async fn catch_up(context: &Arc<Context>) {
    for page in context.sessions.pages() {
        for waits in page.waits_for() {
            conclude(context, &page, &waits).await;
        }
    }
}

/// What this node's pages waited for already when it looked last.
pub type Waited = HashSet<(Key, PageJob)>;

/// Looks for the ends of jobs that pages of this node wait for since the last time: whatever became of the messages
/// that should have told them. What they wait for now.
pub async fn catch_up_on(context: &Arc<Context>, before: &Waited) -> Waited {
    let mut now = Waited::new();
    for page in context.sessions.pages().into_iter().filter(|page| page.is_owned()) {
        for waits in page.waits_for() {
            let place = (page.key(), waits);
            if before.contains(&place) {
                conclude(context, &page, &place.1).await;
            }
            now.insert(place);
        }
    }
    now
}

/// Tells a page the end of a job that it waits for, if there is one. The record is read as soon as the engine answers:
/// nothing else may tell the page.
pub(super) async fn conclude(context: &Context, page: &Page, waits: &PageJob) {
    let Some(stored) = context.jobs.get_when_up(waits.job).await else { return };
    let frame = serde_json::from_str::<&RawValue>(&waits.frame).ok();
    if let Some(note) = frame.and_then(|frame| stored.record.ending(page.key(), frame)) {
        page.deliver_job_result(note.job, &waits.frame, &FrameBody::job(&note));
    }
}

async fn look_up(context: &Context, page: &Page, recovered: ResumeOutcome, id: &FrameId) {
    let reset = recovered == ResumeOutcome::Reset;
    let job = loop {
        match context.jobs.of_page(page.key(), id.json()).await {
            Ok(job) => break job,
            // after a reset nothing else tells the page
            Err(Unavailable) if page.is_owned() => context.jobs.wait_to_retry().await,
            Err(Unavailable) => return,
        }
    };
    if let Some(job) = job.filter(|_| reset) {
        // before it is read, so that an end that comes right after finds the page waiting
        page.track_job(job, id.json());
    }
    let record = match job {
        Some(job) => context.jobs.get_when_up(job).await.map(|stored| stored.record),
        None => None,
    };
    let Some(record) = record else {
        let message = "the server knows nothing of this job";
        page.push(&FrameBody::error(Some(id), &CommandError::new(ErrorCode::Uncertain, message)));
        return;
    };
    match record.ending(page.key(), id.raw()) {
        Some(note) if reset => drop(page.redeliver_job_result(note.job, id.json(), &FrameBody::job(&note))),
        Some(note) => drop(page.deliver_job_result(note.job, id.json(), &FrameBody::job(&note))),
        None if reset => drop(page.confirm(record.id, id.json(), &FrameBody::accepted(id, record.id))),
        None => {}
    }
}
