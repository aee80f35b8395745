//! The browser protocol, `pagewire.v1`: JSON text frames.
//!
//! Owns: the shapes of frames in both directions, and close codes. Never: sockets, authorization, or the effect of a
//! frame. A leaf: of the other modules it uses ids and data types only.

mod close;
mod data;
mod depth;
mod error;
mod frame;
mod frame_kind;
mod given_id;
mod hello;
mod job;
mod plain;
mod server;
mod state;

pub use close::{Close, CloseCode};
pub use data::encode_update;
pub use depth::{MAX_DEPTH, TOO_DEEP, is_too_deep};
pub use error::{CommandError, ErrorCode};
pub use frame::{
    AckFrame, AuthFrame, BroadcastSession, CallFrame, ChooseLane, ClientFrame, FrameId, InvalidFrame,
    SendFrame, SubmitJob, Subscribe, Target, Unsubscribe,
};
pub use given_id::GivenId;
pub use hello::{Hello, Resume};
pub use job::JobReference;
pub use plain::{explain, read};
pub use server::{Allow, FrameBody, FrameLimitsInfo, Registered, ResumeOutcome, pong};
pub use state::{PatchFrame, PathRef, SetData};

/// Subprotocol that a client offers and the server selects.
pub const SUBPROTOCOL: &str = "pagewire.v1";
/// Prefix of an offered subprotocol that carries the token.
pub const BEARER_SUBPROTOCOL: &str = "bearer.";
