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

pub use deliver::{Deliver, Outcome};
pub use hub::{Hub, Pushed};
pub use login::LoginError;
pub use open::{Open, Opened};
pub use outbox::Budget;
pub use page::{Met, Page, Place, Taken, Ticket};
pub use sessions::{Options, Sessions};
pub use unregister::Unregistered;
pub use watching::{Listener, Watch, Watching, exists, owner};
