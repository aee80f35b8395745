//! Where a call runs, and whose workers a job is for. Pure.

use pagewire_cluster::job::Affinity;

use super::Mode;
use crate::protocol::{CommandError, ErrorCode};

/// The pool of who names none.
pub const DEFAULT_POOL: &str = "default";

/// Where a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// In this process.
    Inline,
    /// At the workers of its lane.
    Workers(Affinity),
}

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlacementInput {
    /// It has a user.
    pub(super) user: bool,
    /// Some lane of its pool has a living worker.
    pub(super) workers: bool,
    /// That worker is this process itself, which has the same handlers.
    pub(super) alone: bool,
    /// This binary has the handler, and the pool is not another one.
    pub(super) inline: bool,
}

/// Workers where there are some; this binary's own handler where the pool has none at all, and where a worker would be
/// this process again. A lane without workers beside one that has some is not helped out: a canary that is not there
/// has to show.
pub(super) fn place(mode: Mode, facts: PlacementInput) -> Result<Placement, CommandError> {
    let affinity = affinity(mode, facts.user)?;
    match mode {
        Mode::Inline if facts.inline => Ok(Placement::Inline),
        Mode::Any | Mode::Default if facts.inline && (facts.alone || !facts.workers) => Ok(Placement::Inline),
        Mode::Any | Mode::Default | Mode::Assigned if facts.workers => Ok(Placement::Workers(affinity)),
        _ => Err(no_executor("no executor serves this method now")),
    }
}

/// A user's work goes to the user's own worker unless it says otherwise.
pub(super) fn affinity(mode: Mode, user: bool) -> Result<Affinity, CommandError> {
    match (mode, user) {
        (Mode::Assigned, false) => {
            let message = "only a user has an executor of its own: exec_mode assigned needs one";
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
