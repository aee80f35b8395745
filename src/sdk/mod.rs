//! The library for programs with handlers of their own, and for programs that use the server API.
//!
//! Owns: the types of such programs, and how a typed function becomes a handler. Never: leases, claims, retries and
//! effects; a handler of this library goes through the same checks as that of a child process.

mod adapter;
mod app;
mod asker;
mod client;
mod ctx;
mod fail;
mod handle;
mod http_api;
mod jobs;
mod lock;
mod outgoing_call;
mod page_class;
mod page_objects;
mod params;
mod recipients;
mod tree;

pub use self::app::App;
pub use self::client::Client;
pub use self::ctx::{BlockingCtx, Ctx, Stop, Tracked};
pub use self::fail::{Fail, RequestError};
pub use self::handle::{Handle, NodeError};
pub use self::jobs::{Job, Jobs, Submission};
pub use self::lock::{Lock, LockRequest};
pub use self::outgoing_call::Call;
pub use self::page_class::{PageClass, ResidentPage};
pub use self::recipients::{Reach, Recipient, To};
pub use self::tree::{Change, Level, Reading, Tree};
