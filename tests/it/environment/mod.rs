//! Everything a test starts: real processes and the clients that talk to them.
//!
//! Owns: starting, signalling and ending them, and waiting for what they do. Never: what they should do,
//! which is what the tests say. All of it dies with the test; a failed test shows the logs.

mod api;
mod cli;
mod events;
mod nats;
mod node;
mod opening;
mod page;
mod process;
mod token;
mod wires;
mod worker;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub(crate) use self::api::Api;
pub(crate) use self::cli::pagewire;
pub(crate) use self::events::Events;
pub(crate) use self::nats::Nats;
pub(crate) use self::node::{Node, Setup};
pub(crate) use self::opening::Refusal;
pub(crate) use self::page::{Away, Page};
pub(crate) use self::process::Process;
pub(crate) use self::token::Token;
pub(crate) use self::wires::Wires;
pub(crate) use self::worker::WorkerProcess;

/// Long enough for anything that should happen soon, on a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// The result of `check` as soon as it has one. Panics after `within`, saying what did not happen.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(start.elapsed() < within, "within {within:?} it did not happen that {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A port that no other test gets and that no outgoing connection takes: below the ephemeral range.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 100).unwrap_or(0) * 200;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
