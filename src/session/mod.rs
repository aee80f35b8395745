//! Pages on this node: opening and resuming, the hub, outboxes, delivery.
//!
//! Owns: everything between a socket and the cluster. Never: a socket, HTTP, or what a command means.

mod access;
mod deliver;
mod handover;
mod hub;
mod login;
mod open;
mod outbox;
mod page;
mod rows;
mod sessions;
mod token;
mod topics;
mod unregister;
mod watching;

pub use deliver::{Pusher, PushReport};
pub use hub::{Hub, LocalPush};
pub use login::LoginError;
pub use open::{OpenRequest, Opened};
pub use outbox::Budget;
pub use page::{PushOutcome, Page, Membership, DrainOutcome, AttachmentId};
pub use sessions::{Options, Sessions};
pub use unregister::CloseOutcome;
pub use watching::{WatchStream, PageWatch, StateWatchers, exists, owner};
