//! `call`: a method of an executor. The page's next frames do not wait for it. It ends with the page at the latest: in
//! the resume window it goes on.

use std::time::Duration;

use serde_json::value::RawValue;
use tracing::Instrument;

use super::in_flight::Account;
use super::{Caller, Context, Reply};
use crate::executor::{self, CallError, Mode};
use crate::protocol::{Call, CommandError, ErrorCode, FrameId, Tail};

pub(super) fn run(
    context: &Context,
    caller: &Caller,
    frame: Call,
    id: Option<FrameId>,
) -> Result<Reply, CommandError> {
    let Some(id) = id else {
        return Err(CommandError::new(ErrorCode::Malformed, "a call needs an id for its result"));
    };
    let page = caller.page.clone();
    let (user, connection) = (page.user(), page.connection().key);
    let account = user.clone().map_or(Account::Connection(connection), Account::User);
    let call = executor::Call {
        mode: Mode::parse(frame.exec_mode.as_deref())?,
        method: frame.method,
        params: frame.params.unwrap_or_else(|| RawValue::NULL.to_owned()),
        pool: frame.pool,
        timeout: frame.timeout_ms.map(Duration::from_millis),
        user,
        connection: Some(connection),
        page: context.sessions.address(&page),
    };
    let executors = context.executors.clone();
    let flight = context.in_flight.begin(page.key(), account, id.json())?;
    let work = async move {
        let outcome = tokio::select! {
            outcome = executors.call(call) => outcome,
            () = flight.cancelled() => Err(cancelled().into()),
            // dropping the call stops its handler, here or at a worker
            () = page.ended() => return,
        };
        page.push(&match outcome {
            Ok(value) => Tail::result(&id, Some(&value)),
            Err(CallError::Refused(error)) => Tail::error(Some(&id), &error),
            Err(CallError::Failed(failure)) => Tail::failure(&id, &failure),
        });
    };
    tokio::spawn(work.in_current_span());
    Ok(Reply::Later)
}

fn cancelled() -> CommandError {
    CommandError::new(ErrorCode::Cancelled, "the call was taken back; its handler may have done some of it")
}
