//! What a page that came back still waits for: the ends of jobs that nobody could tell it, and after a reset the
//! word that a job stands.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::Context;
use crate::protocol::{CommandError, ErrorCode, FrameId, Recovered, Tail};
use crate::session::Page;

/// The most jobs that one page asks for.
const MOST: usize = 256;

/// Answers for each id, without keeping the socket waiting.
pub fn pending(context: &Arc<Context>, page: &Arc<Page>, recovered: Recovered, ids: Vec<FrameId>) {
    if ids.is_empty() || recovered == Recovered::New {
        return;
    }
    let (context, page) = (context.clone(), page.clone());
    tokio::spawn(async move {
        for id in ids.into_iter().take(MOST) {
            look_up(&context, &page, recovered, &id).await;
        }
    });
}

/// This node was cut off for a while: what ended meanwhile is told to those of its pages that wait for it.
pub async fn catch_up(context: &Arc<Context>) {
    for page in context.sessions.pages() {
        for waits in page.waits_for() {
            let Ok(Some(stored)) = context.jobs.get(waits.job).await else { continue };
            let frame = serde_json::from_str::<&RawValue>(&waits.frame).ok();
            if let Some(note) = frame.and_then(|frame| stored.record.ending(page.key(), frame)) {
                page.conclude(note.job, &waits.frame, &Tail::job(&note));
            }
        }
    }
}

async fn look_up(context: &Context, page: &Page, recovered: Recovered, id: &FrameId) {
    let jobs = &context.jobs;
    let reset = recovered == Recovered::Reset;
    let record = match jobs.of_page(page.key(), id.json()).await {
        Ok(Some(job)) => jobs.get(job).await.map(|stored| stored.map(|stored| stored.record)),
        other => other.map(|_| None),
    };
    match record {
        // the page asks again when it comes back again
        Err(_) => tracing::info!(page = %page.key(), "a page's jobs cannot be looked up now"),
        Ok(None) => {
            let message = "the server knows nothing of this job";
            page.push(&Tail::error(Some(id), &CommandError::new(ErrorCode::Uncertain, message)));
        }
        Ok(Some(record)) => match record.ending(page.key(), id.raw()) {
            Some(note) if reset => drop(page.remind(note.job, id.json(), &Tail::job(&note))),
            Some(note) => drop(page.conclude(note.job, id.json(), &Tail::job(&note))),
            None if reset => {
                page.expect(record.id, id.json());
                page.push(&Tail::accepted(id, record.id));
            }
            None => {}
        },
    }
}
