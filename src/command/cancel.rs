//! `cancel`: cancels the call or job that has the id of the frame. The terminal frame of that call or job reports the
//! outcome. The command has no effect on a call or job that has ended or never existed.

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
