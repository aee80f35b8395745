//! `cancel`: a call or job that has the frame's own id is wanted no more. Its one terminal frame says what became of
//! it; what is over, or was never there, is left alone.

use pagewire_cluster::job::TransitionFailure;

use super::{Caller, Context};
use crate::protocol::FrameId;

pub(super) async fn run(context: &Context, caller: &Caller, id: Option<&FrameId>) {
    let Some(id) = id else { return };
    let page = caller.page.key();
    if context.in_flight.cancel(page, id.json()) {
        return;
    }
    let Ok(Some(job)) = context.jobs.of_page(page, id.json()).await else { return };
    match context.jobs.cancel(job).await {
        Ok(_) | Err(TransitionFailure::Refused(..) | TransitionFailure::Gone) => {}
        Err(unchanged) => tracing::info!(%job, ?unchanged, "job not cancelled for its page"),
    }
}
