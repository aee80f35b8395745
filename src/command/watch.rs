//! `watch`, `unwatch`: updates of a path in a state tree of the page itself or of its session, connection or user.

use super::state::tree;
use super::{Caller, Context, Reply};
use crate::pages::PageWatch;
use crate::protocol::{CommandError, ErrorCode, FrameBody, PathRef, ResumeOutcome};

/// Starts a watch: the page receives a snapshot, then changes.
pub(super) fn watch(context: &Context, caller: &Caller, at: &PathRef) -> Result<Reply, CommandError> {
    if context.watching.follow(&caller.page, tree(caller, at.level)?, at.keys()?) {
        return Ok(Reply::Nothing);
    }
    Err(CommandError::new(ErrorCode::TooLarge, "a page watches at most 64 paths"))
}

/// Stops a watch.
pub(super) fn unwatch(context: &Context, caller: &Caller, at: &PathRef) -> Result<Reply, CommandError> {
    context.watching.unfollow(&caller.page, tree(caller, at.level)?, at.keys()?);
    Ok(Reply::Nothing)
}

/// Restores the watches of a page that was attached to a socket. A page that missed nothing continues its watches
/// without repeated updates. Any other page gets new snapshots.
pub fn restore_watches(
    context: &Context,
    caller: &Caller,
    recovered: ResumeOutcome,
    shown: Option<&[PathRef]>,
) {
    if recovered != ResumeOutcome::Recovered {
        context.watching.leave(&caller.page);
        return shown.unwrap_or_default().iter().for_each(|at| watch_or_report(context, caller, at));
    }
    if let Some(shown) = shown {
        let paths: Vec<_> = shown.iter().filter_map(|at| Some((at.level, at.keys().ok()?))).collect();
        let named = |watch: &PageWatch| {
            paths.iter().any(|(level, path)| (*level, path) == (watch.level, &watch.path))
        };
        context.watching.keep(&caller.page, named);
    }
}

/// Starts a watch that has no terminal frame of its own. If it fails, the error names the watch.
fn watch_or_report(context: &Context, caller: &Caller, at: &PathRef) {
    if let Err(CommandError { code, message }) = watch(context, caller, at) {
        let message = format!("watch of level {}, path \"{}\": {message}", at.level, at.path);
        caller.page.push(&FrameBody::error(None, &CommandError::new(code, message)));
    }
}
