//! A bare Python loop over a Unix socket, and its client.
//!
//! Owns: the process and the frames to it, with ids as in the child wire. Never: slots, time-outs or supervision.

use std::collections::HashMap;
use std::io;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::Style;
use crate::child;
use crate::scratch::{PATIENCE, scratch_directory};

/// The program, written into a file of a scratch directory.
const PROGRAM: &str = include_str!("bare.py");

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Box<RawValue>>>>>;

/// A bare loop that is connected.
pub(super) struct BareLoop {
    pub(super) pid: u32,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Waiting,
    next: AtomicU64,
    _child: Child,
    _directory: TempDir,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    value: Box<RawValue>,
}

impl BareLoop {
    /// Starts the loop and waits until it is connected.
    pub(super) async fn start(python: &str, style: Style) -> io::Result<Self> {
        let directory = scratch_directory()?;
        let (program, path) = (directory.path().join("bare.py"), directory.path().join("socket"));
        std::fs::write(&program, PROGRAM)?;
        let listener = UnixListener::bind(&path)?;
        let mut command = Command::new(python);
        command.arg(program).arg(style.name()).arg(path).stdin(Stdio::null());
        let child = child::start(command, None)?;
        let connected = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = connected.map_err(|_| io::Error::other("the bare loop does not connect"))??;
        let (reader, writer) = stream.into_split();
        let waiting = Waiting::default();
        tokio::spawn(receive(BufReader::with_capacity(64 * 1024, reader), waiting.clone()));
        Ok(Self {
            pid: child::pid(&child)?,
            writer: writer.into(),
            waiting,
            next: AtomicU64::new(1),
            _child: child,
            _directory: directory,
        })
    }

    /// Sends a call and waits for its value.
    pub(super) async fn call(&self, params: &RawValue) -> io::Result<Box<RawValue>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body =
            format!(r#"{{"t":"call","id":{id},"method":"echo","params":{params},"deadline_ms":30000}}"#);
        let frame = [&(body.len() as u32).to_be_bytes()[..], body.as_bytes()].concat();
        let (sender, value) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        self.writer.lock().await.write_all(&frame).await?;
        value.await.map_err(|_| io::Error::other("the bare loop has ended"))
    }
}

/// Hands each reply to its caller. Without the loop, all callers see its end.
async fn receive(mut reader: BufReader<OwnedReadHalf>, waiting: Waiting) {
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(length) = reader.read_u32().await {
        let mut body = vec![0; length as usize];
        let Ok(_) = reader.read_exact(&mut body).await else { break };
        let Ok(Reply { id, value }) = serde_json::from_slice(&body) else { break };
        let caller = lock().remove(&id);
        // an error means that the caller is gone
        let _ = caller.map(|caller| caller.send(value));
    }
    lock().clear();
}
