//! Pages on this node: opening and resuming, the hub, outboxes, delivery.
//!
//! Owns: everything between a socket and the cluster. Never: a socket, HTTP, or the meaning of a command.
//!
//! [`Pages`] has the parts, each over the same [`PageStore`]: [`PageOpener`] uses [`PageMigrator`], and both use
//! [`PageCloser`]. A [`Page`] knows none of them.

mod access;
mod arrivals;
mod close;
mod ends;
mod hub;
mod incarnations;
mod login;
mod migrate;
mod open;
mod outbox;
mod page;
mod parts;
mod pins;
mod placement;
mod push;
mod refusal;
mod relocate;
mod request;
mod residents;
mod rewrite;
mod rows;
mod state_watch;
mod store;
mod takeover;
mod token;
mod topics;

pub use close::{CloseOutcome, PageCloser};
pub use ends::{PageEnds, SocketEnd};
pub use hub::{Hub, LocalPush};
pub use login::{LoginError, PageLogin};
pub use migrate::PageMigrator;
pub use open::{Opened, PageOpener};
pub use outbox::Budget;
pub use page::{
    AttachmentId, DrainOutcome, Membership, Page, PageWatch, PushOutcome, RunningCommand, set_knows_move,
};
pub use parts::Pages;
pub use placement::{PagePlace, PagePlacement};
pub use push::{PushReport, Pusher};
pub use relocate::PageRelocator;
pub use request::OpenRequest;
pub use residents::ResidentEvent;
pub use rewrite::RowRewriter;
pub use state_watch::{StateWatchers, WatchStream, exists, owner};
pub use store::{Options, PageStore};
pub use token::PageTokens;
pub use topics::PageTopics;
