//! Pages on this node: opening and resuming, the hub, outboxes, delivery.
//!
//! Owns: everything between a socket and the cluster. Never: a socket, HTTP, or the meaning of a command.

mod access;
mod close;
mod handover;
mod hub;
mod login;
mod open;
mod outbox;
mod page;
mod push;
mod rows;
mod sessions;
mod state_watch;
mod token;
mod topics;

pub use close::CloseOutcome;
pub use hub::{Hub, LocalPush};
pub use login::LoginError;
pub use open::{OpenRequest, Opened};
pub use outbox::Budget;
pub use page::{AttachmentId, DrainOutcome, Membership, Page, PushOutcome};
pub use push::{PushReport, Pusher};
pub use sessions::{Options, Sessions};
pub use state_watch::{PageWatch, StateWatchers, WatchStream, exists, owner};
