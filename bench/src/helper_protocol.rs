//! What the processes of a measurement say to each other: one JSON value per line, over standard input and output.

use std::io::{self, Write};
use std::net::SocketAddr;

use pagewire_cluster::id::Address;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::load::Plan;
use crate::report::Times;

/// A request to a helper process. Each has one response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HelperRequest {
    /// Clients: open one page per token, each on a socket of its own.
    Open { address: SocketAddr, tokens: Vec<String>, manner: Manner },
    /// Clients: close all sockets.
    Close,
    /// Clients: answer as soon as that many sequenced frames have come in all.
    Expect { frames: u64 },
    /// Clients: acknowledge everything now.
    Acknowledge,
    /// Clients: the first page sends to the others in turn, each message after the result of the one before.
    Send { messages: u64, payload: String },
    /// Clients: all pages in turn send this frame, which `{id}` stands in for the number of; at most `in_flight` wait for
    /// their results.
    Ask { frame: String, times: u64, in_flight: u64 },
    /// Clients: how old the messages were that have come since the last time.
    Ages,
    /// The bare writer: write that many messages to every socket.
    Write { messages: u64 },
    /// The bare writer: read from every socket once.
    Read,
    /// An entry: return when its view shows that many pages, and whether the pool has a worker.
    Meet { pages: u64, worker: bool },
    /// An entry: send messages that say when they were sent, to each target in turn.
    Push { to: Vec<Target>, bytes: u64, plan: Plan },
    /// An entry: call workers. The bare engine: ask its echo.
    Call { payload: String, users: u64, plan: Plan },
    /// An entry: submit jobs. The bare engine: write records and push a hint for each.
    Submit { payload: String, users: u64, plan: Plan },
    /// The bare engine: push hints without records.
    Hint { plan: Plan },
    /// The bare engine: answer requests and work on hints from now on.
    Serve { slots: u64 },
}

/// Who gets a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    Page(Address),
    User(String),
}

/// How clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Manner {
    /// At once, and they acknowledge like the real ones.
    Prompt,
    /// The same, and they note how old each message is that says when it was sent.
    Timed,
    /// Every millisecond, as if there were a network in between, so that no sender pays for waking them; and they
    /// acknowledge when they are told to.
    Patient,
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HelperResponse {
    /// The bare writer waits for its sockets.
    Listening { address: SocketAddr },
    /// Done.
    Done,
    /// All pages are open.
    Opened { pages: Vec<Address> },
    /// The frames and bytes that have come in all.
    Counted { frames: u64, bytes: u64 },
    /// How long all of it took, and each piece.
    Took { seconds: f64, each: Times },
    /// How old messages were.
    Aged { each: Times },
    /// A view and what it costs.
    Grown { bytes: u64, pages: usize },
    /// What questions to a view cost, in microseconds.
    Timed { times: Vec<(String, f64)> },
    /// A client lost its page, missed a frame or got an error: the measurement is worth nothing.
    Failed { reason: String },
}

impl HelperResponse {
    /// Says it to the process that started this one.
    pub(crate) fn send(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(self)?)?;
        out.flush()
    }
}

/// The requests on standard input, until it ends.
pub(crate) fn requests() -> mpsc::Receiver<io::Result<HelperRequest>> {
    let (sender, requests) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let request = line.and_then(|line| Ok(serde_json::from_str(&line)?));
            if sender.blocking_send(request).is_err() {
                break;
            }
        }
    });
    requests
}

/// The error for a request of another role.
pub(crate) fn unsupported_request() -> io::Error {
    io::Error::other("this is for another process")
}
