//! `call`: a method of an executor. The page's next frames do not wait for it.

use std::time::Duration;

use serde_json::value::RawValue;
use tracing::Instrument;

use super::{Caller, Context, Reply};
use crate::executor::{self, Mode};
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
    let call = executor::Call {
        mode: Mode::parse(frame.exec_mode.as_deref())?,
        method: frame.method,
        params: frame.params.unwrap_or_else(|| RawValue::NULL.to_owned()),
        timeout: frame.timeout_ms.map(Duration::from_millis),
        user: caller.page.user(),
        page: context.sessions.address(&caller.page),
    };
    let (executors, page) = (context.executors.clone(), caller.page.clone());
    let work = async move {
        let tail = match executors.call(call).await {
            Ok(value) => Tail::result(&id, Some(&value)),
            Err(error) => Tail::error(Some(&id), &error),
        };
        page.push(&tail);
    };
    tokio::spawn(work.in_current_span());
    Ok(Reply::Later)
}
