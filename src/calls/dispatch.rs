//! Calls of workers: inside this node without the engine, or over the engine.
//!
//! Owns: which executor of those that may run a call is asked next. Never: how a worker is called (`cluster/job`).

use std::time::Duration;

use pagewire_cluster::id::{Key, WorkOwner};
use pagewire_cluster::job::{
    Affinity, CallError, CallMembers, Jobs, OutgoingCall, WaitingWorkView, obstacle,
};
use pagewire_cluster::wire::WorkerCall;
use pagewire_cluster::worker::WorkerGroup;
use pagewire_worker::entry::WorkerEntry;
use pagewire_worker::handlers::Handlers;
use serde_json::value::RawValue;
use tracing::Instrument;

use super::lanes::{CallLane, LaneBond};
use super::placement::{FreeCandidates, FreeStep, free_steps};
use super::unknown_method::refusal;
use super::{CallRequest, ExecutorError, LocalWorkers, executor_lost, timed_out};
use crate::config::Preference;
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry::{self, ExecutorPlace, executor_name};

type CallResult = Result<Box<RawValue>, ExecutorError>;

/// Calls workers for a node.
#[derive(Clone)]
pub(super) struct WorkerDispatcher {
    pub(super) jobs: Jobs,
    /// The workers inside this node.
    pub(super) local: LocalWorkers,
    /// The handlers of this process.
    pub(super) handlers: Handlers,
    pub(super) prefer: Preference,
}

impl WorkerDispatcher {
    /// Returns the refusal of a method, with what would be served.
    pub(super) fn refuse(&self, reason: &str, method: &str) -> CommandError {
        refusal(reason, method, &self.jobs.workers.roster(), &self.handlers)
    }

    /// Runs a call on the workers of its lane. Returns the kind of the executor that was asked last.
    pub(super) async fn on_workers(
        &self,
        call: CallRequest,
        lane: &CallLane,
        affinity: Affinity,
        within: Duration,
    ) -> (&'static str, CallResult) {
        let CallLane { group: team, bond } = lane;
        let owner =
            WorkOwner::of(call.user.as_deref(), call.connection).map(|owner| owner.key().into_owned());
        let own = owner.filter(|_| affinity == Affinity::Assigned);
        let nearby = if own.is_none() { self.local.free(team, &call.method) } else { Vec::new() };
        if nearby.is_empty()
            && let Some(reason) = self.obstacle(team, affinity, &call.method)
        {
            let exec = executor_name(ExecutorPlace::OtherProcess, affinity);
            return (exec, Err(self.refuse(&reason, &call.method).into()));
        }
        let work = WorkerCall {
            id: Key::random(),
            method: call.method.clone(),
            params: call.params,
            user: call.user.as_deref().map(str::to_owned),
            page: call.page,
            session: call.session,
            connection: call.connection,
            lane: (*bond != LaneBond::Loose).then(|| team.lane.clone()),
            class: call.class,
            event: call.event,
            left_ms: None,
        };
        let WorkerGroup { pool, lane } = team;
        let span =
            tracing::debug_span!("call worker", otel.kind = "client", method = work.method, pool, lane);
        let trace = span.in_scope(telemetry::current_trace);
        let mut calling = OutgoingCall::new(&self.jobs, team, work, within, trace);
        if *bond == LaneBond::Visiting {
            calling.visit();
        }
        let result = async {
            match own {
                Some(owner) => calling.own(&owner, &|worker| self.local.assigned_route(worker)).await,
                None => self.free_call(&mut calling, team, &call.method, nearby).await,
            }
        };
        let result = result.instrument(span).await;
        let place = if calling.is_direct() { ExecutorPlace::ThisNode } else { ExecutorPlace::OtherProcess };
        let exec = executor_name(place, affinity);
        (exec, result.map_err(|error| self.explain(error, team, &call.method)))
    }

    fn obstacle(&self, team: &WorkerGroup, affinity: Affinity, method: &str) -> Option<String> {
        let view = WaitingWorkView {
            affinity,
            kind: Some(method),
            is_early: false,
            group: team,
            closed_by: None,
            running: None,
        };
        obstacle(&view, &self.jobs.workers.roster()).map(|obstacle| obstacle.to_string())
    }

    /// Asks the executors that may run a free call, one after the other while they are full or gone.
    async fn free_call(
        &self,
        calling: &mut OutgoingCall<'_>,
        team: &WorkerGroup,
        method: &str,
        nearby: Vec<WorkerEntry>,
    ) -> Result<Box<RawValue>, CallError> {
        let candidates = {
            let (roster, own) = (self.jobs.workers.roster(), self.local.ids());
            FreeCandidates {
                own: !nearby.is_empty(),
                processes: roster.has_free(team, method, false, &own),
                other_nodes: roster.has_free(team, method, true, &own),
            }
        };
        let mut refused = CallError::NoWorker;
        for step in free_steps(self.prefer, candidates) {
            let outcome = match step {
                FreeStep::Own => match nearby.iter().find_map(WorkerEntry::reserve) {
                    Some(slot) => calling.direct(Box::new(move |call, trace| slot.call(call, trace))).await,
                    None => Err(CallError::Busy),
                },
                FreeStep::Processes => calling.any(CallMembers::Processes).await,
                FreeStep::OtherNodes => calling.any(CallMembers::InsideNodes).await,
                FreeStep::OwnQueue => match nearby.first().cloned() {
                    Some(entry) => calling.direct(Box::new(move |call, trace| entry.call(call, trace))).await,
                    None => Err(CallError::NoWorker),
                },
            };
            match outcome {
                Err(CallError::Busy) => refused = CallError::Busy,
                Err(CallError::NoWorker | CallError::NoHandler) => {}
                outcome => return outcome,
            }
        }
        Err(refused)
    }

    fn explain(&self, error: CallError, team: &WorkerGroup, method: &str) -> ExecutorError {
        let WorkerGroup { pool, lane } = team;
        match error {
            CallError::Failed(failure) => ExecutorError::Failed(failure),
            CallError::NoWorker => self
                .refuse(&format!("no living worker of pool {pool}, lane {lane} serves this method"), method)
                .into(),
            CallError::NoHandler => self
                .refuse(&format!("the workers of pool {pool}, lane {lane} have no such handler"), method)
                .into(),
            CallError::Busy => {
                let message = format!("the workers of lane {lane} are busy");
                CommandError::new(ErrorCode::RateLimited, message).into()
            }
            CallError::Lost => executor_lost().into(),
            CallError::Deadline => timed_out().into(),
            CallError::Down => CommandError::unavailable().into(),
            CallError::TooLarge => {
                let message = "the call is too large to travel to a worker";
                CommandError::new(ErrorCode::TooLarge, message).into()
            }
        }
    }
}
