//! Maps a frame to its command, and the reply of the command to the terminal frame.

use std::sync::Arc;

use super::{
    Caller, Context, Reply, auth, broadcast_session, call, cancel, job, rollout, send, state, topic, watch,
};
use crate::auth::Verified;
use crate::protocol::{ClientFrame, Close, CommandError, FrameBody, FrameId, InvalidFrame, pong};

/// The action of the socket after a frame.
#[derive(Debug)]
pub enum SocketEffect {
    /// Continues.
    Continue,
    /// Continues with this identity.
    Authenticated(Verified),
    /// Closes.
    Close(Close),
}

/// Runs the command of one frame of a page. The reply is in the page's outbox when this returns, except for work that
/// continues in the background: its result is pushed later. The socket handles `ack` itself, so `ack` never reaches
/// this function.
pub async fn dispatch(
    context: &Arc<Context>,
    caller: &Caller,
    frame: ClientFrame,
    id: Option<FrameId>,
) -> SocketEffect {
    let reply = match frame {
        ClientFrame::Send(frame) => send::run(context, caller, frame).await,
        ClientFrame::BroadcastSession(frame) => broadcast_session::run(context, caller, frame).await,
        ClientFrame::Call(frame) => call::run(context, caller, frame, id.clone()),
        ClientFrame::Job(frame) => job::run(context, caller, frame, id.clone()).await,
        ClientFrame::Cancel => {
            cancel::run(context, caller, id.as_ref()).await;
            return SocketEffect::Continue;
        }
        ClientFrame::Set(level, frame) => state::set(context, caller, level, frame, id.clone()),
        ClientFrame::Patch(frame) => state::patch(context, caller, frame, id.clone()),
        ClientFrame::GetData(at) => state::get(context, caller, &at).await,
        ClientFrame::Watch(at) => watch::watch(context, caller, &at),
        ClientFrame::Unwatch(at) => watch::unwatch(context, caller, &at),
        ClientFrame::Subscribe(frame) => topic::subscribe(context, caller, frame).await,
        ClientFrame::Unsubscribe(frame) => topic::unsubscribe(context, caller, frame).await,
        ClientFrame::Rollout(frame) => rollout::run(context, caller, &frame).await,
        ClientFrame::Auth(frame) => match auth::run(context, caller, &frame).await {
            Ok(reply) => reply,
            Err(close) => return SocketEffect::Close(close),
        },
        ClientFrame::Ping => {
            caller.page.push_unsequenced(pong());
            return SocketEffect::Continue;
        }
        ClientFrame::Ack(_) => return SocketEffect::Continue,
    };
    finish(caller, id.as_ref(), reply)
}

/// Pushes the error of a frame that could not be parsed.
pub fn refuse(caller: &Caller, invalid: &InvalidFrame) {
    caller.page.push(&FrameBody::error(invalid.id.as_ref(), &invalid.error));
}

fn finish(caller: &Caller, id: Option<&FrameId>, reply: Result<Reply, CommandError>) -> SocketEffect {
    match reply {
        Ok(Reply::Value(value)) => {
            if let Some(id) = id {
                caller.page.push(&FrameBody::result(id, Some(&value)));
            }
        }
        Ok(Reply::Nothing) => {
            if let Some(id) = id {
                caller.page.push(&FrameBody::result(id, None));
            }
        }
        Ok(Reply::Later) => {}
        Ok(Reply::Authenticated(verified)) => {
            if let Some(id) = id {
                caller.page.push(&FrameBody::result(id, None));
            }
            return SocketEffect::Authenticated(verified);
        }
        Err(error) => {
            caller.page.push(&FrameBody::error(id, &error));
        }
    }
    SocketEffect::Continue
}
