//! Work that handlers ask for: jobs that they submit and calls that they make.
//!
//! Owns: what such a request contains, and for whom the asking work runs. Never: which workers get it; the process that
//! runs the worker decides that, as for the requests of pages.

use std::time::Duration;

use futures_util::future::BoxFuture;
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::ExecMode;
use serde_json::value::RawValue;
use tokio::time::Instant;

/// For whom a piece of work runs, and what travels with what it asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkIdentity {
    /// User for whom the work runs.
    pub user: Option<String>,
    /// Page that asked for the work.
    pub page: Option<Address>,
    /// Session of that page.
    pub session: Option<Key>,
    /// Connection of that page.
    pub connection: Option<Key>,
    /// When the time of the work is over; `None` without a limit.
    pub until: Option<Instant>,
    /// Trace context of the work.
    pub trace: Option<TraceParent>,
}

impl WorkIdentity {
    /// Returns the identity of work for `user` that this work asks for. A page belongs to its user: the work of another
    /// user does not run for the page.
    #[must_use]
    pub fn with_user(&self, user: Option<String>) -> Self {
        let Self { until, trace, .. } = self.clone();
        if user == self.user { self.clone() } else { Self { user, until, trace, ..Self::default() } }
    }
}

/// A durable job that a handler submits.
#[derive(Debug)]
pub struct NestedJob {
    /// Name of the handler.
    pub kind: String,
    /// Argument of the handler.
    pub data: Box<RawValue>,
    /// For whom the job runs. It has no page: the page that asked for the submitting work does not wait for the job.
    pub identity: WorkIdentity,
    /// Where it runs; `None` lets the node decide.
    pub exec_mode: Option<ExecMode>,
    /// Pool of workers; `None` for the default pool.
    pub pool: Option<String>,
    /// How long it is put off; `None` to run it at once.
    pub run_in: Option<Duration>,
    /// How often it may run again after a failure.
    pub retries: Option<u32>,
    /// Idempotency key; all handlers share their keys.
    pub idempotency_key: Option<String>,
}

/// A call that a handler makes.
#[derive(Debug)]
pub struct NestedCall {
    /// Name of the handler.
    pub method: String,
    /// Argument of the handler.
    pub params: Box<RawValue>,
    /// For whom the call runs.
    pub identity: WorkIdentity,
    /// Where it runs; `None` lets the node decide.
    pub exec_mode: Option<ExecMode>,
    /// Pool of workers; `None` for the default pool.
    pub pool: Option<String>,
    /// Time limit of the call: it is within the time of the calling work.
    pub timeout: Duration,
}

/// Submits the jobs and makes the calls of handlers.
///
/// A call runs on a worker with a free slot, which may be that of the caller; the caller keeps its own slot meanwhile. If
/// all slots are taken by callers that wait for each other, or a serial handler calls itself, these calls end with
/// `rate_limited` or `timeout`. None waits without a limit.
pub trait WorkSubmitter: Send + Sync + 'static {
    /// Makes a job durable and returns its id.
    ///
    /// # Errors
    ///
    /// Those of a job that a program submits.
    fn submit(&self, job: NestedJob) -> BoxFuture<'_, Result<Key, HandlerError>>;

    /// Makes a call and returns the result of its handler.
    ///
    /// # Errors
    ///
    /// The error of the handler, or those of a call that a program makes.
    fn call(&self, call: NestedCall) -> BoxFuture<'_, Result<Box<RawValue>, HandlerError>>;
}
