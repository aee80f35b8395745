//! Programs that serve HTTP and do not speak the child wire: their guard speaks it for them.
//!
//! Owns: where such a program listens, when it is ready, and what its guard says on the wire. Never: the process (`guard`),
//! or requests of HTTP.
//!
//! A guard is above each program in any case and can send it signals, so the pool has children of one kind only: a guard
//! with an adapter sends `ready` when the program accepts connections, answers pings, and sends SIGTERM at `drain`. It is
//! a small process without a runtime, so all of this blocks.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::guard::report;
use super::http_socket::FEATURE;
use super::listener_address::ListenerAddress;
use super::wire::{MAX_FRAME, PROTOCOL};

/// First argument of a guard with an adapter.
pub(super) const ADAPT: &str = "--adapt";
/// What the guard knows from the supervisor and the program does not need.
pub(super) const OWN_VARIABLES: [&str; 2] = ["PAGEWIRE_SOCKET", "PAGEWIRE_TOKEN"];
/// Pause between two attempts to connect a program that starts.
const PAUSE: Duration = Duration::from_millis(20);
/// After this time, the log has the reason why a program is not ready yet.
const QUIET: Duration = Duration::from_secs(1);
/// How long a program may take to answer whether it is ready, before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);

/// A program that serves HTTP without speaking the child wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProgram {
    /// Where it listens.
    pub listens: ProgramListens,
    /// The path that it answers with a status below 500 when it is ready; `None`: it is ready when it accepts a connection.
    pub health: Option<String>,
}

/// Where a program listens. Each process has an address of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramListens {
    /// On the private Unix socket of its process.
    Socket,
    /// On a free port of this host.
    Port(String),
}

impl HttpProgram {
    /// Returns the address of a process; `socket` is the path of its private socket.
    ///
    /// # Errors
    ///
    /// When no port is free.
    pub(super) fn address(&self, socket: PathBuf) -> io::Result<ListenerAddress> {
        Ok(match &self.listens {
            ProgramListens::Socket => ListenerAddress::Unix(socket),
            ProgramListens::Port(host) => {
                let name = host.trim_start_matches('[').trim_end_matches(']');
                let port = TcpListener::bind((name, 0))?.local_addr()?.port();
                ListenerAddress::Tcp(format!("{host}:{port}"))
            }
        })
    }

    /// Returns what a guard has to start: the adapter with its arguments, and the program.
    pub(super) fn guarded(&self, command: &[String], slots: u32, address: &ListenerAddress) -> Vec<String> {
        let health = self.health.clone().unwrap_or_default();
        let own = [ADAPT.to_owned(), address.to_string(), health, slots.to_string()];
        own.into_iter().chain(command.iter().map(|argument| filled(argument, address))).collect()
    }

    /// Returns the environment of the program, with `PORT` or `SOCKET`.
    pub(super) fn environment(
        &self,
        env: &BTreeMap<String, String>,
        address: &ListenerAddress,
    ) -> BTreeMap<String, String> {
        let mut env: BTreeMap<_, _> =
            env.iter().map(|(name, value)| (name.clone(), filled(value, address))).collect();
        let name = if self.listens == ProgramListens::Socket { "SOCKET" } else { "PORT" };
        env.insert(name.to_owned(), placeholder(address).1);
        env
    }
}

/// Returns a text with the address of a process in the place of `{port}` or `{socket}`.
fn filled(text: &str, address: &ListenerAddress) -> String {
    let (name, value) = placeholder(address);
    text.replace(name, &value)
}

/// Returns the placeholder of an address, with the text that replaces it.
fn placeholder(address: &ListenerAddress) -> (&'static str, String) {
    match address {
        ListenerAddress::Tcp(address) => {
            ("{port}", address.rsplit(':').next().unwrap_or_default().to_owned())
        }
        ListenerAddress::Unix(path) => ("{socket}", path.to_string_lossy().into_owned()),
    }
}

/// The adapter of one program, in its guard.
pub(super) struct Adapter {
    address: ListenerAddress,
    /// Empty for none.
    health: String,
    slots: u32,
    wire: PathBuf,
    token: String,
}

impl Adapter {
    /// Reads the arguments after [`ADAPT`] and the environment. Returns the adapter with the program and its arguments.
    pub(super) fn parse(arguments: &[OsString]) -> Option<(Self, &[OsString])> {
        let [address, health, slots, program @ ..] = arguments else { return None };
        let this = Self {
            address: ListenerAddress::parse(address.to_str()?)?,
            health: health.to_str()?.to_owned(),
            slots: slots.to_str()?.parse().ok()?,
            wire: std::env::var_os(OWN_VARIABLES[0])?.into(),
            token: std::env::var(OWN_VARIABLES[1]).ok()?,
        };
        Some((this, program))
    }

    /// Speaks for a program from its start to its end.
    pub(super) fn run(self, program: Pid) {
        self.wait_until_ready();
        if let Err(error) = self.speak(program) {
            report(&format!("the connection to the supervisor has failed: {error}"));
            // an error means that the program has ended
            let _ = kill_process_group(program, Signal::KILL);
        }
    }

    /// Waits until the program is ready. The supervisor ends a start that takes too long.
    fn wait_until_ready(&self) {
        let (begun, mut reported) = (Instant::now(), String::new());
        while let Err(error) = self.probe() {
            let reason = error.to_string();
            if begun.elapsed() >= QUIET && reason != reported {
                report(&format!("the program does not answer at {} yet: {reason}", self.address));
                reported = reason;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Checks whether the program is ready.
    fn probe(&self) -> io::Result<()> {
        match &self.address {
            ListenerAddress::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str())?;
                stream.set_read_timeout(Some(ANSWER))?;
                self.ask(stream, address)
            }
            ListenerAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER))?;
                self.ask(stream, "localhost")
            }
        }
    }

    /// Asks a program that accepts connections whether it is ready.
    fn ask(&self, mut stream: impl Read + Write, host: &str) -> io::Result<()> {
        let path = &self.health;
        if path.is_empty() {
            return Ok(());
        }
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        // the version, a space and the status
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        match str::from_utf8(&head[9..]).ok().and_then(|status| status.parse::<u16>().ok()) {
            Some(..500) => Ok(()),
            Some(status) => Err(io::Error::other(format!("GET {path} is answered {status}"))),
            None => Err(io::Error::other(format!("GET {path} is not answered in HTTP"))),
        }
    }

    /// Sends `ready` and follows the supervisor until the connection ends.
    fn speak(&self, program: Pid) -> io::Result<()> {
        let mut wire = UnixStream::connect(&self.wire)?;
        let ready = json!({
            "t": "ready", "protocol": [PROTOCOL], "token": self.token, "pid": program.as_raw_nonzero(),
            "sdk": concat!("pagewire-adapter/", env!("CARGO_PKG_VERSION")), "methods": [], "slots": self.slots,
            "features": [FEATURE],
        });
        send(&mut wire, &ready)?;
        while let Some(message) = receive(&mut wire)? {
            match message["t"].as_str() {
                Some("ping") => send(&mut wire, &json!({"t": "pong"}))?,
                Some("drain") => {
                    // an error means that the program has ended
                    let _ = kill_process_group(program, Signal::TERM);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn send(wire: &mut UnixStream, message: &Value) -> io::Result<()> {
    let body = message.to_string();
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    wire.write_all(&[&length.to_be_bytes(), body.as_bytes()].concat())
}

/// Returns the next message; `None` when the supervisor has closed the connection.
fn receive(wire: &mut UnixStream) -> io::Result<Option<Value>> {
    let mut length = [0; 4];
    match wire.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut body = vec![0; length];
    wire.read_exact(&mut body)?;
    serde_json::from_slice(&body).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_its_own_port_in_its_arguments_and_its_environment() {
        let listens = ProgramListens::Port("127.0.0.1".to_owned());
        let program = HttpProgram { listens, health: Some("/health".to_owned()) };
        let address = ListenerAddress::Tcp("127.0.0.1:4000".to_owned());
        let command = ["node", "--port={port}", "{socket}"].map(str::to_owned);
        assert_eq!(
            program.guarded(&command, 8, &address),
            ["--adapt", "tcp:127.0.0.1:4000", "/health", "8", "node", "--port=4000", "{socket}"]
        );
        let env =
            program.environment(&BTreeMap::from([("BIND".to_owned(), "[::]:{port}".to_owned())]), &address);
        assert_eq!((env["PORT"].as_str(), env["BIND"].as_str()), ("4000", "[::]:4000"));
        let (one, other) = (program.address("/s".into()).unwrap(), program.address("/s".into()).unwrap());
        assert!(matches!(&one, ListenerAddress::Tcp(address) if address.starts_with("127.0.0.1:")));
        assert_ne!(one, other);
    }

    #[test]
    fn a_program_on_a_socket_is_told_its_path() {
        let program = HttpProgram { listens: ProgramListens::Socket, health: None };
        let address = program.address("/run/p/1.http".into()).unwrap();
        assert_eq!(filled("{socket}:{port}", &address), "/run/p/1.http:{port}");
        let env = program.environment(&BTreeMap::new(), &address);
        assert_eq!((env["SOCKET"].as_str(), env.get("PORT")), ("/run/p/1.http", None));
        assert_eq!(ListenerAddress::parse(&address.to_string()), Some(address));
    }
}
