//! The protocol between the processes of a measurement: one JSON value per line, over standard input and output.

use std::io::{self, Write};
use std::net::SocketAddr;

use pagewire_cluster::id::Address;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::plan::Plan;
use crate::report::Times;

/// A request to a helper process. Each has one response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HelperRequest {
    /// Clients: open one page per token, each on a socket of its own.
    Open { address: SocketAddr, tokens: Vec<String>, manner: Manner },
    /// Clients: respond with the gaps since the last such request, as soon as pages have moved that many times in total.
    Moved { moves: u64 },
    /// Clients: close all sockets.
    Close,
    /// Clients: respond as soon as that many sequenced frames have arrived in total.
    Expect { frames: u64 },
    /// Clients: acknowledge everything now.
    Acknowledge,
    /// Clients: the first page sends to the others in turn, each message after the result of the previous one.
    Send { messages: u64, payload: String },
    /// Clients: all pages in turn send this frame, in which a number replaces `{id}`; at most `in_flight` frames wait
    /// for their results.
    Request { frame: String, times: u64, in_flight: u64 },
    /// Clients: open connections to the server API, in the place of those that are open.
    Connect { address: SocketAddr, connections: u64 },
    /// Clients: send that many `POST` requests on these connections, one at a time on each. In `body`, the users in turn
    /// replace `{user}`. `rate`: requests per second.
    Post { path: String, body: String, api_key: String, times: u64, users: u64, rate: Option<u64> },
    /// Clients: return the ages of the messages since the last such request.
    Ages,
    /// The bare writer: write that many messages to every socket.
    Write { messages: u64 },
    /// The bare writer: read from every socket once.
    Read,
    /// A headless node: respond when its view has that many pages and, if `worker`, the pool has a worker.
    Meet { pages: u64, worker: bool },
    /// A headless node: send messages that carry their send time, to each target in turn.
    Push { to: Vec<Target>, bytes: u64, plan: Plan },
    /// A headless node: call workers. The bare engine: send requests to its echo.
    Call { payload: String, users: u64, plan: Plan },
    /// A headless node: submit jobs. The bare engine: write records and enqueue a work item for each.
    Submit { payload: String, users: u64, plan: Plan },
    /// The bare engine: enqueue work items without records.
    WorkItem { plan: Plan },
    /// The bare engine: serve requests and work items from now on.
    Serve { slots: u64 },
}

/// The target of a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    Page(Address),
    User(String),
}

/// How clients read and acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Manner {
    /// Reads at once and acknowledges like the real client.
    Prompt,
    /// Like `Prompt`, and records the age of each message that carries its send time.
    Timed,
    /// Reads every millisecond, as if there were a network in between, so that no sender pays for waking the clients.
    /// Acknowledges only on request.
    Patient,
    /// Moves to another node when its node asks for it. Acknowledges nothing.
    Moving,
}

/// A response of a helper process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HelperResponse {
    /// The bare writer waits for its sockets.
    Listening { address: SocketAddr },
    /// The request is done.
    Done,
    /// All pages are open.
    Opened { pages: Vec<Address> },
    /// The frames and bytes that have arrived in total.
    Counted { frames: u64, bytes: u64 },
    /// The total time, the times of the single operations, and the atomic batches that the process has sent to NATS since
    /// its start.
    Took { seconds: f64, each: Times, batches: u64 },
    /// The ages of messages.
    Aged { each: Times },
    /// The memory and the number of pages of a view.
    Grown { bytes: u64, pages: usize },
    /// The time of each query of a view, in microseconds.
    Timed { times: Vec<(String, f64)> },
    /// A client lost its page, missed a frame or received an error: the measurement is invalid.
    Failed { reason: String },
}

impl HelperResponse {
    /// Writes the response to the process that started this one.
    pub(crate) fn send(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(self)?)?;
        out.flush()
    }
}

/// Reads the requests from standard input until it ends.
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

/// Returns the error for a request that this role does not support.
pub(crate) fn unsupported_request() -> io::Error {
    io::Error::other("this is for another process")
}
