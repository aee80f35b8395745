//! Decides where a call runs and which workers run a job. Pure.

use pagewire_cluster::job::Affinity;

use super::Mode;
use crate::protocol::{CommandError, ErrorCode};

/// The pool of calls and jobs that name none.
pub const DEFAULT_POOL: &str = "default";

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
    /// At least one lane of the pool has a live worker with the method.
    pub(super) workers: bool,
    /// The only live worker is this process, which has the same handlers.
    pub(super) alone: bool,
    /// This binary has the handler, and the call names no other pool than the default one.
    pub(super) inline: bool,
}

/// Decides where a call runs. Mode `inline` means this process, mode `assigned` a worker. In the other modes a call
/// runs on workers if the pool has any with the method; it runs in this process if the pool has none, or if this process
/// is the only worker. This process must have the handler. If one lane of the pool has workers with the method and another
/// has none, this process does not run the calls of that lane, because a missing canary must show.
///
/// # Errors
/// `no_executor` if there is no such place, `malformed` for mode `assigned` without a user.
pub(super) fn place(mode: Mode, facts: PlacementInput) -> Result<Placement, CommandError> {
    let affinity = affinity(mode, facts.user)?;
    match mode {
        Mode::Inline if facts.inline => Ok(Placement::Inline),
        Mode::Any | Mode::Default if facts.inline && (facts.alone || !facts.workers) => Ok(Placement::Inline),
        Mode::Any | Mode::Default | Mode::Assigned if facts.workers => Ok(Placement::Workers(affinity)),
        _ => Err(no_executor("no executor serves this method now")),
    }
}

/// Returns the affinity of a job or call: work of a user is assigned to one worker, except in the modes `any` and
/// `inline`. Mode `assigned` without a user is `malformed`.
pub(super) fn affinity(mode: Mode, user: bool) -> Result<Affinity, CommandError> {
    match (mode, user) {
        (Mode::Assigned, false) => {
            let message = "exec_mode assigned needs a user: a caller without one has no assigned worker";
            Err(CommandError::new(ErrorCode::Malformed, message))
        }
        (Mode::Default | Mode::Assigned, true) => Ok(Affinity::Assigned),
        _ => Ok(Affinity::Free),
    }
}

pub(super) fn no_executor(message: impl Into<std::borrow::Cow<'static, str>>) -> CommandError {
    CommandError::new(ErrorCode::NoExecutor, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Result<Placement, ErrorCode> = Ok(Placement::Workers(Affinity::Free));
    const OWN: Result<Placement, ErrorCode> = Ok(Placement::Workers(Affinity::Assigned));

    fn placed(mode: Mode, user: bool, workers: bool, inline: bool) -> Result<Placement, ErrorCode> {
        place(mode, PlacementInput { user, workers, alone: false, inline }).map_err(|error| error.code)
    }

    #[test]
    fn a_users_call_goes_to_the_users_own_worker_and_anybody_elses_to_any() {
        assert_eq!(placed(Mode::Default, true, true, true), OWN);
        assert_eq!(placed(Mode::Default, false, true, true), FREE);
        assert_eq!(placed(Mode::Any, true, true, true), FREE);
        assert_eq!(placed(Mode::Assigned, true, true, true), OWN);
        assert_eq!(placed(Mode::Assigned, false, true, true), Err(ErrorCode::Malformed));
    }

    #[test]
    fn this_binary_helps_out_only_where_a_pool_has_no_workers() {
        assert_eq!(placed(Mode::Default, true, false, true), Ok(Placement::Inline));
        assert_eq!(placed(Mode::Any, false, false, true), Ok(Placement::Inline));
        assert_eq!(placed(Mode::Inline, false, true, true), Ok(Placement::Inline));
        assert_eq!(placed(Mode::Any, false, false, false), Err(ErrorCode::NoExecutor));
        assert_eq!(placed(Mode::Assigned, true, false, true), Err(ErrorCode::NoExecutor));
        assert_eq!(placed(Mode::Inline, true, true, false), Err(ErrorCode::NoExecutor));
    }

    #[test]
    fn a_process_that_is_its_own_worker_takes_the_short_way_unless_the_users_own_worker_is_asked_for() {
        let alone = PlacementInput { user: true, workers: true, alone: true, inline: true };
        assert_eq!(place(Mode::Default, alone), Ok(Placement::Inline));
        assert_eq!(place(Mode::Assigned, alone), Ok(Placement::Workers(Affinity::Assigned)));
    }
}
