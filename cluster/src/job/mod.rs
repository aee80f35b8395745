//! Durable jobs: the record in the bucket `jobs` is authoritative; every other message only points to it.
//!
//! Owns: records ([`Record`]), the events that may change them ([`apply`], pure), submitting, claiming and ending jobs,
//! and finding jobs that were lost; calls, which are work without a record. Never: the effect of a handler.
//!
//! A free job waits in the Queue of its worker group (pool and lane). Any worker of the group that pulls the work item
//! claims the record by compare-and-set. A small record travels inside its work item as it was when enqueued, so that
//! the claim needs no read before it. The work item is acknowledged after the job has ended and its page has been
//! notified. A worker that is killed before that leaves the work item behind, and the Queue delivers it to another
//! worker.
//!
//! An assigned job waits as a row `open.<pool>.<lane>.<part>.<user>.<id>`. The assigned worker of the user, named by
//! the row `fence.<pool>.<lane>.<user>`, runs the rows of the user one after the other, in the order of their
//! revisions. A worker becomes the assigned worker by compare-and-set when the user has none or when the previous one
//! is dead. It stays assigned while it is alive and has jobs of the user. Each claim of an assigned job checks the
//! fence in the same commit. Rendezvous hashing over the living workers decides which worker should take a new user and
//! which worker sweeps each of the 64 partitions; a sweep finds rows without a delivered wake-up. Rendezvous decides
//! which worker reads the rows; the fence decides which worker runs them.

mod affinity;
mod attempt;
mod call;
mod call_subscription;
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
pub use quota::Quota;
pub use reconciler::JobReconciler;
pub use record::{Affinity, JobState, MAX_CONTENT, Record, Waiter};
pub use store::{Jobs, Transition, TransitionFailure};
pub use stream::{IncomingCall, Work, WorkStream};
pub use submit::{Idempotency, Submission, SubmitError, Submitted};
pub use transition::{Claim, Effect, MAX_LOSSES, RecordEvent, TransitionError, apply};

use crate::clock::unix_ms;
