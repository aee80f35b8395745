//! The error of a command: a code for programs and a message for people. The codes are in `pagewire_cluster::code`.

use std::borrow::Cow;

pub use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::wire::HandlerError;

/// A rejected or failed command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.text())]
pub struct CommandError {
    /// Code, for programs.
    pub code: ErrorCode,
    /// Message, for people.
    pub message: Cow<'static, str>,
}

impl CommandError {
    /// Creates an error with its message.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Creates the error for a node without a connection to the cluster's engine.
    pub fn unavailable() -> Self {
        Self::new(ErrorCode::Unavailable, "this node has no connection to its cluster")
    }
}

impl From<Unavailable> for CommandError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::unavailable()
    }
}

impl From<CommandError> for HandlerError {
    fn from(CommandError { code, message }: CommandError) -> Self {
        Self::new(code, message)
    }
}
