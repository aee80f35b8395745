//! Error codes: one row each, stable for programs.

use std::borrow::Cow;

/// Why a command failed. A program decides by the code, a person reads the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The frame or body does not have the required shape.
    Malformed,
    /// A frame type or version this server does not know.
    Unsupported,
    /// No valid token.
    Unauthenticated,
    /// Not allowed for this identity.
    Forbidden,
    /// The page, session, connection or path does not exist.
    Unknown,
    /// Over a limit.
    TooLarge,
    /// Nobody can serve this method now.
    NoExecutor,
    /// The handler said no.
    Failed,
    /// No result in time; it may still happen.
    Timeout,
    /// The cluster's engine is unavailable.
    Unavailable,
    /// Somebody wanted it no more.
    Cancelled,
    /// Too many at once.
    RateLimited,
    /// Another writer was first, or the same idempotency key came with other content.
    Conflict,
    /// Users would be sent to a lane that nobody serves.
    LaneWithoutWorkers,
    /// The server knows nothing of it: it may have happened, or may yet.
    Uncertain,
    /// A fault of the server.
    Internal,
}

impl ErrorCode {
    /// The code on the wire.
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

    /// Whether the same request can succeed later.
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

/// A refused or failed command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.text())]
pub struct CommandError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: Cow<'static, str>,
}

impl CommandError {
    /// An error with its message.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// The cluster's engine does not answer this node.
    pub fn unavailable() -> Self {
        Self::new(ErrorCode::Unavailable, "this node has no connection to its cluster")
    }
}
