//! Error codes: one row each, stable for programs.

use std::borrow::Cow;

/// Reason why a command failed. The code is for programs, the message for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The frame or body does not have the required shape.
    Malformed,
    /// The server does not know this frame type or version.
    Unsupported,
    /// There is no valid token.
    Unauthenticated,
    /// The identity is not allowed to do this.
    Forbidden,
    /// The page, session, connection or path does not exist.
    Unknown,
    /// A limit on size is exceeded.
    TooLarge,
    /// No worker or handler can serve this method now.
    NoExecutor,
    /// The handler returned an error.
    Failed,
    /// No result arrived in time; the command may still be executed.
    Timeout,
    /// The cluster's engine is unavailable.
    Unavailable,
    /// The command was cancelled.
    Cancelled,
    /// Too many requests at once.
    RateLimited,
    /// Another writer was first, or the idempotency key was used before with other content.
    Conflict,
    /// Users would be sent to a lane that nobody serves.
    LaneWithoutWorkers,
    /// The server has no record of the command: it may have been executed, or may still be.
    Uncertain,
    /// The server has a fault.
    Internal,
}

impl ErrorCode {
    /// Returns the code that is sent.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Unknown => "unknown",
            Self::TooLarge => "too_large",
            Self::NoExecutor => "no_executor",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
            Self::Uncertain => "uncertain",
            Self::RateLimited => "rate_limited",
            Self::Conflict => "conflict",
            Self::LaneWithoutWorkers => "lane_without_workers",
            Self::Internal => "internal",
        }
    }

    /// Returns whether the same request can succeed later.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::NoExecutor
                | Self::LaneWithoutWorkers
                | Self::Timeout
                | Self::Unavailable
                | Self::RateLimited
                | Self::Internal
        )
    }
}

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
