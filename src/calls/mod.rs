//! Who runs a call, and whose workers a job is for.
//!
//! Owns: the choice of an executor ([`placement`]), the bounds of a call, this binary's handlers, and the loop of a
//! worker ([`serve`]). Never: pages or sockets; executors and sessions do not know each other.

mod handlers;
mod placement;
mod pools;
mod submit;
mod worker_loop;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::job::{self, Affinity, Jobs, Reporter};
use pagewire_cluster::rollout::{Rollouts, RoutingKey};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{HandlerError, WorkerCall};
use pagewire_cluster::worker::{WorkerGroup, Workers};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

pub use handlers::names;
pub use placement::DEFAULT_POOL;
pub use submit::{JobRequest, PageRules};
pub use worker_loop::{Handlers, serve};

use self::placement::{Placement, PlacementInput, no_executor, place};
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry::{self, Metrics};

/// Inline calls of a node at the same time; more are refused at once.
const INLINE_CALLS: usize = 1024;
/// The longest time-out that a caller may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// What a caller wants of the place where its work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By policy.
    #[default]
    Default,
    /// In the node.
    Inline,
    /// Any free executor.
    Any,
    /// The user's own executor.
    Assigned,
}

impl Mode {
    /// Reads `exec_mode`; `None` means by policy.
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

/// One call.
#[derive(Debug)]
pub struct CallRequest {
    /// The handler's name.
    pub method: String,
    /// Its argument.
    pub params: Box<RawValue>,
    /// Where it should run.
    pub mode: Mode,
    /// Whose workers; the default pool if none is named.
    pub pool: Option<String>,
    /// The caller's limit; `None` for the server's.
    pub timeout: Option<Duration>,
    /// For whom.
    pub user: Option<Arc<str>>,
    /// From which browser: its lane, when there is no user.
    pub connection: Option<Key>,
    /// From which page.
    pub page: Option<Address>,
}

/// Why a call has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutorError {
    /// It was not run to its end.
    Refused(CommandError),
    /// Its handler said no, with a code of its own.
    Failed(HandlerError),
}

impl From<CommandError> for ExecutorError {
    fn from(error: CommandError) -> Self {
        Self::Refused(error)
    }
}

impl ExecutorError {
    /// The code for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code.text(),
            Self::Failed(failure) => &failure.code,
        }
    }

    /// As it travels between processes.
    pub fn into_failure(self) -> HandlerError {
        match self {
            Self::Failed(failure) => failure,
            Self::Refused(error) => HandlerError {
                code: error.code.text().to_owned(),
                message: error.message.into_owned(),
                retryable: error.code.retryable(),
            },
        }
    }
}

/// One kind of executor, as `GET /executors` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorInfo {
    /// `inline`, `remote_free` or `remote_assigned`.
    pub name: &'static str,
    /// What it serves.
    pub methods: Vec<String>,
    /// Calls of this node running there now, where this node runs them.
    pub running: Option<usize>,
    /// The living workers, where they run them.
    pub workers: Option<usize>,
}

/// All executors of this node. Cheap to clone.
#[derive(Clone)]
pub struct Executors {
    inline: Arc<Semaphore>,
    alone: bool,
    jobs: Jobs,
    workers: Workers,
    rollouts: Rollouts,
    timing: Timing,
    metrics: Arc<Metrics>,
}

impl Executors {
    /// The executors that this node can use: its own handlers, and the workers of its cluster. `alone`: the only worker
    /// is this process.
    pub fn new(
        alone: bool,
        jobs: Jobs,
        workers: Workers,
        rollouts: Rollouts,
        timing: Timing,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            inline: Arc::new(Semaphore::new(INLINE_CALLS)),
            alone,
            jobs,
            workers,
            rollouts,
            timing,
            metrics,
        }
    }

    /// Runs a call; the handler's result or why there is none. At most once. Dropping the future stops the handler.
    pub async fn call(&self, call: CallRequest) -> Result<Box<RawValue>, ExecutorError> {
        let started = Instant::now();
        // a name that a client made up is no label
        let handler = handlers::find(&call.method);
        let kind = handler.map_or("other", handlers::Handler::name);
        let within = call.timeout.unwrap_or(self.timing.call).min(MAX_TIMEOUT);
        let (exec, outcome) = match self.place(&call, handler.is_some()) {
            Err(error) => ("none", Err(error.into())),
            Ok(Placement::Inline) => ("inline", self.inline(handler, &call, within).await),
            Ok(Placement::Workers(affinity)) => (exec(affinity), self.remote(call, affinity, within).await),
        };
        // a handler's own code is no label either
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
        let workers = self.workers.roster().serves_pool(pool);
        let inline = inline && pool == DEFAULT_POOL;
        place(call.mode, PlacementInput { user: call.user.is_some(), workers, alone: self.alone, inline })
    }

    async fn inline(
        &self,
        handler: Option<handlers::Handler>,
        call: &CallRequest,
        within: Duration,
    ) -> Result<Box<RawValue>, ExecutorError> {
        let Some(handler) = handler else { return Err(no_executor("no executor has this method").into()) };
        let Ok(_permit) = self.inline.try_acquire() else {
            return Err(CommandError::new(ErrorCode::RateLimited, "too many calls at the same time").into());
        };
        let reporter = Reporter::silent();
        let run = handlers::run(handler, &call.params, &reporter);
        tokio::time::timeout(within, run).await.unwrap_or_else(|_| Err(timed_out().into()))
    }

    async fn remote(
        &self,
        call: CallRequest,
        affinity: Affinity,
        within: Duration,
    ) -> Result<Box<RawValue>, ExecutorError> {
        let pool = submit::pool(call.pool.as_deref())?;
        let team = self.team(pool, RoutingKey::of(call.user.as_deref(), call.connection));
        if !self.workers.roster().serves(&team) {
            return Err(no_worker(&team).into());
        }
        let user = call.user.as_deref();
        let work = WorkerCall {
            id: Key::random(),
            method: call.method,
            params: call.params,
            user: user.map(str::to_owned),
            page: call.page,
            deadline_ms: None,
        };
        let own = user.filter(|_| affinity == Affinity::Assigned);
        let answer = self.jobs.call(&team, own, work, within, telemetry::current_trace()).await;
        answer.map_err(|error| match error {
            job::CallError::Failed(failure) => ExecutorError::Failed(failure),
            job::CallError::NoWorker => no_worker(&team).into(),
            job::CallError::NoHandler => {
                no_executor(format!("the workers of lane {} have no such handler", team.lane)).into()
            }
            job::CallError::Busy => {
                let message = format!("the workers of lane {} are busy", team.lane);
                CommandError::new(ErrorCode::RateLimited, message).into()
            }
            job::CallError::Deadline => timed_out().into(),
            job::CallError::Down => CommandError::unavailable().into(),
            job::CallError::TooLarge => {
                let message = "the call is too large to travel to a worker";
                CommandError::new(ErrorCode::TooLarge, message).into()
            }
        })
    }

    /// The workers that a unit's work goes to.
    fn team(&self, pool: &str, unit: RoutingKey<'_>) -> WorkerGroup {
        let serves = |lane: &str| self.workers.roster().serves(&WorkerGroup::new(pool, lane));
        WorkerGroup::new(pool, self.rollouts.lane_for(pool, unit, serves).lane)
    }

    /// What runs where.
    pub fn kinds(&self) -> Vec<ExecutorInfo> {
        let running = INLINE_CALLS - self.inline.available_permits();
        let methods = names().map(str::to_owned).collect();
        let inline = ExecutorInfo { name: "inline", methods, running: Some(running), workers: None };
        let roster = self.workers.roster();
        let rows = roster.list();
        let methods: BTreeSet<_> = rows.iter().flat_map(|(_, row)| &row.methods).collect();
        let remote = [Affinity::Free, Affinity::Assigned].map(|affinity| ExecutorInfo {
            name: exec(affinity),
            methods: methods.iter().map(|&name| name.clone()).collect(),
            running: None,
            workers: Some(rows.len()),
        });
        [inline].into_iter().chain(remote).collect()
    }
}

const fn exec(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Free => "remote_free",
        Affinity::Assigned => "remote_assigned",
    }
}

fn no_worker(team: &WorkerGroup) -> CommandError {
    no_executor(format!("lane {} of pool {} has no living worker", team.lane, team.pool))
}

fn timed_out() -> CommandError {
    CommandError::new(ErrorCode::Timeout, "no result in time")
}

#[cfg(test)]
mod tests;
