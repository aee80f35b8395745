//! The application of a mount that runs in processes of this server: `wsgi`, `asgi` and `command` of `[[mount]]`.
//!
//! Owns: their keys, their defaults and their check. Never: how a process is started (`roles`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use pagewire_worker::runtime::child::options::ListenerAddress;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::check::Problems;
use super::layer::keys;
use super::pool_limits::size;

/// Processes of an application.
const PROCESSES: u32 = 2;
/// Requests that one process of a WSGI application serves at a time: its threads.
const THREADS: u32 = 8;
/// Requests that one process with an event loop serves at a time: of an ASGI application, or a program.
const CONCURRENT: u32 = 256;
/// Requests that wait for a process.
const QUEUE: u32 = 1000;
/// How long a request waits for a process, in milliseconds.
const QUEUE_MS: u64 = 30_000;
/// How long a process may take until it is ready, in milliseconds.
const START_MS: u64 = 30_000;
/// The only application with a register.
const GENROPY: &str = "genropy";
/// Its own register answers, and the one that is kept here is asked as well and compared.
const SHADOW: &str = "shadow:genropy";
const DAY_S: u64 = 86_400;
/// Maximum number of processes.
pub(super) const MAX_PROCESSES: u32 = 256;

/// The keys of a mount whose application runs in processes of this server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountProcessConfig {
    /// The WSGI application, as `module:callable`; empty for none.
    pub wsgi: String,
    /// The ASGI application, as `module:callable`; empty for none.
    pub asgi: String,
    /// The handlers and resident pages that the processes run as well, as `module:name`; empty for none.
    pub app: String,
    /// The program and its arguments, which serves `http` of the mount; empty for none.
    pub command: Vec<String>,
    /// The path that the program answers when it is ready; empty: it is ready when it accepts a connection.
    pub health: String,
    /// The folder of the virtualenv; empty for the `python3` in `PATH`.
    pub venv: PathBuf,
    /// The working directory of the processes; empty for that of this process.
    pub directory: PathBuf,
    /// The server: `gunicorn`, `granian` or `uvicorn`; empty for the first that is installed.
    pub server: String,
    /// The folder of another virtualenv, in which the server is found if `venv` does not have it; empty for none.
    pub server_venv: PathBuf,
    /// The application whose register this server keeps in the place of the application's daemon: `genropy`, or
    /// `shadow:genropy` while the daemon answers and both are compared; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub register: String,
    /// The number of processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Requests that one process serves at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Requests that wait for a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// How long a request waits for a process, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<u64>,
    /// How long a process may take until it is ready, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<u64>,
    /// A process is replaced after so many requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// A process is replaced at this age, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u64>,
    /// A process is replaced when it occupies so many bytes of memory; written as a number, or with `K`, `M` or `G`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    pub max_rss: Option<u64>,
    /// Environment variables of the processes, in addition to those of this process.
    pub env: BTreeMap<String, String>,
    /// What has to accept connections before the first process starts: `tcp:HOST:PORT` or `unix:PATH`.
    pub needs: Vec<String>,
}

/// What runs in the processes of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountApplication<'a> {
    /// An application with one thread for each request, as `module:callable`.
    Wsgi(&'a str),
    /// An application with an event loop, as `module:callable`.
    Asgi(&'a str),
    /// A program that serves HTTP, with its arguments.
    Program(&'a [String]),
}

impl MountProcessConfig {
    /// Returns the application, if the mount has one.
    pub fn application(&self) -> Option<MountApplication<'_>> {
        match (self.wsgi.as_str(), self.asgi.as_str(), self.command.as_slice()) {
            ("", "", []) => None,
            ("", "", command) => Some(MountApplication::Program(command)),
            ("", asgi, _) => Some(MountApplication::Asgi(asgi)),
            (wsgi, _, _) => Some(MountApplication::Wsgi(wsgi)),
        }
    }

    /// Whether the register of a Genropy site is kept here.
    pub fn has_genropy_register(&self) -> bool {
        self.register == GENROPY
    }

    /// Whether a register is kept here that is only compared with that of the daemon of a Genropy site.
    pub fn has_genropy_shadow(&self) -> bool {
        self.register == SHADOW
    }

    /// Returns the number of processes.
    pub fn processes(&self) -> u32 {
        // an object of a page is in one process, and requests meet it there
        let default = if self.app.is_empty() { PROCESSES } else { 1 };
        self.processes.unwrap_or(default)
    }

    /// Returns how many requests one process serves at a time.
    pub fn threads(&self) -> u32 {
        let default = if self.wsgi.is_empty() { CONCURRENT } else { THREADS };
        self.threads.unwrap_or(default)
    }

    /// Returns how many requests wait for a process.
    pub fn queue(&self) -> u32 {
        self.queue.unwrap_or(QUEUE)
    }

    /// Returns how long a request waits for a process, in milliseconds.
    pub fn queue_ms(&self) -> u64 {
        self.queue_ms.unwrap_or(QUEUE_MS)
    }

    /// Returns how long a process may take until it is ready, in milliseconds.
    pub fn start_ms(&self) -> u64 {
        self.start_ms.unwrap_or(START_MS)
    }

    /// Returns what the processes need before they start.
    pub fn needs(&self) -> impl Iterator<Item = ListenerAddress> {
        self.needs.iter().filter_map(|text| ListenerAddress::parse(text))
    }

    /// Checks the keys of the mount at `path`.
    pub(super) fn check(&self, path: &str, found: &mut Problems) {
        let Some(application) = self.application() else {
            if let Some(key) = self.first_key() {
                let problem = format!(
                    "the mount {path:?} has no application: it has neither wsgi nor asgi nor command"
                );
                found.add(&format!("mount.{key}"), problem);
            }
            return;
        };
        if !(self.wsgi.is_empty() || self.asgi.is_empty()) {
            found.add("mount.asgi", format!("the mount {path:?} has both wsgi and asgi"));
        }
        let is_python = matches!(application, MountApplication::Wsgi(_) | MountApplication::Asgi(_));
        if is_python && !self.command.is_empty() {
            found.add("mount.command", format!("the mount {path:?} has an application in Python, too"));
        }
        match application {
            MountApplication::Wsgi(target) => {
                self.check_python("mount.wsgi", target, &["", "gunicorn", "granian"], found);
            }
            MountApplication::Asgi(target) => {
                self.check_python("mount.asgi", target, &["", "granian", "uvicorn"], found);
            }
            MountApplication::Program(command) => self.check_command(command, found),
        }
        if !self.register.is_empty() && self.wsgi.is_empty() {
            found.add("mount.register", "it is for wsgi");
        } else if !["", GENROPY, SHADOW].contains(&self.register.as_str()) {
            found.add("mount.register", format!("{:?} is not {GENROPY} or {SHADOW}", self.register));
        }
        self.check_limits(found);
    }

    fn check_python(&self, key: &str, target: &str, servers: &[&str], found: &mut Problems) {
        let is_target = |target: &str| {
            let (module, _) = target.split_once(':').unwrap_or((target, ""));
            !(module.is_empty() || module.contains(['/', ' ']) || target.starts_with('-'))
        };
        let app = Some(("mount.app", self.app.as_str())).filter(|(_, app)| !app.is_empty());
        for (key, target) in std::iter::once((key, target)).chain(app) {
            if !is_target(target) {
                found.add(key, format!("{target:?} is not of the form module:callable"));
            }
        }
        if !servers.contains(&self.server.as_str()) {
            found.add("mount.server", format!("{:?} is not {}", self.server, servers[1..].join(" or ")));
        }
    }

    fn check_command(&self, command: &[String], found: &mut Problems) {
        if command.iter().any(|argument| argument.contains('\0'))
            || command.first().is_none_or(String::is_empty)
        {
            found.add("mount.command", "it is a program with its arguments");
        }
        let of_python = [
            ("venv", self.venv != PathBuf::new()),
            ("server", !self.server.is_empty()),
            ("server_venv", self.server_venv != PathBuf::new()),
        ];
        for (key, is_set) in of_python {
            if is_set {
                found.add(&format!("mount.{key}"), "it is for wsgi and asgi, not for a command");
            }
        }
    }

    fn check_limits(&self, found: &mut Problems) {
        found.range("mount.processes", self.processes(), 1..=MAX_PROCESSES);
        found.range("mount.threads", self.threads(), 1..=4096);
        found.range("mount.queue", self.queue(), 0..=1_000_000);
        found.range("mount.queue_ms", self.queue_ms(), 0..=600_000);
        found.range("mount.start_ms", self.start_ms(), 100..=600_000);
        found.range("mount.max_requests", self.max_requests.unwrap_or(1), 1..=u64::MAX);
        found.range("mount.max_age_s", self.max_age_s.unwrap_or(1), 1..=366 * DAY_S);
        found.range("mount.max_rss", self.max_rss.unwrap_or(1 << 20), 1 << 20..=1 << 50);
        for text in self.needs.iter().filter(|text| ListenerAddress::parse(text).is_none()) {
            found.add(
                "mount.needs",
                format!("{text:?} is not of the form tcp:host:port or unix:/path/of/socket"),
            );
        }
        if !are_variables(&self.env) {
            found.add("mount.env", "the name of a variable is not empty and has no `=`");
        }
    }

    /// Returns a key that is set and has no meaning without an application.
    fn first_key(&self) -> Option<&'static str> {
        let keys = [
            ("app", !self.app.is_empty()),
            ("venv", self.venv != PathBuf::new()),
            ("directory", self.directory != PathBuf::new()),
            ("server", !self.server.is_empty()),
            ("server_venv", self.server_venv != PathBuf::new()),
            ("register", !self.register.is_empty()),
            ("processes", self.processes.is_some()),
            ("threads", self.threads.is_some()),
            ("queue", self.queue.is_some()),
            ("queue_ms", self.queue_ms.is_some()),
            ("start_ms", self.start_ms.is_some()),
            ("max_requests", self.max_requests.is_some()),
            ("max_age_s", self.max_age_s.is_some()),
            ("max_rss", self.max_rss.is_some()),
            ("env", !self.env.is_empty()),
            ("needs", !self.needs.is_empty()),
        ];
        keys.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }
}

/// Returns whether these can be variables of an environment.
pub(super) fn are_variables(env: &BTreeMap<String, String>) -> bool {
    !env.keys().any(|name| name.is_empty() || name.contains(['=', '\0']))
}

/// Returns the keys.
pub(super) fn known_keys() -> Table {
    let mut table = keys(&[
        "wsgi",
        "asgi",
        "app",
        "command",
        "health",
        "venv",
        "directory",
        "server",
        "server_venv",
        "register",
        "processes",
        "threads",
        "queue",
        "queue_ms",
        "start_ms",
        "max_requests",
        "max_age_s",
        "max_rss",
        "needs",
    ]);
    table.insert("env".to_owned(), Value::Table(Table::new()));
    table
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::load::load_text;
    use super::*;

    fn loaded(keys: &str) -> Result<Config, String> {
        load_text(&format!("[[mount]]\n{keys}"))
    }

    #[test]
    fn an_application_has_the_limits_of_its_kind() {
        let keys = "wsgi = \"site:application\"\nvenv = \"/srv/venv\"\nmax_rss = \"512M\"\n\
                    needs = [\"tcp:[::1]:40404\", \"unix:/run/a.sock\"]\nenv = { A = \"1\" }";
        let mount = loaded(keys).unwrap().mount.remove(0);
        let process = &mount.process;
        assert_eq!(process.application(), Some(MountApplication::Wsgi("site:application")));
        assert_eq!((process.processes(), process.threads(), process.max_rss), (2, 8, Some(512 << 20)));
        let needs: Vec<_> = process.needs().map(|address| address.to_string()).collect();
        assert_eq!(needs, ["tcp:[::1]:40404", "unix:/run/a.sock"]);
        assert_eq!(mount.timeout_ms(), None, "a request may take minutes");
        let asgi = loaded("asgi = \"api:app\"\nserver = \"uvicorn\"").unwrap().mount.remove(0).process;
        assert_eq!((asgi.application(), asgi.threads()), (Some(MountApplication::Asgi("api:app")), 256));
    }

    #[test]
    fn an_application_that_cannot_run_is_refused_with_its_key() {
        for (keys, problem) in [
            ("wsgi = \"a:b\"\nasgi = \"a:b\"", "both wsgi and asgi"),
            ("wsgi = \"a:b\"\nhttp = \"http://a\"", "mount.http"),
            ("http = \"http://a\"\nthreads = 2", "neither wsgi nor asgi"),
            ("wsgi = \"site/wsgi.py\"", "module:callable"),
            ("wsgi = \"a:b\"\nserver = \"uvicorn\"", "gunicorn or granian"),
            ("wsgi = \"a:b\"\nprocesses = 0", "mount.processes"),
            ("wsgi = \"a:b\"\nneeds = [\"40404\"]", "mount.needs"),
            ("wsgi = \"a:b\"\nmax_rss = \"much\"", "max_rss"),
            ("wsgi = \"a:b\"\nregister = \"redis\"", "\"redis\" is not genropy or shadow:genropy"),
            ("asgi = \"a:b\"\nregister = \"genropy\"", "it is for wsgi"),
            ("wsgi = \"a:b\"\nprocess = 2", "the nearest known one is mount.processes"),
        ] {
            let error = loaded(keys).unwrap_err();
            assert!(error.contains(problem), "{keys}: {error}");
        }
    }
}
