//! Chooses where a call runs and which workers run a job.
//!
//! Owns: the choice of an executor ([`placement`]), and the limits of a call. Never: the worker side (`pagewire_worker`), pages or sockets; executors and pages do not know each other.

mod nested;
mod placement;
mod pools;
mod retry;
mod submit;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::job::{self, Affinity, Jobs, Quarantines, WaitingWorkView, obstacle};
use pagewire_cluster::rollout::{LaneAssignment, Rollouts, RoutingKey};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{HandlerError, WorkerCall};
use pagewire_cluster::worker::{WorkerGroup, Workers};
use pagewire_worker::handlers::{HandlerInput, Handlers, RunFailure, call_snoozed};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

pub use nested::NestedExecutors;
pub use placement::DEFAULT_POOL;
pub use retry::RetryError;
pub use submit::{JobRequest, PageRules};

use self::placement::{Placement, PlacementInput, no_executor, place};
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry::{self, Metrics, executor_name};

/// The most inline calls of a node at the same time. Further calls are rejected at once.
const INLINE_CALLS: usize = 1024;
/// The longest timeout that a caller may request.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// Where a caller wants its work to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Decided by the node.
    #[default]
    Default,
    /// In the node.
    Inline,
    /// On any free worker.
    Any,
    /// On the worker assigned to the user.
    Assigned,
}

impl Mode {
    /// Parses `exec_mode`; `None` means that the node decides.
    ///
    /// # Errors
    /// `malformed` for a text that is not a mode.
    pub fn parse(text: Option<&str>) -> Result<Self, CommandError> {
        match text {
            None => Ok(Self::Default),
            Some("inline") => Ok(Self::Inline),
            Some("any") => Ok(Self::Any),
            Some("assigned") => Ok(Self::Assigned),
            Some(_) => Err(CommandError::new(ErrorCode::Malformed, "exec_mode is inline, any or assigned")),
        }
    }
}

/// A call.
#[derive(Debug)]
pub struct CallRequest {
    /// The handler's name.
    pub method: String,
    /// Its argument.
    pub params: Box<RawValue>,
    /// Where it runs.
    pub mode: Mode,
    /// The pool of workers; the default pool if `None`.
    pub pool: Option<String>,
    /// The caller's timeout; the server's if `None`.
    pub timeout: Option<Duration>,
    /// The user on whose behalf it runs.
    pub user: Option<Arc<str>>,
    /// The caller's connection: selects the lane when there is no user.
    pub connection: Option<Key>,
    /// The page that made the call.
    pub page: Option<Address>,
    /// That page's session.
    pub session: Option<Key>,
}

/// The reason why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorError {
    /// The call was rejected or did not finish.
    Refused(CommandError),
    /// The handler returned an error with its own code.
    Failed(HandlerError),
}

impl From<CommandError> for ExecutorError {
    fn from(error: CommandError) -> Self {
        Self::Refused(error)
    }
}

/// One kind of executor, as listed by `GET /executors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorInfo {
    /// `inline`, `remote_free` or `remote_assigned`.
    pub name: &'static str,
    /// The handlers that it serves.
    pub methods: Vec<String>,
    /// Calls of this node that it runs now, for executors inside this node.
    pub running: Option<usize>,
    /// The number of live workers, for executors that are workers.
    pub workers: Option<usize>,
}

/// All executors of this node. Cheap to clone.
#[derive(Clone)]
pub struct Executors {
    handlers: Handlers,
    inline: Arc<Semaphore>,
    alone: bool,
    jobs: Jobs,
    workers: Workers,
    rollouts: Rollouts,
    timing: Timing,
    metrics: Arc<Metrics>,
}

impl Executors {
    /// Creates the executors that this node can use: its own `handlers` and the workers of its cluster. `alone` means
    /// that this process is the only worker.
    pub fn new(
        handlers: Handlers,
        alone: bool,
        jobs: Jobs,
        workers: Workers,
        rollouts: Rollouts,
        timing: Timing,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            handlers,
            inline: Arc::new(Semaphore::new(INLINE_CALLS)),
            alone,
            jobs,
            workers,
            rollouts,
            timing,
            metrics,
        }
    }

    /// Runs a call at most once and returns the handler's result or the reason why there is none. Dropping the future
    /// stops the handler.
    ///
    /// # Errors
    /// [`ExecutorError::Failed`] with the handler's error. [`ExecutorError::Refused`] with
    /// - `malformed` for an invalid pool name, or for mode `assigned` without a user,
    /// - `no_executor` if no executor has the handler, or the lane has no live worker for it,
    /// - `rate_limited` if the node or the workers are busy,
    /// - `too_large` if the call does not fit into a message to a worker,
    /// - `worker_lost` if the executor died while it ran the call,
    /// - `timeout` if there is no result in time,
    /// - `unavailable` without a connection to the cluster.
    pub async fn call(&self, call: CallRequest) -> Result<Box<RawValue>, ExecutorError> {
        let started = Instant::now();
        let known = self.handlers.has(&call.method);
        let kind = self.handlers.label(&call.method).to_owned();
        let within = call.timeout.unwrap_or(self.timing.call).min(MAX_TIMEOUT);
        let (exec, outcome) = match self.place(&call, known) {
            Err(error) => ("none", Err(error.into())),
            Ok(Placement::Inline) => ("inline", self.inline(call, within).await),
            Ok(Placement::Workers(affinity)) => {
                (executor_name(affinity), self.remote(call, affinity, within).await)
            }
        };
        // the handler's own error codes must not become metric labels either
        let text = match &outcome {
            Ok(_) => "ok",
            Err(ExecutorError::Failed(_)) => ErrorCode::Failed.text(),
            Err(ExecutorError::Refused(error)) => error.code.text(),
        };
        self.metrics.record_call(kind, exec, text, started.elapsed());
        outcome
    }

    fn place(&self, call: &CallRequest, inline: bool) -> Result<Placement, CommandError> {
        let pool = submit::pool(call.pool.as_deref())?;
        let workers = self.workers.roster().pool_serves(pool, &call.method);
        let inline = inline && pool == DEFAULT_POOL;
        place(call.mode, PlacementInput { user: call.user.is_some(), workers, alone: self.alone, inline })
    }

    async fn inline(&self, call: CallRequest, within: Duration) -> Result<Box<RawValue>, ExecutorError> {
        let Ok(_permit) = self.inline.try_acquire() else {
            return Err(CommandError::new(ErrorCode::RateLimited, "too many calls at the same time").into());
        };
        let input = HandlerInput {
            user: call.user.as_deref().map(str::to_owned),
            page: call.page,
            session: call.session,
            connection: call.connection,
            within: Some(within),
            trace: telemetry::current_trace().map(|trace| trace.as_str().to_owned()),
            ..HandlerInput::call(call.params)
        };
        let run = self.handlers.run(&call.method, input);
        match tokio::time::timeout(within, run).await {
            Ok(outcome) => outcome.map_err(|failure| match failure {
                RunFailure::Failed(error) | RunFailure::RetryAfter(error, _) => ExecutorError::Failed(error),
                RunFailure::Snoozed(_) => ExecutorError::Failed(call_snoozed()),
                RunFailure::Lost { .. } => executor_lost().into(),
            }),
            Err(_) => Err(timed_out().into()),
        }
    }

    async fn remote(
        &self,
        call: CallRequest,
        affinity: Affinity,
        within: Duration,
    ) -> Result<Box<RawValue>, ExecutorError> {
        let pool = submit::pool(call.pool.as_deref())?;
        let unit = RoutingKey::of(call.user.as_deref(), call.connection);
        let team = WorkerGroup::new(pool, self.lane(pool, unit).lane);
        let view = WaitingWorkView {
            work: affinity.work(),
            kind: Some(&call.method),
            is_early: false,
            group: &team,
            closed_by: None,
            running: None,
        };
        if let Some(obstacle) = obstacle(&view, &self.workers.roster()) {
            return Err(no_executor(obstacle.to_string()).into());
        }
        let user = call.user.as_deref();
        let work = WorkerCall {
            id: Key::random(),
            method: call.method,
            params: call.params,
            user: user.map(str::to_owned),
            page: call.page,
            session: call.session,
            connection: call.page.and(call.connection),
            left_ms: None,
        };
        let own = user.filter(|_| affinity == Affinity::Assigned);
        let result = self.jobs.call(&team, own, work, within, telemetry::current_trace()).await;
        result.map_err(|error| match error {
            job::CallError::Failed(failure) => ExecutorError::Failed(failure),
            job::CallError::NoWorker => no_worker(&team).into(),
            job::CallError::NoHandler => {
                no_executor(format!("the workers of lane {} have no such handler", team.lane)).into()
            }
            job::CallError::Busy => {
                let message = format!("the workers of lane {} are busy", team.lane);
                CommandError::new(ErrorCode::RateLimited, message).into()
            }
            job::CallError::Lost => executor_lost().into(),
            job::CallError::Deadline => timed_out().into(),
            job::CallError::Down => CommandError::unavailable().into(),
            job::CallError::TooLarge => {
                let message = "the call is too large to travel to a worker";
                CommandError::new(ErrorCode::TooLarge, message).into()
            }
        })
    }

    /// Returns the lane that runs the work of a routing key.
    fn lane(&self, pool: &str, unit: RoutingKey<'_>) -> LaneAssignment {
        let serves = |lane: &str| self.workers.roster().serves(&WorkerGroup::new(pool, lane));
        self.rollouts.lane_for(pool, unit, serves)
    }

    /// Returns the kinds of work that killed their executors.
    pub fn quarantines(&self) -> Quarantines {
        Quarantines::new(&self.jobs.engine)
    }

    /// Returns all kinds of executors with what they serve.
    pub fn kinds(&self) -> Vec<ExecutorInfo> {
        let running = INLINE_CALLS - self.inline.available_permits();
        let methods = self.handlers.names().map(str::to_owned).collect();
        let inline = ExecutorInfo { name: "inline", methods, running: Some(running), workers: None };
        let roster = self.workers.roster();
        let rows = roster.list();
        let methods: BTreeSet<_> = rows.iter().flat_map(|(_, row)| &row.methods).collect();
        let remote = [Affinity::Free, Affinity::Assigned].map(|affinity| ExecutorInfo {
            name: executor_name(affinity),
            methods: methods.iter().map(|&name| name.clone()).collect(),
            running: None,
            workers: Some(rows.len()),
        });
        [inline].into_iter().chain(remote).collect()
    }
}

fn no_worker(team: &WorkerGroup) -> CommandError {
    no_executor(format!("lane {} of pool {} has no living worker", team.lane, team.pool))
}

fn executor_lost() -> CommandError {
    CommandError::new(ErrorCode::WorkerLost, "the executor died while it ran the call")
}

fn timed_out() -> CommandError {
    CommandError::new(ErrorCode::Timeout, "no result in time")
}

#[cfg(test)]
mod tests;
