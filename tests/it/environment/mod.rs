//! The processes that tests start, and the clients that connect to them.
//!
//! Owns: starting, signalling and ending processes, and waiting for their effects. Never: the expected behaviour, which
//! the tests define. Everything ends with the test; a failed test prints the logs.

mod api;
pub(crate) mod children;
mod cli;
mod collector;
mod dev;
mod events;
mod flask;
mod http_server;
pub(crate) mod mounts;
pub(crate) mod moving;
mod nats;
mod node;
mod opening;
mod page;
mod postgres;
mod process;
pub(crate) mod python;
pub(crate) mod releases;
pub(crate) mod site_socket;
pub(crate) mod store;
mod tap;
mod token;
mod upstream;
mod web_server;
mod wires;
mod worker;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub(crate) use self::api::Api;
pub(crate) use self::cli::{pagewire, pagewire_alone};
pub(crate) use self::collector::{CollectedSpan, Collector};
pub(crate) use self::dev::Dev;
pub(crate) use self::events::Events;
pub(crate) use self::flask::{FOLDER as FLASK_FOLDER, FlaskBackend};
pub(crate) use self::http_server::{HttpServer, ReceivedRequest};
pub(crate) use self::moving::MovingPage;
pub(crate) use self::nats::Nats;
pub(crate) use self::node::{Node, Setup};
pub(crate) use self::opening::{Opening, Refusal};
pub(crate) use self::page::{Away, Page};
pub(crate) use self::postgres::Postgres;
pub(crate) use self::process::Process;
pub(crate) use self::tap::Tap;
pub(crate) use self::token::{SECRET, Token};
pub(crate) use self::upstream::{RawConnection, Upstream, mirrored};
pub(crate) use self::web_server::{Application, WebServer, latin_1, venv};
pub(crate) use self::wires::Wires;
pub(crate) use self::worker::WorkerProcess;

/// Long enough for anything that happens soon, on a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Waits until `check` returns a value, and returns it. Panics after `within` with the name of the missing event.
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

/// Returns a port that no other test uses and no outgoing connection takes, because it is below the ephemeral range.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 100).unwrap_or(0) * 200;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
