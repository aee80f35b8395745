//! The start of a program that is checked.
//!
//! Owns: its socket, its `ready`, and the usual `welcome`. Never: whether `ready` is right, which cases decide.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::CheckOptions;
use super::case::{Deviation, failed};
use super::program::{Program, frame};
use crate::runtime::child::handshake::{ChildSocket, explained};
use crate::runtime::child::options::{ChildOptions, FreeAffinity, RecycleLimits};
use crate::runtime::child::private_directory::PrivateDirectory;
use crate::runtime::child::process::{Process, ending};
use crate::runtime::child::wire::{MAX_FRAME, PROTOCOL};

/// The most work that a program is given at a time.
const SLOTS: usize = 16;

/// Starts the program, as often as cases need it.
pub(super) struct Starter {
    pub(super) options: CheckOptions,
    child: ChildOptions,
    directory: PrivateDirectory,
    started: u64,
}

impl Starter {
    pub(super) fn new(options: CheckOptions) -> io::Result<Self> {
        let child = ChildOptions {
            pool: "check".to_owned(),
            lane: "stable".to_owned(),
            release: "check".to_owned(),
            worker: "check".to_owned(),
            command: options.command.clone(),
            env: BTreeMap::new(),
            directory: None,
            children: Vec::new(),
            slots: SLOTS as u32,
            start: options.start,
            recycle: RecycleLimits::default(),
            affinity: FreeAffinity::default(),
            methods: Vec::new(),
            http: None,
            program: None,
            needs: Vec::new(),
            applications: None,
        };
        Ok(Self { options, child, directory: PrivateDirectory::create("")?, started: 0 })
    }

    /// Starts the program and welcomes it.
    pub(super) async fn start(&mut self) -> Result<Program, Deviation> {
        let program = self.connect().await?;
        program.send_bytes(&frame(&welcome(&program)));
        Ok(program)
    }

    /// Starts the program and waits for its `ready`, which is not answered.
    pub(super) async fn connect(&mut self) -> Result<Program, Deviation> {
        self.started += 1;
        let not_started = |error: io::Error| failed(format!("it was not started: {error}"));
        let socket = ChildSocket::bind(&self.directory, self.started).map_err(not_started)?;
        let mut process = Process::start(&self.child, self.started, &socket.path, &socket.token, None)
            .map_err(not_started)?;
        let limit = self.options.start;
        let stream = tokio::select! {
            connected = timeout(limit, socket.listener.accept()) => match connected {
                Ok(accepted) => Ok(accepted.map_err(not_started)?.0),
                Err(_) => Err(format!("it did not connect within {} ms", limit.as_millis())),
            },
            status = process.wait() => Err(format!("{} before it connected", ending(status))),
        };
        match stream {
            Ok(stream) => Program::introduced(process, stream, &socket.token, SLOTS, &self.options).await,
            Err(reason) => {
                let reason = explained(&reason, &process.log);
                process.kill().await;
                Err(failed(reason))
            }
        }
    }
}

/// Returns the answer to `ready`.
pub(super) fn welcome(program: &Program) -> Value {
    json!({
        "t": "welcome", "protocol": PROTOCOL, "worker": "check", "pool": "check", "lane": "stable",
        "release": "check", "max_frame": MAX_FRAME, "heartbeat_ms": 10_000, "drain_ms": 30_000,
        "slots": program.slots,
    })
}
