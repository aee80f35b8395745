//! Durable work: the record is the truth, everything else says "look at it".
//!
//! Owns: records ([`Record`]), what may happen to them ([`apply`], pure), submitting, claiming, ending, and finding
//! what was lost on the way; calls, which are work without a record. Never: what a handler does.
//!
//! A free job waits in the Queue of its team (pool and lane); any worker of the team that pulls the hint claims the
//! record by compare-and-set. A small record travels with its hint as it was offered, so that the claim needs no read
//! before it. The hint is settled when the job is over and its page has been told, so a worker that
//! dies anywhere on the way leaves a hint behind that brings another one.
//!
//! An assigned job waits as a row `open.<pool>.<lane>.<part>.<user>.<id>`. The user's own worker, the one that the row
//! `fence.<pool>.<lane>.<user>` names, runs the rows of the user one after the other, in the order of their
//! revisions. A worker becomes the user's own by compare-and-set when nobody is or the one that was is dead, and
//! stays it while it lives and has something to do for the user. Each claim of an assigned job checks the fence in the
//! same commit. Rendezvous over the living workers says who should take a new user, and who looks after each of the
//! 64 partitions: that worker finds rows that nobody was woken for. It decides who looks; the fence decides who runs.

mod affinity;
mod attempt;
mod call;
mod change;
mod expire;
mod inbox;
mod notify;
mod owner_cache;
mod queue;
mod quota;
mod reconciler;
mod record;
mod store;
mod stream;
mod submit;
#[cfg(test)]
mod tests;
mod transition;
mod wake;

pub use attempt::{Attempt, Outcome, Reporter};
pub use call::CallError;
pub use notify::JobWatch;
pub use quota::{Quota, QuotaAccount};
pub use reconciler::JobReconciler;
pub use record::{Affinity, JobState, MAX_CONTENT, Record, Waiter};
pub use store::{Jobs, Transition, TransitionFailure};
pub use stream::{IncomingCall, Work, WorkStream};
pub use submit::{Idempotency, Submission, SubmitError, Submitted};
pub use transition::{Claim, Effect, MAX_LOSSES, RecordEvent, TransitionError, apply};

use crate::clock::unix_ms;
