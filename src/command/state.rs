//! `set_…_data`, `patch`, `get_data`: the state trees of the page itself and of its session, connection and user.
//! Frames of one page are processed in order without waiting for each other: a write has its position in the queue when
//! its command returns.

use pagewire_cluster::id::{Entity, Level};
use pagewire_cluster::state::{DraftWrite, Edit, Operation};
use tracing::Instrument;

use super::{Caller, Context, Reply};
use crate::auth::Role;
use crate::pages::owner;
use crate::protocol::{CommandError, ErrorCode, FrameBody, FrameId, PatchFrame, PathRef, SetData};

/// Sets the value at a path.
pub(super) fn set(
    context: &Context,
    caller: &Caller,
    level: Level,
    frame: SetData,
    id: Option<FrameId>,
) -> Result<Reply, CommandError> {
    let edit = Edit { path: frame.path.parse()?, value: frame.value };
    write(context, caller, level, vec![edit], frame.if_revision, id)
}

/// Applies several changes atomically.
pub(super) fn patch(
    context: &Context,
    caller: &Caller,
    frame: PatchFrame,
    id: Option<FrameId>,
) -> Result<Reply, CommandError> {
    write(context, caller, frame.level, frame.changes, frame.if_revision, id)
}

/// Reads the value at a path.
pub(super) async fn get(context: &Context, caller: &Caller, frame: &PathRef) -> Result<Reply, CommandError> {
    let reading = context.states.get(&tree(caller, frame.level)?, &frame.locator()?).await?;
    let mut value = serde_json::json!({"revision": reading.revision});
    if let Some(read) = reading.value {
        value["value"] = read;
    }
    Ok(Reply::value(&value))
}

fn write(
    context: &Context,
    caller: &Caller,
    level: Level,
    edits: Vec<Edit>,
    if_revision: Option<u64>,
    id: Option<FrameId>,
) -> Result<Reply, CommandError> {
    if !context.writable.contains(&level) && !caller.roles.has(Role::Push) {
        let message = format!("a page may not write at the level {level} here; it needs the role push");
        return Err(CommandError::new(ErrorCode::Forbidden, message));
    }
    let from = context.pages.store.address(&caller.page);
    let operation = match caller.page.user() {
        Some(_) => Operation::Edit(edits),
        None => Operation::EditWithin(edits, context.anonymous_tree),
    };
    let write = DraftWrite { operation, if_revision, from, fence: None };
    let written = context.write(&tree(caller, level)?, write);
    let page = caller.page.clone();
    let reply = async move {
        match (written.await, id) {
            (Ok(revision), Some(id)) => {
                let Reply::Value(value) = Reply::value(&serde_json::json!({"revision": revision})) else {
                    return;
                };
                page.push(&FrameBody::result(&id, Some(&value)));
            }
            (Ok(_), None) => {}
            (Err(error), id) => {
                page.push(&FrameBody::error(id.as_ref(), &error));
            }
        }
    };
    tokio::spawn(reply.in_current_span());
    Ok(Reply::Later)
}

/// The tree of the caller's own page, session, connection or user, by level.
///
/// # Errors
///
/// [`ErrorCode::Forbidden`] for the user level of an anonymous page.
pub(super) fn tree(caller: &Caller, level: Level) -> Result<Entity, CommandError> {
    owner(caller.page.key(), &caller.page.place(), level).ok_or_else(|| {
        let message = "an anonymous page has no user, so there is no user tree";
        CommandError::new(ErrorCode::Forbidden, message)
    })
}
