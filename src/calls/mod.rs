//! Chooses where a call runs and which workers run a job.
//!
//! Owns: the choice of an executor (`placement`), and the limits of a call. Never: the worker side (`pagewire_worker`), pages or sockets; executors and pages do not know each other.

mod default_mode;
mod dispatch;
mod inline;
mod lanes;
mod list;
mod local;
mod nested;
mod placement;
mod pools;
mod retry;
mod submit;
mod unknown_method;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pagewire_cluster::id::{Address, Key, WorkOwner};
use pagewire_cluster::job::{Jobs, Quarantines};
use pagewire_cluster::rollout::{Admissions, LanePins, Rollouts};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{HandlerError, PageEvent};
use pagewire_cluster::worker::{ExecMode, WorkerGroup, Workers};
use pagewire_worker::handlers::Handlers;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

pub use list::{ExecutorInfo, ExecutorWorker};
pub use local::{LocalWorker, LocalWorkers};
pub use nested::NestedExecutors;
pub use placement::DEFAULT_POOL;
pub use retry::RetryError;
pub use submit::{JobRequest, PageRules};

use self::default_mode::HandlerDefaults;
use self::dispatch::WorkerDispatcher;
use self::inline::InlineCalls;
use self::lanes::{CallLane, LaneBond, WorkLanes};
use self::placement::{Placement, PlacementInput, place};
use crate::config::Preference;
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry::Metrics;

/// The longest timeout that a caller may request.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// Returns where a caller wants its work to run; `None` lets the node decide.
///
/// # Errors
/// `malformed` for a text that is not a mode.
pub fn exec_mode(named: Option<&str>) -> Result<Option<ExecMode>, CommandError> {
    let mode = named.map(ExecMode::parse).transpose();
    mode.map_err(|error| CommandError::new(ErrorCode::Malformed, error.to_string()))
}

/// A call.
#[derive(Debug)]
pub struct CallRequest {
    /// The handler's name.
    pub method: String,
    /// Its argument.
    pub params: Box<RawValue>,
    /// Where it runs; `None` lets the node decide.
    pub exec_mode: Option<ExecMode>,
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
    /// The lanes that the page keeps, for a call that a page makes itself.
    pub pins: Option<Arc<LanePins>>,
    /// The class of the object of the page, if it has one.
    pub class: Option<String>,
    /// What has happened to the page, in place of a call; `method` is the class of its object.
    pub event: Option<PageEvent>,
}

/// A call with the place where it runs.
#[derive(Debug)]
pub struct PlacedCall {
    call: CallRequest,
    started: Instant,
    within: Duration,
    place: Result<(CallLane, Placement), CommandError>,
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

/// How a node chooses executors.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// Whether this process is the only worker, which has the same handlers.
    pub alone: bool,
    /// Which executors are asked first for free calls.
    pub prefer: Preference,
    /// Where the work of a method runs if its caller does not say it.
    pub modes: BTreeMap<String, ExecMode>,
    /// The workers inside this node.
    pub local: LocalWorkers,
}

/// All executors of this node. Cheap to clone.
#[derive(Clone)]
pub struct Executors {
    handlers: Handlers,
    dispatcher: WorkerDispatcher,
    defaults: HandlerDefaults,
    lanes: WorkLanes,
    inline: InlineCalls,
    alone: bool,
    jobs: Jobs,
    workers: Workers,
    rollouts: Rollouts,
    timing: Timing,
    metrics: Arc<Metrics>,
}

impl Executors {
    /// Creates the executors that this node can use: its own `handlers` and the workers of its cluster.
    pub fn new(
        handlers: Handlers,
        options: ExecutorOptions,
        jobs: Jobs,
        workers: Workers,
        rollouts: Rollouts,
        timing: Timing,
        metrics: Arc<Metrics>,
    ) -> Self {
        let ExecutorOptions { alone, prefer, modes: configured, local } = options;
        let dispatcher = WorkerDispatcher { jobs: jobs.clone(), local, handlers: handlers.clone(), prefer };
        let defaults = HandlerDefaults { configured, handlers: handlers.clone(), workers: workers.clone() };
        Self {
            dispatcher,
            defaults,
            inline: InlineCalls::new(handlers.clone()),
            lanes: WorkLanes { rollouts: rollouts.clone(), workers: workers.clone() },
            handlers,
            alone,
            jobs,
            workers,
            rollouts,
            timing,
            metrics,
        }
    }

    /// Returns the workers inside this node.
    pub fn local(&self) -> &LocalWorkers {
        &self.dispatcher.local
    }

    /// Runs a call at most once and returns the handler's result or the reason why there is none. Dropping the future
    /// stops the handler.
    ///
    /// # Errors
    /// [`ExecutorError::Failed`] with the handler's error. [`ExecutorError::Refused`] with
    /// - `malformed` for an invalid pool name, or for mode `assigned` of a caller that no worker can be assigned to,
    /// - `no_executor` if no executor has the handler, or the lane has no live worker for it,
    /// - `rate_limited` if the node or the workers are busy,
    /// - `too_large` if the call does not fit into a message to a worker,
    /// - `worker_lost` if the executor died while it ran the call,
    /// - `timeout` if there is no result in time,
    /// - `unavailable` without a connection to the cluster.
    pub async fn call(&self, call: CallRequest) -> Result<Box<RawValue>, ExecutorError> {
        let placed = self.place_call(call).await;
        self.run(placed).await
    }

    /// Chooses the place of a call, which pins the lane of the page that makes it.
    pub async fn place_call(&self, call: CallRequest) -> PlacedCall {
        let started = Instant::now();
        let known = self.handlers.has(&call.method);
        let within = call.timeout.unwrap_or(self.timing.call).min(MAX_TIMEOUT);
        let place = self.place_when_started(&call, known, within).await;
        PlacedCall { call, started, within, place }
    }

    /// Runs a call at its place.
    ///
    /// # Errors
    /// See [`Executors::call`].
    pub async fn run(&self, placed: PlacedCall) -> Result<Box<RawValue>, ExecutorError> {
        let PlacedCall { call, started, within, place: placed } = placed;
        let within = within.saturating_sub(started.elapsed());
        // work is placed on workers only if one of them has a handler of this name
        let is_registered = matches!(placed, Ok((_, Placement::Workers(_))));
        let kind = if is_registered { call.method.as_str() } else { self.handlers.label(&call.method) };
        let kind = kind.to_owned();
        let (exec, outcome) = match placed {
            Err(error) => ("none", Err(error.into())),
            Ok((_, Placement::Inline)) => ("inline", self.inline.run(call, within).await),
            Ok((lane, Placement::Workers(affinity))) => {
                self.dispatcher.on_workers(call, &lane, affinity, within).await
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

    /// Places a call. If there is no executor for it, but a program of its pool starts in this process, it is placed when
    /// the program serves or has failed, at most after `within`.
    async fn place_when_started(
        &self,
        call: &CallRequest,
        inline: bool,
        within: Duration,
    ) -> Result<(CallLane, Placement), CommandError> {
        self.admit(call, inline).await;
        let placed = self.place(call, inline);
        if !matches!(&placed, Err(error) if error.code == ErrorCode::NoExecutor) {
            return placed;
        }
        let starting = self.local().starting(call.pool.as_deref().unwrap_or(DEFAULT_POOL));
        if starting.is_empty() {
            return placed;
        }
        let started = join_all(starting.iter().map(CancellationToken::cancelled));
        // an error means that they take longer
        let _ = tokio::time::timeout(within, started).await;
        self.admit(call, inline).await;
        self.place(call, inline)
    }

    /// Asks for the lane of the user of a call that runs on workers, where only admitted users have it.
    async fn admit(&self, call: &CallRequest, inline: bool) {
        let Ok(pool) = submit::pool(call.pool.as_deref()) else { return };
        if !Admissions::new(&self.rollouts).are_needed(pool) {
            return;
        }
        let (unit, group) = self.lanes.before_placing(call, pool);
        if let Ok(Placement::Workers(_)) = placement(self, call, &group, inline) {
            self.lanes.admit(pool, unit, call.pins.as_deref()).await;
        }
    }

    /// Returns the workers of the lane of a call, and where it runs.
    fn place(&self, call: &CallRequest, inline: bool) -> Result<(CallLane, Placement), CommandError> {
        let pool = submit::pool(call.pool.as_deref())?;
        let (unit, group) = self.lanes.before_placing(call, pool);
        match placement(self, call, &group, inline) {
            Ok(Placement::Inline) => Ok((CallLane { group, bond: LaneBond::Loose }, Placement::Inline)),
            // counted for the rollout
            Ok(placement) => Ok((self.lanes.of_call(call, pool, unit), placement)),
            Err(error) if error.code == ErrorCode::NoExecutor => {
                Err(self.dispatcher.refuse(&error.message, &call.method))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the worker to which the messages of a page are sent now; `None` without one.
    pub fn home_of(&self, call: &CallRequest) -> Option<Key> {
        let owner = WorkOwner::of(call.user.as_deref(), call.connection)?.key();
        let pool = submit::pool(call.pool.as_deref()).ok()?;
        let (_, group) = self.lanes.before_placing(call, pool);
        self.workers.roster().choose(&group, &owner, Some(&call.method))
    }

    /// Returns the kinds of work that killed their executors.
    pub fn quarantines(&self) -> Quarantines {
        Quarantines::new(&self.jobs.engine)
    }
}

/// Returns where a call runs, if the workers of its lane are `group`.
fn placement(
    executors: &Executors,
    call: &CallRequest,
    group: &WorkerGroup,
    inline: bool,
) -> Result<Placement, CommandError> {
    let pool = group.pool.as_str();
    let wanted = executors.defaults.mode(call.exec_mode, group, &call.method);
    let workers = executors.workers.roster().pool_serves(pool, &call.method)
        || !executors.local().free(group, &call.method).is_empty();
    let inline = inline && pool == DEFAULT_POOL;
    let user = call.user.is_some();
    let owner = user || call.connection.is_some();
    place(wanted, PlacementInput { user, owner, workers, alone: executors.alone, inline })
}

fn executor_lost() -> CommandError {
    CommandError::new(ErrorCode::WorkerLost, "the executor died while it ran the call")
}

fn timed_out() -> CommandError {
    CommandError::new(ErrorCode::Timeout, "no result in time")
}

#[cfg(test)]
mod tests;
