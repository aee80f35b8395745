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
//! A free job of a program that may start at once is first offered to one worker of its group. An idle worker creates the
//! record as running, and then there is no work item: if the worker dies, the reconciler enqueues the job.
//!
//! An assigned job waits as a row `open.<pool>.<partition>.<user>.<id>`, which names no lane. Each worker of the pool has
//! the rows of its partitions in memory, fed by one watch, and starts jobs from there. The turn row
//! `turn.<pool>.<partition>.<user>` names the owner of the user and the one attempt that may run. The owner runs the jobs
//! of the user one after the other, in the order of their rows; a job that waits for a time or for its next try stands
//! aside. The rollout of the pool decides the lane of a user, and rendezvous hashing over the workers of that lane decides
//! which of them owns a partition. A worker becomes the owner of a user by compare-and-set when the user has none, when
//! the previous one is dead, or when the previous one has released the user: it ends its job and then releases a user who
//! is assigned to another worker by now. A claim is two single writes: the turn row, then the record at the revision that
//! was read before, once. A worker that finds a turn row with another attempt settles that attempt by a write before it
//! names its own, so that at most one job of a user runs. A retry by an operator gives a job a new row, which the process
//! that has ended the job before does not delete.

mod call;
mod change;
mod dispatch;
mod effects;
mod expire;
mod idle_offer;
mod lanes;
mod notify;
mod obstacle;
mod open_row;
mod open_rows;
mod owner_cache;
mod parts;
mod quarantine;
mod quota;
mod quota_count;
mod quota_writer;
mod reconciler;
mod record;
mod records;
mod retention;
mod stored;
mod submit;
mod summary;
mod tracked_jobs;
mod transition;
mod turn;
mod turn_cleanup;
mod waiting;
mod wake;
mod work_route;

pub use call::{CallError, CallMembers, DirectRoute, DirectRoutes, OutgoingCall};
pub use change::Change;
pub use dispatch::JobDispatcher;
pub use effects::ChangeEffects;
pub use lanes::{group_of_user, lane_move};
pub use notify::{JobNews, JobNotifier, JobWatch};
pub use obstacle::{Obstacle, WaitingWorkView, obstacle};
pub use open_row::OpenJobRow;
pub use open_rows::OpenRows;
pub use owner_cache::OwnerCache;
pub use parts::Jobs;
pub use quarantine::{ExecutorDeath, KindEvent, MAX_DEATHS, MAX_LOG, Quarantine, Quarantines, SuspectedKind};
pub use quota::{Quota, Quotas};
pub use reconciler::JobReconciler;
pub use record::{JobState, MAX_CONTENT, Record, Waiter};
pub use records::JobRecords;
pub use retention::Retention;
pub use stored::{StoredJob, Transition, TransitionFailure};
pub use submit::{Idempotency, Submission, SubmitError, Submitted};
pub use summary::RecordSummary;
pub use transition::{Claim, Claimant, Effect, MAX_LOSSES, RecordEvent, TransitionError, apply};
pub use turn::{NamedAttempt, TurnRow};
pub use turn_cleanup::delete_turn_if_over;
pub use waiting::{WaitingJobs, WaitingJobsList};
pub use work_route::{Priority, PulledRoute, lane_routes};

pub use crate::worker::Affinity;
