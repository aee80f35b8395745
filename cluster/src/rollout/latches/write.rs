//! The revision that a latch becomes.
//!
//! Owns: how an abort is written to the document of its pool, of many processes by one. Never: latches of processes (`latch`).

use std::time::Duration;

use tokio::time::sleep;

use super::super::Rollouts;
use super::super::change::ChangeError;
use super::super::latch::ClosedLanes;
use super::super::plan::RolloutStep;
use super::super::spec::{RolloutSpec, RolloutUpdate};
use super::super::waiting::is_open;
use crate::wire::AbortLatch;

/// What an attempt to write an abort has found.
#[derive(Debug, Clone, PartialEq)]
pub enum AbortWrite {
    /// The document contains the abort, by this process or by another one.
    Written(Box<RolloutSpec>),
    /// Another change was first, and the lane is open in it.
    Passed(Box<RolloutSpec>),
}

/// Writes the aborts that this process has applied.
#[derive(Clone)]
pub(super) struct AbortWriter {
    rollouts: Rollouts,
}

impl AbortWriter {
    pub(super) fn new(rollouts: &Rollouts) -> Self {
        Self { rollouts: rollouts.clone() }
    }

    /// Tries to write the latches that this process holds, again and again. The process that announced one is first.
    pub(super) async fn write_held(&self, repeat: Duration) {
        loop {
            // at another time than the other nodes, so that most of them find it written
            sleep(repeat + repeat.mul_f64(rand::random())).await;
            let mut latches = self.rollouts.latches();
            // another one first each time, so that one that cannot be written does not hold up the others
            let first = rand::random_range(0..=latches.len());
            latches.rotate_left(first);
            for latch in latches {
                if !self.rollouts.latches().contains(&latch) {
                    continue;
                }
                let AbortLatch { pool, lane, revision, .. } = &latch;
                match self.write(&latch, false).await {
                    Ok(AbortWrite::Written(document)) => {
                        tracing::info!(pool, lane, revision = document.rev, "the abort is written");
                    }
                    Ok(AbortWrite::Passed(document)) => {
                        let (later, by) = (document.rev, &document.updated_by);
                        tracing::warn!(pool, lane, revision, later, by, "another change has ended the abort");
                    }
                    Err(error) => {
                        tracing::debug!(pool, lane, %error, "the abort is not written yet");
                        // most likely the others would fail as well
                        break;
                    }
                }
            }
        }
    }

    /// Writes an abort to the document, unless it is there. When another change was first, an abort that `insists` is
    /// written to the result; another one is given up, because its author has not seen that change.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], but no conflict.
    pub(super) async fn write(&self, latch: &AbortLatch, insists: bool) -> Result<AbortWrite, ChangeError> {
        loop {
            let document = self.rollouts.document(&latch.pool).await?;
            let is_meant = document.origin == latch.origin;
            if is_meant
                && document.rev > latch.revision
                && !is_open(&document, &ClosedLanes::new(), &latch.lane)
            {
                return Ok(AbortWrite::Written(document.into()));
            }
            if !is_meant || (document.rev > latch.revision && !insists) {
                return Ok(AbortWrite::Passed(document.into()));
            }
            let step = Some(RolloutStep::Abort { lane: Some(latch.lane.clone()) });
            let wanted = RolloutUpdate { step, comment: latch.comment.clone(), ..RolloutUpdate::default() };
            match self.rollouts.change(&latch.pool, Some(document.rev), wanted, &latch.by).await {
                Ok(changed) => return Ok(AbortWrite::Written(changed.document.into())),
                Err(ChangeError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
