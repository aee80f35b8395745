//! Pagewire: a server for single-page applications, as a library.
//!
//! [`App`] is a program with handlers of its own; its handlers get a [`Ctx`] and end with a result or a [`Fail`].
//! A [`Page`] is the object of a page that is open.
//! [`Client`] is for programs that run no handlers, and [`testing::Cluster`] for tests. `docs/rust.md` is the guide.
//!
//! These types are the whole API of this crate: `tests/golden/public_api.txt` lists them. The modules below that are
//! hidden from the documentation are public only for the crates of this repository, and change without notice.

#[expect(unreachable_pub, reason = "its `pub` items are for the layers above it, as in the hidden modules")]
mod api;
mod cli;
mod mount;
mod sdk;
mod similar_name;
#[expect(unreachable_pub, reason = "its `pub` items are for the layers above it, as in the hidden modules")]
mod telemetry;
pub mod testing;

// for `bench`, which measures parts of a node, for `fuzz`, and for `tests/it`
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod calls;
#[doc(hidden)]
pub mod command;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod edge;
#[doc(hidden)]
pub mod pages;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod roles;

pub use cli::run_guard;
pub use mount::{MountBody, OwnMount};
pub use sdk::{
    App, BlockingCtx, Call, Change, Client, Ctx, Fail, Handle, Job, Jobs, Level, Lock, LockRequest,
    NodeError, PageClass, Reach, Reading, Recipient, RequestError, Stop, Submission, To, Tracked, Tree,
};
// inside the crate a `Page` is what a node knows of an open page
pub use sdk::ResidentPage as Page;
