//! The start of a child: its socket, its token, and its first message.
//!
//! Owns: how a program that has started becomes a child. Never: the work of a child.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::id::Key;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::split_method;
use subtle::ConstantTimeEq;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};

use super::frame_reader::FrameReader;
use super::http_socket::{self, HttpSocket};
use super::options::ChildOptions;
use super::private_directory::PrivateDirectory;
use super::process::{LogTail, Process, ending};
use super::wire::{
    ChildMessage, MAX_FRAME, Method, PROTOCOL, Ready, SupervisorMessage, Welcome, WireError, encode,
};
use crate::handlers::ObjectRole;

/// Maximum number of handlers of a child.
const MAX_METHODS: usize = 4096;
/// Maximum length of the name of a handler, in bytes.
const MAX_NAME: usize = 200;

/// Pause after a connection that was not accepted, because the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A program that is ready.
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) reader: FrameReader,
    pub(super) writer: OwnedWriteHalf,
    pub(super) pid: u32,
    pub(super) sdk: String,
    pub(super) slots: u32,
    /// The handlers by name.
    pub(super) methods: BTreeMap<String, Method>,
    /// Where it serves HTTP.
    pub(super) http: Option<Arc<HttpSocket>>,
}

/// A socket that one child may connect to. Its file is removed when this is dropped.
pub(super) struct ChildSocket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    pub(super) token: String,
}

impl ChildSocket {
    pub(super) fn bind(directory: &PrivateDirectory, number: u64) -> io::Result<Self> {
        let path = directory.path().join(number.to_string());
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, path, token: Key::random().to_string() })
    }
}

impl Drop for ChildSocket {
    fn drop(&mut self) {
        // an error means that the directory is gone
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Starts the program of a pool and waits until it is ready.
///
/// # Errors
///
/// The reason for people, with the last lines of its log.
pub(super) async fn start(
    options: &ChildOptions,
    timing: &Timing,
    directory: &PrivateDirectory,
    number: u64,
) -> Result<Started, String> {
    let failed = |error: io::Error| format!("{:?} was not started: {error}", options.command);
    let socket = ChildSocket::bind(directory, number).map_err(failed)?;
    let http = options.http.map(|_| HttpSocket::new(directory, number, options.program.as_ref()));
    let http = http.transpose().map_err(failed)?.map(Arc::new);
    let address = http.as_ref().map(|http| http.address());
    let mut process =
        Process::start(options, number, &socket.path, &socket.token, address).map_err(failed)?;
    let connected = tokio::select! {
        connected = accept(&socket, number) => Ok(connected),
        status = process.wait() => Err(format!("{} before it was ready", ending(status))),
        () = tokio::time::sleep(options.start) => {
            let at = options.program.as_ref().and(address).map(|address| format!(" at {address}"));
            let at = at.unwrap_or_default();
            Err(format!("it was not ready{at} within {} ms", options.start.as_millis()))
        }
    };
    let welcomed = match connected {
        Ok((ready, reader, mut writer)) => welcome(options, timing, &ready, &mut writer)
            .await
            .map(|(slots, methods)| (ready, reader, writer, slots, methods))
            .map_err(|WireError(reason)| reason),
        Err(reason) => Err(reason),
    };
    match welcomed {
        Ok((ready, reader, writer, slots, methods)) => {
            process.set_process(ready.pid);
            Ok(Started { process, reader, writer, pid: ready.pid, sdk: ready.sdk, slots, methods, http })
        }
        Err(reason) => {
            process.kill().await;
            Err(explained(&reason, &process.log))
        }
    }
}

/// Stands between a reason and the lines of the log.
pub(super) const LAST_LINES: &str = "; the last lines of its output:\n";

/// Returns a reason with the last lines of the log, if there are any.
pub(super) fn explained(reason: &str, log: &LogTail) -> String {
    match log.text() {
        text if text.is_empty() => reason.to_owned(),
        text => format!("{reason}{LAST_LINES}{text}"),
    }
}

/// Accepts connections until one sends the token. Never fails, so that another program cannot end the start.
async fn accept(socket: &ChildSocket, number: u64) -> (Ready, FrameReader, OwnedWriteHalf) {
    loop {
        let stream = match socket.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(child = number, %error, "a connection of a child is not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match read_ready(stream, &socket.token).await {
            Ok(ready) => return ready,
            Err(WireError(reason)) => tracing::warn!(child = number, reason, "a connection is refused"),
        }
    }
}

async fn read_ready(
    stream: UnixStream,
    token: &str,
) -> Result<(Ready, FrameReader, OwnedWriteHalf), WireError> {
    let (reader, writer) = stream.into_split();
    let mut reader = FrameReader::new(reader);
    let first = loop {
        if let Some(message) = reader.take(ChildMessage::parse)? {
            break message;
        }
        if !reader.receive().await? {
            return Err(WireError("the connection ended before ready".to_owned()));
        }
    };
    let ChildMessage::Ready(ready) = first else {
        return Err(WireError("the first message is not ready".to_owned()));
    };
    match bool::from(ready.token.as_bytes().ct_eq(token.as_bytes())) {
        true => Ok((ready, reader, writer)),
        false => Err(WireError("the token of ready is wrong".to_owned())),
    }
}

/// Checks the first message of a child and answers it. Returns its slots, and its handlers by name.
async fn welcome(
    options: &ChildOptions,
    timing: &Timing,
    ready: &Ready,
    writer: &mut OwnedWriteHalf,
) -> Result<(u32, BTreeMap<String, Method>), WireError> {
    let refused = |reason: String| Err(WireError(reason));
    if !ready.protocol.contains(&PROTOCOL) {
        return refused(format!(
            "it speaks the protocols {:?}; this release speaks {PROTOCOL}",
            ready.protocol
        ));
    }
    let handlers = ready.handlers()?;
    if handlers.len() > MAX_METHODS {
        return refused(format!("it has {} handlers; at most {MAX_METHODS}", handlers.len()));
    }
    let mut methods = BTreeMap::new();
    for method in handlers {
        if !(1..=MAX_NAME).contains(&method.name.len()) {
            return refused(format!("the name of a handler has 1 to {MAX_NAME} bytes: {:?}", method.name));
        }
        let class = (method.object != ObjectRole::None).then(|| split_method(&method.name).0);
        let is_named = |name: &String| *name == method.name || Some(name.as_str()) == class;
        if options.methods.is_empty() || options.methods.iter().any(is_named) {
            methods.insert(method.name.clone(), method);
        }
    }
    if let Some(missing) = options.methods.iter().find(|name| !methods.contains_key(*name)) {
        return refused(format!("it has no handler {missing}, which methods names"));
    }
    if options.http.is_some() && !ready.features.iter().any(|feature| feature == http_socket::FEATURE) {
        return refused("it does not serve HTTP".to_owned());
    }
    let slots = ready.slots.unwrap_or(options.slots).clamp(1, options.slots);
    let welcome = Welcome {
        protocol: PROTOCOL,
        worker: options.worker.clone(),
        pool: options.pool.clone(),
        lane: options.lane.clone(),
        release: options.release.clone(),
        max_frame: MAX_FRAME,
        heartbeat_ms: timing.child_ping.as_millis() as u64,
        drain_ms: timing.drain.as_millis() as u64,
        slots,
    };
    let frame = encode(&SupervisorMessage::Welcome(&welcome));
    // the names above are far smaller than a frame
    let frame = frame.map_err(|_| WireError("welcome is too large".to_owned()))?;
    writer.write_all(&frame).await.map_err(|error| WireError(error.to_string()))?;
    Ok((slots, methods))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(bytes: &[u8], token: &str) -> Result<Ready, WireError> {
        let (supervisor, mut child) = UnixStream::pair().unwrap();
        child.write_all(bytes).await.unwrap();
        child.shutdown().await.unwrap();
        read_ready(supervisor, token).await.map(|(ready, ..)| ready)
    }

    fn frame(body: &str) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body.as_bytes()].concat()
    }

    #[tokio::test]
    async fn only_a_ready_message_with_the_token_is_accepted() {
        let ready = r#"{"t":"ready","protocol":[1],"token":"abc","pid":7,"methods":[{"name":"echo"}]}"#;
        let accepted = received(&frame(ready), "abc").await.unwrap();
        assert_eq!((accepted.pid, accepted.methods[0].name.as_str()), (7, "echo"));
        for (bytes, reason) in [
            (frame(ready), "token"),
            (frame(r#"{"t":"pong"}"#), "first message"),
            (frame("[]"), "a message"),
            (vec![0x80, 0, 0, 0], "at most"),
            (frame(ready)[..20].to_vec(), "within a frame"),
            (Vec::new(), "before ready"),
        ] {
            let WireError(error) = received(&bytes, "other").await.unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
