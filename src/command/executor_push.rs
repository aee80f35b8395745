//! A message of an executor for pages.
//!
//! Owns: refusing the message of a worker that is dead or was replaced. Never: which pages get it (`pages`).

use std::sync::Arc;

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::Scope;
use pagewire_cluster::wire::{ExecutorMessage, ExecutorPush, HandlerError};
use pagewire_cluster::worker::WorkerId;

use super::Context;

/// Delivers a message of an executor. The worker has checked its lease before it sent the message, but may have been
/// paused since.
pub async fn push_of_executor(context: Arc<Context>, message: ExecutorMessage) -> ExecutorPush {
    let ExecutorMessage { to, payload, worker, epoch, is_notice } = message;
    let refused = |code, message: &str| ExecutorPush::Refused(HandlerError::new(code, message));
    let alive = context.workers.is_alive(WorkerId { id: worker, epoch }).await;
    let sent = async {
        match to {
            Scope::Page(page) if is_notice => context.deliver.tell(page, payload).await,
            to => context.deliver.send(to, payload, None).await,
        }
    };
    match alive {
        Ok(true) => match sent.await {
            Ok(report) => ExecutorPush::Delivered(report.reach),
            Err(error) => ExecutorPush::Refused(error.into()),
        },
        Ok(false) => {
            tracing::info!(%worker, "the message of a worker without a lease is refused");
            refused(ErrorCode::Stale, "the worker that sent this is dead or was replaced")
        }
        Err(Unavailable) => refused(ErrorCode::Unavailable, "no connection to the cluster"),
    }
}
