//! The name of the type of a frame, for traces.

use super::ClientFrame;

impl ClientFrame {
    /// Returns the name of the type, for traces.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Auth(_) => "auth",
            Self::Send(_) => "send",
            Self::BroadcastSession(_) => "broadcast_session",
            Self::Call(_) => "call",
            Self::Job(_) => "job",
            Self::Cancel => "cancel",
            Self::Set(..) => "set",
            Self::Patch(_) => "patch",
            Self::GetData(_) => "get_data",
            Self::Watch(_) => "watch",
            Self::Unwatch(_) => "unwatch",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Rollout(_) => "rollout",
            Self::Ping => "ping",
            Self::Ack(_) => "ack",
        }
    }
}
