//! A program under check: its process, its socket, and every message that it has sent.
//!
//! Owns: sending any bytes, and waiting for a message or for the end. Never: whether a message is right.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use pagewire_cluster::wire::HandlerError;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::CheckOptions;
use super::case::{Deviation, ensure, failed};
use super::json::shown;
use super::raw_socket::RawSocket;
use crate::runtime::child::handshake::explained;
use crate::runtime::child::process::{Process, ending};
use crate::runtime::child::wire::{ChildMessage, Ready, ReportedFailure};

/// Time that the work of a case has, in milliseconds.
const DEADLINE_MS: u64 = 60_000;

/// A program that has connected.
pub(super) struct Program {
    pub(super) ready: Ready,
    /// The members of `ready`, as they were sent.
    pub(super) members: Value,
    /// The token that the program was given.
    pub(super) token: String,
    /// How much work it gets at a time.
    pub(super) slots: usize,
    /// The messages since the case began.
    pub(super) messages: Vec<ChildMessage>,
    /// How long an answer may take.
    pub(super) within: Duration,
    process: Process,
    socket: RawSocket,
    next_id: u64,
}

/// How a piece of work has ended.
#[derive(Debug)]
pub(super) enum WorkEnd {
    Result(Value),
    Error(ReportedFailure),
    Stopped,
    Snooze(u64),
}

impl WorkEnd {
    /// Returns the work that a message ends.
    pub(super) fn id(message: &ChildMessage) -> Option<u64> {
        match message {
            ChildMessage::Result { id, .. }
            | ChildMessage::Error { id, .. }
            | ChildMessage::Stopped { id }
            | ChildMessage::Snooze { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Returns the work that a message ends, and how.
    pub(super) fn of(message: &ChildMessage) -> Option<(u64, Self)> {
        match message {
            // never an error: it is part of a message that was parsed
            ChildMessage::Result { id, value } => {
                Some((*id, Self::Result(serde_json::from_str(value.get()).unwrap_or_default())))
            }
            ChildMessage::Error { id, failure } => Some((*id, Self::Error(failure.clone()))),
            ChildMessage::Stopped { id } => Some((*id, Self::Stopped)),
            ChildMessage::Snooze { id, after_ms } => Some((*id, Self::Snooze(*after_ms))),
            _ => None,
        }
    }
}

impl fmt::Display for WorkEnd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Result(value) => write!(out, "the result {}", shown(value)),
            Self::Error(failure) => {
                write!(out, "the error {}: {}", failure.error.code, failure.error.message)
            }
            Self::Stopped => write!(out, "stopped"),
            Self::Snooze(after_ms) => write!(out, "snooze for {after_ms} ms"),
        }
    }
}

/// Returns the frame of a message.
pub(super) fn frame(message: &Value) -> Vec<u8> {
    framed(message.to_string().as_bytes())
}

/// Returns the frame of a body.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

impl Program {
    /// Reads the first message of a program that has connected.
    pub(super) async fn introduced(
        mut process: Process,
        stream: UnixStream,
        token: &str,
        slots: usize,
        options: &CheckOptions,
    ) -> Result<Self, Deviation> {
        let mut socket = RawSocket::new(stream);
        let body = match timeout(options.start, socket.next_body()).await {
            Ok(received) => received?,
            Err(_) => return Err(failed(explained("ready did not come in time", &process.log))),
        };
        let Some(body) = body else { return Err(closed(&mut process, "ready", options.within).await) };
        let ChildMessage::Ready(ready) = ChildMessage::parse(&body)? else {
            return Err(failed("its first message is not ready"));
        };
        process.set_process(ready.pid);
        Ok(Self {
            slots: ready.slots.map_or(slots, |own| (own as usize).clamp(1, slots)),
            ready,
            // never an error: it was parsed
            members: serde_json::from_slice(&body).unwrap_or_default(),
            token: token.to_owned(),
            messages: Vec::new(),
            within: options.within,
            process,
            socket,
            next_id: 1,
        })
    }

    /// Returns whether the program has a handler.
    pub(super) fn has(&self, method: &str) -> bool {
        self.ready.methods.iter().any(|known| known.name == method)
    }

    /// Returns whether a process is the program or was started by it.
    pub(super) fn is_own(&self, pid: u32) -> bool {
        self.process.has_started(pid)
    }

    // what the supervisor does

    pub(super) fn send(&self, message: &Value) {
        self.send_bytes(&frame(message));
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) {
        self.socket.send(bytes);
    }

    /// Returns an id for a message.
    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends a call and returns its id.
    pub(super) fn call(&mut self, method: &str, params: &Value) -> u64 {
        let id = self.id();
        self.send(&call(id, method, params));
        id
    }

    /// Sends a job and returns its id. `attempt` and `left` are as in the message.
    pub(super) fn job(&mut self, method: &str, params: &Value, attempt: u32, left: u32) -> u64 {
        let id = self.id();
        self.send(&json!({
            "t": "job", "id": id, "job": format!("check-{id}"), "method": method, "params": params,
            "attempt": attempt, "left": left, "timeout_ms": DEADLINE_MS, "user": "ann",
        }));
        id
    }

    pub(super) fn cancel(&self, id: u64, why: &str) {
        self.send(&json!({"t": "cancel", "id": id, "why": why}));
    }

    /// Ends the socket in both directions, as the end of a supervisor does.
    pub(super) fn hang_up(&self) {
        self.socket.hang_up();
    }

    /// Sends a signal to the process that `ready` names.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Deviation> {
        let own = self.is_own(self.ready.pid).then(|| i32::try_from(self.ready.pid).ok()).flatten();
        let sent = own.and_then(Pid::from_raw).is_some_and(|pid| kill_process(pid, signal).is_ok());
        ensure(sent, || "the pid of ready is no process of the program".to_owned())
    }

    /// Sends SIGTERM to the process group of the program.
    pub(super) async fn terminate(&mut self) {
        self.process.terminate().await;
    }

    /// Kills the program and waits until it is gone.
    pub(super) async fn kill(mut self) {
        self.process.kill().await;
    }

    // what the program does

    /// Waits for a message since the case began.
    pub(super) async fn wait<T>(
        &mut self,
        what: &str,
        find: impl Fn(&ChildMessage) -> Option<T>,
    ) -> Result<T, Deviation> {
        self.wait_after(0, what, find).await
    }

    /// Waits for a message after the first `known` ones of the case.
    pub(super) async fn wait_after<T>(
        &mut self,
        known: usize,
        what: &str,
        find: impl Fn(&ChildMessage) -> Option<T>,
    ) -> Result<T, Deviation> {
        if let Some(found) = self.messages[known.min(self.messages.len())..].iter().find_map(&find) {
            return Ok(found);
        }
        let deadline = Instant::now() + self.within;
        loop {
            let message = self.receive(what, deadline).await?;
            let found = find(&message);
            self.messages.push(message);
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Receives the next message, which is not kept. `what` is expected, for the reason if nothing comes.
    pub(super) async fn receive(&mut self, what: &str, deadline: Instant) -> Result<ChildMessage, Deviation> {
        let body = self.body(what, deadline).await?;
        Ok(ChildMessage::parse(&body)?)
    }

    async fn body(&mut self, what: &str, deadline: Instant) -> Result<BytesMut, Deviation> {
        match timeout_at(deadline, self.socket.next_body()).await {
            Ok(Ok(Some(body))) => Ok(body),
            Ok(Ok(None)) => Err(closed(&mut self.process, what, self.within).await),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(failed(format!("{what} did not come in time"))),
        }
    }

    /// Waits for the end of a piece of work.
    pub(super) async fn end(&mut self, id: u64) -> Result<WorkEnd, Deviation> {
        let end = |message: &ChildMessage| {
            (WorkEnd::id(message) == Some(id)).then(|| WorkEnd::of(message)).flatten()
        };
        Ok(self.wait("the end of its work", end).await?.1)
    }

    /// Waits for the result of a piece of work.
    pub(super) async fn result(&mut self, id: u64) -> Result<Value, Deviation> {
        match self.end(id).await? {
            WorkEnd::Result(value) => Ok(value),
            end => Err(failed(format!("the work ended with {end}, not with a result"))),
        }
    }

    /// Waits for the error of a piece of work, and checks that it has a code and a message.
    pub(super) async fn error(&mut self, id: u64) -> Result<ReportedFailure, Deviation> {
        match self.end(id).await? {
            WorkEnd::Error(failure) => {
                let HandlerError { code, message, .. } = &failure.error;
                let complete = !code.is_empty() && !message.is_empty();
                ensure(complete, || {
                    format!("an error has a code and a message, not {code:?} and {message:?}")
                })?;
                Ok(failure)
            }
            end => Err(failed(format!("the work ended with {end}, not with an error"))),
        }
    }

    /// Waits until the program has answered everything that it does not run any more: a ping after it is answered.
    pub(super) async fn settle(&mut self) -> Result<(), Deviation> {
        let known = self.messages.len();
        self.send(&json!({"t": "ping"}));
        let pong = |message: &ChildMessage| matches!(message, ChildMessage::Pong { .. }).then_some(());
        self.wait_after(known, "pong", pong).await
    }

    /// Checks that a piece of work has had one end, and no message after it.
    pub(super) async fn one_end(&mut self, id: u64) -> Result<(), Deviation> {
        self.end(id).await?;
        self.settle().await?;
        let ends = self.messages.iter().filter(|message| WorkEnd::id(message) == Some(id)).count();
        ensure(ends == 1, || format!("the work {id} has {ends} ends"))
    }

    /// Waits until the program has exited, and returns its exit code; that of a signal is 128 and its number.
    pub(super) async fn exit(&mut self) -> Result<i32, Deviation> {
        let deadline = Instant::now() + self.within;
        // a program that still writes is not blocked by this side
        while let Ok(Ok(Some(body))) = timeout_at(deadline, self.socket.next_body()).await {
            self.messages.push(ChildMessage::parse(&body)?);
        }
        match timeout_at(deadline, self.process.wait()).await {
            Ok(Some(status)) => Ok(status.code().unwrap_or_default()),
            Ok(None) => Err(failed("its guard was killed")),
            Err(_) => Err(failed("it did not exit in time")),
        }
    }
}

/// Returns why a message did not come: how the program has ended.
async fn closed(process: &mut Process, what: &str, within: Duration) -> Deviation {
    let reason = match timeout(within, process.wait()).await {
        Ok(status) => format!("{} before {what} came", ending(status)),
        Err(_) => format!("it closed its socket before {what} came"),
    };
    failed(explained(&reason, &process.log))
}

/// Returns a call.
pub(super) fn call(id: u64, method: &str, params: &Value) -> Value {
    json!({"t": "call", "id": id, "method": method, "params": params, "deadline_ms": DEADLINE_MS, "user": "ann"})
}
