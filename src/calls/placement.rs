//! Decides where a call runs and which workers run a job. Pure.

use pagewire_cluster::worker::{Affinity, ExecMode};

use crate::config::Preference;
use crate::protocol::{CommandError, ErrorCode};

/// The pool of calls and jobs that name none.
pub const DEFAULT_POOL: &str = "default";

/// The mode of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WantedMode {
    /// `None` lets the node decide.
    pub(super) mode: Option<ExecMode>,
    /// The caller has set it. A default gives way where it cannot be followed.
    pub(super) is_explicit: bool,
}

/// The place where a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// In this process.
    Inline,
    /// On the workers of its lane.
    Workers(Affinity),
}

/// The facts that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlacementInput {
    /// The call has a user.
    pub(super) user: bool,
    /// The call has a user or a connection, which a worker can be assigned to.
    pub(super) owner: bool,
    /// At least one lane of the pool has a live worker with the method.
    pub(super) workers: bool,
    /// The only live worker is this process, which has the same handlers.
    pub(super) alone: bool,
    /// This binary has the handler, and the call names no other pool than the default one.
    pub(super) inline: bool,
}

/// Decides where a call runs. Mode `inline` means this process, mode `assigned` a worker. Otherwise a call runs
/// on workers if the pool has any with the method; it runs in this process if the pool has none, or if this process is
/// the only worker. This process must have the handler. If one lane of the pool has workers with the method and another
/// has none, this process does not run the calls of that lane, because a missing canary must show. A mode `assigned` that
/// the caller has not set itself is followed if the pool has workers.
///
/// # Errors
/// `no_executor` if there is no such place, `malformed` for mode `assigned` of a caller without a user and a connection.
pub(super) fn place(wanted: WantedMode, facts: PlacementInput) -> Result<Placement, CommandError> {
    let affinity = affinity(wanted, facts.user, facts.owner)?;
    match wanted.mode {
        Some(ExecMode::Inline) if facts.inline => Ok(Placement::Inline),
        Some(ExecMode::Any) | None if facts.inline && (facts.alone || !facts.workers) => {
            Ok(Placement::Inline)
        }
        Some(ExecMode::Assigned) if facts.inline && !facts.workers && !wanted.is_explicit => {
            Ok(Placement::Inline)
        }
        Some(ExecMode::Any | ExecMode::Assigned) | None if facts.workers => Ok(Placement::Workers(affinity)),
        _ => Err(no_executor("no executor serves this method now")),
    }
}

/// Returns the affinity of a job or call. Work of a user is assigned to one worker, except in the modes `any` and
/// `inline`; other work is free, except in mode `assigned`, in which it is assigned to its connection.
///
/// # Errors
/// `malformed` for mode `assigned` of a caller without a user and a connection, unless the mode is a default.
pub(super) fn affinity(wanted: WantedMode, user: bool, owner: bool) -> Result<Affinity, CommandError> {
    match wanted.mode {
        Some(ExecMode::Assigned) if !owner && wanted.is_explicit => {
            let message =
                "exec_mode assigned needs a user or a page: a caller without both has no assigned worker";
            Err(CommandError::new(ErrorCode::Malformed, message))
        }
        Some(ExecMode::Assigned) if owner => Ok(Affinity::Assigned),
        None if user => Ok(Affinity::Assigned),
        _ => Ok(Affinity::Free),
    }
}

/// Executors that are asked for a free call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FreeStep {
    /// A worker inside this node that has a free slot.
    Own,
    /// Workers that are processes of their own.
    Processes,
    /// Workers inside other nodes.
    OtherNodes,
    /// A worker inside this node, with waiting for a slot.
    OwnQueue,
}

/// Executors in the lane of a call that have its method.
#[derive(Debug, Clone, Copy)]
pub(super) struct FreeCandidates {
    pub(super) own: bool,
    pub(super) processes: bool,
    pub(super) other_nodes: bool,
}

/// Returns the executors that are asked for a free call, one after the other while they are full.
pub(super) fn free_steps(prefer: Preference, candidates: FreeCandidates) -> Vec<FreeStep> {
    let [own, processes] = [(FreeStep::Own, candidates.own), (FreeStep::Processes, candidates.processes)];
    let first = match prefer {
        Preference::Local => [own, processes],
        Preference::Remote => [processes, own],
    };
    let last = [(FreeStep::OtherNodes, candidates.other_nodes), (FreeStep::OwnQueue, candidates.own)];
    let steps = first.into_iter().chain(last).filter(|(_, is_there)| *is_there);
    steps.map(|(step, _)| step).collect()
}

pub(super) fn no_executor(message: impl Into<std::borrow::Cow<'static, str>>) -> CommandError {
    CommandError::new(ErrorCode::NoExecutor, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Result<Placement, ErrorCode> = Ok(Placement::Workers(Affinity::Free));
    const OWN: Result<Placement, ErrorCode> = Ok(Placement::Workers(Affinity::Assigned));
    const INLINE: Result<Placement, ErrorCode> = Ok(Placement::Inline);

    fn explicit(mode: Option<ExecMode>) -> WantedMode {
        WantedMode { mode, is_explicit: mode.is_some() }
    }

    fn facts(user: bool, workers: bool, inline: bool) -> PlacementInput {
        PlacementInput { user, owner: user, workers, alone: false, inline }
    }

    fn placed(
        mode: Option<ExecMode>,
        user: bool,
        workers: bool,
        inline: bool,
    ) -> Result<Placement, ErrorCode> {
        place(explicit(mode), facts(user, workers, inline)).map_err(|error| error.code)
    }

    #[test]
    fn a_users_call_goes_to_the_users_own_worker_and_anybody_elses_to_any() {
        assert_eq!(placed(None, true, true, true), OWN);
        assert_eq!(placed(None, false, true, true), FREE);
        assert_eq!(placed(Some(ExecMode::Any), true, true, true), FREE);
        assert_eq!(placed(Some(ExecMode::Assigned), true, true, true), OWN);
        assert_eq!(placed(Some(ExecMode::Assigned), false, true, true), Err(ErrorCode::Malformed));
    }

    #[test]
    fn this_binary_helps_out_only_where_a_pool_has_no_workers() {
        assert_eq!(placed(None, true, false, true), INLINE);
        assert_eq!(placed(Some(ExecMode::Any), false, false, true), INLINE);
        assert_eq!(placed(Some(ExecMode::Inline), false, true, true), INLINE);
        assert_eq!(placed(Some(ExecMode::Any), false, false, false), Err(ErrorCode::NoExecutor));
        assert_eq!(placed(Some(ExecMode::Assigned), true, false, true), Err(ErrorCode::NoExecutor));
        assert_eq!(placed(Some(ExecMode::Inline), true, true, false), Err(ErrorCode::NoExecutor));
    }

    #[test]
    fn a_process_that_is_its_own_worker_takes_the_short_way_unless_the_users_own_worker_is_asked_for() {
        let alone = PlacementInput { alone: true, ..facts(true, true, true) };
        assert_eq!(place(explicit(None), alone), Ok(Placement::Inline));
        assert_eq!(
            place(explicit(Some(ExecMode::Assigned)), alone),
            Ok(Placement::Workers(Affinity::Assigned))
        );
    }

    #[test]
    fn a_default_mode_is_followed_where_it_can_be() {
        let by_default = |mode, facts| {
            place(WantedMode { mode: Some(mode), is_explicit: false }, facts).map_err(|error| error.code)
        };
        let anonymous = PlacementInput { owner: true, ..facts(false, true, true) };
        assert_eq!(by_default(ExecMode::Assigned, facts(true, true, true)), OWN);
        assert_eq!(by_default(ExecMode::Assigned, anonymous), OWN, "of its connection");
        assert_eq!(by_default(ExecMode::Assigned, facts(false, true, true)), FREE, "of a program");
        assert_eq!(by_default(ExecMode::Assigned, facts(true, false, true)), INLINE);
        assert_eq!(by_default(ExecMode::Any, facts(true, true, true)), FREE);
        assert_eq!(by_default(ExecMode::Inline, facts(true, true, true)), INLINE);
    }

    #[test]
    fn the_preferred_executors_come_first_and_other_nodes_before_waiting_here() {
        use FreeStep::{OtherNodes, Own, OwnQueue, Processes};
        for (prefer, [own, processes, other_nodes], expected) in [
            (Preference::Local, [true, true, true], &[Own, Processes, OtherNodes, OwnQueue][..]),
            (Preference::Remote, [true, true, true], &[Processes, Own, OtherNodes, OwnQueue]),
            (Preference::Local, [true, false, false], &[Own, OwnQueue]),
            (Preference::Remote, [true, false, false], &[Own, OwnQueue]),
            (Preference::Local, [false, true, true], &[Processes, OtherNodes]),
            (Preference::Remote, [false, false, true], &[OtherNodes]),
            (Preference::Local, [false, false, false], &[]),
        ] {
            let candidates = FreeCandidates { own, processes, other_nodes };
            assert_eq!(free_steps(prefer, candidates), expected, "{prefer:?} {candidates:?}");
        }
    }
}
