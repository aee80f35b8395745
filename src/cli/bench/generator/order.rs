//! What the processes of a measurement say to each other: one JSON value per line, over standard input and output.

use std::io::{self, Write};
use std::net::SocketAddr;

use pagewire_cluster::id::Address;
use serde::{Deserialize, Serialize};

/// What a process is told to do. Each order has one answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Order {
    /// Clients: open one page per token, each on a socket of its own.
    Open { address: SocketAddr, tokens: Vec<String>, manner: Manner },
    /// Clients: answer as soon as that many sequenced frames have come in all.
    Expect { frames: u64 },
    /// Clients: acknowledge everything now.
    Acknowledge,
    /// Clients: the first page sends to the others in turn, each message after the result of the one before.
    Send { messages: u64, payload: String },
    /// The bare writer: write that many messages to every socket.
    Write { messages: u64 },
    /// The bare writer: read from every socket once.
    Read,
}

/// How clients read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Manner {
    /// At once, and they acknowledge like the real ones.
    Prompt,
    /// Every millisecond, as if there were a network in between, so that no sender pays for waking them; and they
    /// acknowledge when they are told to.
    Patient,
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Answer {
    /// The bare writer waits for its sockets.
    Listening { address: SocketAddr },
    /// Done.
    Done,
    /// All pages are open.
    Opened { pages: Vec<Address> },
    /// The frames and bytes that have come in all.
    Counted { frames: u64, bytes: u64 },
    /// A view and what it costs.
    Grown { bytes: u64, pages: usize },
    /// What questions to a view cost, in microseconds.
    Timed { times: Vec<(String, f64)> },
    /// A client lost its page, missed a frame or got an error: the measurement is worth nothing.
    Failed { reason: String },
}

impl Answer {
    /// Says it to the process that started this one.
    pub(in super::super) fn tell(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(self)?)?;
        out.flush()
    }
}
