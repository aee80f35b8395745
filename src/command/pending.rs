//! What a page that came back still waits for: the ends of jobs that nobody could tell it, and after a reset the
//! word that a job stands.

use std::sync::Arc;

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
            None if reset => drop(page.push(&Tail::accepted(id, record.id))),
            None => {}
        },
    }
}
