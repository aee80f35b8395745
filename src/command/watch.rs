//! `watch`, `unwatch`: news of a path of a state tree of the page's own chain.

use super::state::tree;
use super::{Caller, Context, Reply};
use crate::protocol::{At, CommandError, ErrorCode, Recovered, Tail};

/// From now on: a snapshot, then changes.
pub(super) fn watch(context: &Context, caller: &Caller, at: &At) -> Result<Reply, CommandError> {
    if context.watching.follow(&caller.page, tree(caller, at.level)?, at.keys()?) {
        return Ok(Reply::Nothing);
    }
    Err(CommandError::new(ErrorCode::TooLarge, "a page watches at most 64 paths"))
}

/// No more.
pub(super) fn unwatch(context: &Context, caller: &Caller, at: &At) -> Result<Reply, CommandError> {
    context.watching.unfollow(&caller.page, tree(caller, at.level)?, at.keys()?);
    Ok(Reply::Nothing)
}

/// What a page that came to a socket shows: unless it missed nothing, it is told anew, and only of that.
pub fn rewatch(context: &Context, caller: &Caller, recovered: Recovered, shown: &[At]) {
    if recovered == Recovered::Recovered {
        return;
    }
    context.watching.leave(&caller.page);
    for at in shown {
        if let Err(error) = watch(context, caller, at) {
            caller.page.push(&Tail::error(None, &error));
        }
    }
}
