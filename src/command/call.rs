//! `call`: runs a method of an executor. Later frames of the page do not wait for it. The call continues during the
//! resume window and is dropped when the page ends.

use std::time::Duration;

use futures_util::FutureExt;
use pagewire_cluster::id::Account;
use pagewire_cluster::wire::{ResidentClass, split_method};
use serde_json::value::RawValue;
use tracing::Instrument;

use super::{Caller, Context, Reply};
use crate::calls::{self, CallRequest, ExecutorError};
use crate::pages::{Page, PushOutcome};
use crate::protocol::{CallFrame, CommandError, ErrorCode, FrameBody, FrameId};

pub(super) fn run(
    context: &Context,
    caller: &Caller,
    frame: CallFrame,
    id: Option<FrameId>,
) -> Result<Reply, CommandError> {
    let Some(id) = id else {
        return Err(CommandError::new(ErrorCode::Malformed, "a call needs an id for its result"));
    };
    let page = caller.page.clone();
    let account = page.user().map_or(Account::Connection(page.connection().key), Account::User);
    let object = class_of(&page, &frame);
    let is_for_object = object.is_some();
    let call = request(context, &page, object, frame)?;
    let (executors, store) = (context.executors.clone(), context.pages.store.clone());
    let flight = context.in_flight.begin(page.key(), account, id.json())?;
    let work = async move {
        let calling = async {
            let placed = executors.place_call(call).await;
            store.store_pins(&page);
            executors.run(placed).await
        };
        let outcome = tokio::select! {
            outcome = calling => outcome,
            () = flight.cancelled() => Err(cancelled().into()),
            // dropping the call stops its handler, on this node or at a worker
            () = page.ended() => return,
        };
        let pushed = page.push(&match outcome {
            Ok(value) => FrameBody::result(&id, Some(&value)),
            Err(ExecutorError::Refused(error)) => FrameBody::error(Some(&id), &error),
            Err(ExecutorError::Failed(failure)) => FrameBody::failure(&id, &failure),
        });
        if let PushOutcome::Forwarded(taken) = pushed {
            // the call is in flight until the node of the page has its result; an error means that it does not get it
            let _ = taken.await;
        }
    };
    let mut work = Box::pin(work.in_current_span());
    // the messages of a resident page reach its object in their order, so each one is under way before the next one
    if !is_for_object || work.as_mut().now_or_never().is_none() {
        tokio::spawn(work);
    }
    Ok(Reply::Later)
}

/// Returns the class of the page's object, if the call is for it.
fn class_of<'a>(page: &'a Page, frame: &CallFrame) -> Option<&'a ResidentClass> {
    page.resident.as_deref().filter(|resident| split_method(&frame.method).0 == resident.class)
}

fn request(
    context: &Context,
    page: &Page,
    object: Option<&ResidentClass>,
    frame: CallFrame,
) -> Result<CallRequest, CommandError> {
    let pool = object.and_then(|class| class.pool.clone());
    Ok(CallRequest {
        exec_mode: calls::exec_mode(frame.exec_mode.as_deref())?,
        method: frame.method,
        params: frame.params.unwrap_or_else(|| RawValue::NULL.to_owned()),
        pool: frame.pool.or(pool),
        timeout: frame.timeout_ms.map(Duration::from_millis),
        user: page.user(),
        connection: Some(page.connection().key),
        page: context.pages.store.address(page),
        session: Some(page.session().key),
        pins: Some(page.pins.clone()),
        class: page.resident.as_ref().map(|resident| resident.class.clone()),
        event: None,
    })
}

fn cancelled() -> CommandError {
    CommandError::new(ErrorCode::Cancelled, "the call was cancelled; its handler may have run in part")
}
