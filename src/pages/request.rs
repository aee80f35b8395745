//! The request of a socket for a page.
//!
//! Owns: what a socket brings. Never: the check of it.

use std::sync::Arc;

use crate::protocol::Hello;

/// Input of a socket that opens a page.
#[derive(Debug)]
pub struct OpenRequest {
    /// The first frame of the socket.
    pub hello: Hello,
    /// The authenticated user of the socket; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// The user agent of the browser.
    pub agent: String,
    /// Whether the rollout has led a new page here: not the client that cannot go anywhere else, nor the lack of nodes.
    pub is_placed: bool,
}
