//! `watch`, `unwatch`: news of a path of a state tree of the page's own chain.

use super::state::tree;
use super::{Caller, Context, Reply};
use crate::pages::PageWatch;
use crate::protocol::{CommandError, ErrorCode, FrameBody, PathRef, ResumeOutcome};

/// From now on: a snapshot, then changes.
pub(super) fn watch(context: &Context, caller: &Caller, at: &PathRef) -> Result<Reply, CommandError> {
    if context.watching.follow(&caller.page, tree(caller, at.level)?, at.keys()?) {
        return Ok(Reply::Nothing);
    }
    Err(CommandError::new(ErrorCode::TooLarge, "a page watches at most 64 paths"))
}

/// No more.
pub(super) fn unwatch(context: &Context, caller: &Caller, at: &PathRef) -> Result<Reply, CommandError> {
    context.watching.unfollow(&caller.page, tree(caller, at.level)?, at.keys()?);
    Ok(Reply::Nothing)
}

/// What a page that came to a socket shows. One that missed nothing goes on with that and is told nothing twice; any
/// other is told anew.
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

/// A watch that has no answer of its own: when it fails, its error says which one it was.
fn watch_or_report(context: &Context, caller: &Caller, at: &PathRef) {
    if let Err(CommandError { code, message }) = watch(context, caller, at) {
        let message = format!("watch of level {}, path \"{}\": {message}", at.level, at.path);
        caller.page.push(&FrameBody::error(None, &CommandError::new(code, message)));
    }
}
