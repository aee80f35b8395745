//! The browser wire, `pagewire.v1`: JSON text frames.
//!
//! Owns: the shapes of frames in both directions, close codes and error codes. Never: sockets, who may do
//! what, or what a frame leads to. A leaf: it knows only ids.

mod close;
mod depth;
mod error;
mod frame;
mod job;
mod plain;
mod server;
mod state;

pub use close::{Close, CloseCode};
pub use depth::{MAX_DEPTH, TOO_DEEP, is_too_deep};
pub use error::{CommandError, ErrorCode};
pub use frame::{
    Ack, Auth, BroadcastSession, Call, ClientFrame, FrameId, Hello, InvalidFrame, Job, Resume, Send,
    Subscribe, Target, Unsubscribe,
};
pub use job::JobFrame;
pub use plain::{explain, read};
pub use server::{Allow, Limits, Recovered, Registered, Tail, pong};
pub use state::{At, Patch, SetData};

/// The subprotocol that a client offers and the server selects.
pub const SUBPROTOCOL: &str = "pagewire.v1";
/// An offered subprotocol that starts with this carries the token.
pub const BEARER_SUBPROTOCOL: &str = "bearer.";
