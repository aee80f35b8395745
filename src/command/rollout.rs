//! `rollout`: a page chooses the lane of its user in a pool, where the rollout allows it.

use pagewire_cluster::rollout::{ChoiceError, RoutingKey, is_name};
use serde_json::json;

use super::{Caller, Context, Reply};
use crate::calls::DEFAULT_POOL;
use crate::protocol::{ChooseLane, CommandError, ErrorCode};

/// Writes the choice for the user of the page, or for its connection if it is anonymous. The result is the lane that follows, which
/// may be another one: an operator's choice for the user comes first.
pub(super) async fn run(
    context: &Context,
    caller: &Caller,
    frame: &ChooseLane,
) -> Result<Reply, CommandError> {
    let pool = frame.pool.as_deref().unwrap_or(DEFAULT_POOL);
    if !is_name(pool) {
        return Err(CommandError::new(ErrorCode::Malformed, "this is not a valid name of a pool"));
    }
    let user = caller.page.user();
    let unit = RoutingKey::of(user.as_deref(), Some(caller.page.connection().key));
    let rollouts = &context.rollouts;
    rollouts.enrolments().choose(pool, unit, frame.lane.as_deref()).await.map_err(refused)?;
    // the calls of this page follow the choice too; other pages of the user keep what they have
    caller.page.pins.unpin(pool);
    context.pages.store.store_pins(&caller.page);
    let assigned = rollouts.explain(pool, unit, |lane| context.workers.serve(pool, lane));
    Ok(Reply::value(&json!({"lane": assigned.lane, "reason": assigned.reason.text()})))
}

fn refused(error: ChoiceError) -> CommandError {
    let code = match error {
        ChoiceError::Closed => ErrorCode::Forbidden,
        ChoiceError::UnknownLane => ErrorCode::Unknown,
        ChoiceError::Full => ErrorCode::RateLimited,
        ChoiceError::Unavailable => return CommandError::unavailable(),
    };
    CommandError::new(code, error.to_string())
}
