//! `broadcast_session`: a message to all pages of the caller's session, including the caller.

use pagewire_cluster::id::Scope;

use super::{Caller, Context, Reply};
use crate::protocol::{BroadcastSession, CommandError};

pub(super) async fn run(
    context: &Context,
    caller: &Caller,
    frame: BroadcastSession,
) -> Result<Reply, CommandError> {
    let session = Scope::Session(caller.page.session().key);
    let from = context.sessions.address(&caller.page);
    Ok(Reply::reach(&context.deliver.send(session, frame.payload, from).await?))
}
