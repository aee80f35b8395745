//! What a pool of handlers behind HTTP is made of.

use std::time::Duration;

/// Options of a pool of handlers behind HTTP. There is no `Debug`, because the secret must not come into a log.
#[derive(Clone)]
pub struct HttpOptions {
    /// Name of the pool.
    pub pool: String,
    /// The URL of the backend, to which all work is posted. It is trusted: it may lead to an address of a private
    /// network.
    pub url: String,
    /// The handlers that the backend has.
    pub methods: Vec<String>,
    /// Key of the signature of each request; empty: requests are not signed.
    pub secret: String,
    /// How long a piece of work may take; `None` for the default of calls and of jobs.
    pub timeout: Option<Duration>,
    /// Pieces of work at a time, which is how many idle connections are kept at most.
    pub slots: u32,
    /// The URL at which the backend reaches the listener of this process; empty: that of the listener. Without both, jobs
    /// report no progress.
    pub callback: String,
}
