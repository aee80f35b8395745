//! What ends the ready state of a child.

use super::wire::WireError;

/// What happens to a child that is ready.
pub(super) enum ChildEvent {
    /// Its connection has ended.
    Disconnected(Result<(), WireError>),
    Exited(String),
    /// It has work that does not end, or does not answer.
    Stuck(String),
    /// The next child is ready, or the pool stops.
    Retired,
}

impl ChildEvent {
    /// Returns how a child is lost; `None` for one that is replaced.
    pub(super) fn loss(&self) -> Option<&str> {
        match self {
            Self::Exited(how) | Self::Stuck(how) => Some(how),
            Self::Disconnected(Err(WireError(how))) => Some(how),
            Self::Disconnected(Ok(())) => Some("it has closed its connection"),
            Self::Retired => None,
        }
    }
}
