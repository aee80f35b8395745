//! A program of any language that serves a mount: `command`, with the address in `http`.
//!
//! Owns: the placeholders of the address, and the check of these keys. Never: how a process is started (`roles`).

use http::uri::PathAndQuery;

use super::check::Problems;
use super::mount::{MountConfig, Upstream, UpstreamAddress, upstream};

/// The placeholder for the port of a process.
const PORT: &str = "{port}";
/// `http` of a program that listens on a private Unix socket.
const SOCKET: &str = "unix:{socket}";
/// The hosts that only this machine reaches.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// Where a program of a mount listens: `http` with a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramUpstream {
    /// The host of the ports; `None` for a private Unix socket.
    pub host: Option<String>,
    /// The path that replaces that of the mount, as in [`Upstream`].
    pub base: Option<String>,
}

impl MountConfig {
    /// Returns where the program of the mount listens; `None` without a program, and for an address that the check refuses.
    pub fn program(&self) -> Option<ProgramUpstream> {
        if self.process.command.is_empty() {
            return None;
        }
        if self.http == SOCKET {
            return Some(ProgramUpstream { host: None, base: None });
        }
        let (before, after) = self.http.split_once(PORT)?;
        let host = before.strip_prefix("http://")?.strip_suffix(':')?;
        let Upstream { address, base } = upstream(&format!("{before}1{after}"))?;
        let is_port = matches!(&address, UpstreamAddress::Tcp(address) if address.port_u16() == Some(1));
        (is_port && LOOPBACK.contains(&host)).then(|| ProgramUpstream { host: Some(host.to_owned()), base })
    }

    /// Checks the address of a program, and the keys that only a program has.
    pub(super) fn check_program(&self, found: &mut Problems) {
        let (path, process) = (&self.path, &self.process);
        if process.command.is_empty() {
            if !process.health.is_empty() {
                found.add("mount.health", format!("the mount {path:?} has no command"));
            }
            if self.http.contains(PORT) || self.http == SOCKET {
                let problem = "has a placeholder: it is for a mount with a command";
                found.add("mount.http", format!("{:?} {problem}", self.http));
            }
            return;
        }
        if self.program().is_none() {
            let problem = "is not of the form http://127.0.0.1:{port}, also with a path, or unix:{socket}: each process of \
                           a command has an address of its own, because a new one is ready before an old one ends";
            found.add("mount.http", format!("{:?} {problem}", self.http));
        }
        if self.upstream_host {
            let problem =
                format!("the mount {path:?} has a command, and no name that is the same for each process");
            found.add("mount.upstream_host", problem);
        }
        let is_path = process.health.starts_with('/') && process.health.parse::<PathAndQuery>().is_ok();
        if !(process.health.is_empty() || is_path) {
            found.add("mount.health", format!("{:?} is not a path such as /health", process.health));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::*;

    fn loaded(http: &str, keys: &str) -> Result<MountConfig, String> {
        let file = format!("[[mount]]\nhttp = \"{http}\"\n{keys}");
        load_text(&file).map(|mut config| config.mount.remove(0))
    }

    const COMMAND: &str = "command = [\"node\", \"server.js\"]";

    #[test]
    fn a_program_listens_on_a_private_socket_or_on_a_port_of_its_own() {
        for (http, host, base) in [
            ("unix:{socket}", None, None),
            ("http://127.0.0.1:{port}", Some("127.0.0.1"), None),
            ("http://[::1]:{port}/", Some("[::1]"), Some("")),
            ("http://localhost:{port}/base", Some("localhost"), Some("/base")),
        ] {
            let mount = loaded(http, COMMAND).unwrap();
            let expected = ProgramUpstream { host: host.map(str::to_owned), base: base.map(str::to_owned) };
            assert_eq!(mount.program(), Some(expected), "{http}");
            assert_eq!((mount.process.threads(), mount.timeout_ms()), (256, None));
        }
    }

    #[test]
    fn a_program_that_cannot_work_is_refused_with_its_key_and_the_reason() {
        let with = |keys: &str| format!("{COMMAND}\n{keys}");
        let port = "http://127.0.0.1:{port}";
        for (http, keys, problem) in [
            ("http://127.0.0.1:3000", with(""), "http://127.0.0.1:{port}"),
            ("unix:/run/a.sock", with(""), "unix:{socket}"),
            ("http://10.0.0.1:{port}", with(""), "mount.http"),
            ("http://127.0.0.1:{port}{port}", with(""), "mount.http"),
            ("http://127.0.0.1:1{port}", with(""), "mount.http"),
            ("http://127.0.0.1:{port}1", with(""), "mount.http"),
            ("", with(""), "mount.http"),
            (port, String::new(), "for a mount with a command"),
            ("unix:{socket}", String::new(), "for a mount with a command"),
            ("http://a", "health = \"/up\"".to_owned(), "has no command"),
            (port, with("health = \"up\""), "mount.health"),
            (port, with("upstream_host = true"), "mount.upstream_host"),
            (port, with("server = \"granian\""), "mount.server"),
            (port, with("venv = \"/srv/venv\""), "mount.venv"),
            (port, with("server_venv = \"/srv/venv\""), "mount.server_venv"),
            (port, with("static = \"dist\""), "mount.static"),
            (port, with("wsgi = \"a:b\""), "mount.command"),
            (port, with("threads = 0"), "mount.threads"),
            (port, "command = [\"\"]".to_owned(), "mount.command"),
        ] {
            let error = loaded(http, &keys).unwrap_err();
            assert!(error.contains(problem), "{http} {keys}: {error}");
        }
    }
}
