//! gunicorn, granian and nginx as their users start them, without a node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{HttpServer, Process, ReceivedRequest, SOON, eventually, free_port};

/// Requests that a server for WSGI runs at a time.
const THREADS: &str = "32";

/// Returns the virtualenv with the servers of applications.
pub(crate) fn venv() -> PathBuf {
    let python = std::env::var_os("WSGI_PYTHON").map(PathBuf::from);
    let venv = python.as_deref().and_then(Path::parent).and_then(Path::parent);
    venv.expect("WSGI_PYTHON, which tests/run.py sets to a Python with gunicorn and others").to_owned()
}

/// A WSGI application.
pub(crate) struct Application<'a> {
    /// As `module:callable`.
    pub(crate) name: &'a str,
    pub(crate) directory: &'a str,
    /// Variables of its environment.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

/// A running server. Ends with its test.
pub(crate) struct WebServer {
    pub(crate) address: SocketAddr,
    process: Process,
    _folder: TempDir,
    /// The server behind nginx.
    _behind: Option<HttpServer>,
}

impl WebServer {
    /// Starts gunicorn with its threads.
    pub(crate) async fn gunicorn(application: &Application<'_>) -> Self {
        let port = free_port();
        let bind = format!("127.0.0.1:{port}");
        let mut command = python(application);
        command.args(["-m", "gunicorn", "-k", "gthread", "--threads", THREADS, "--no-control-socket"]);
        command.args(["--bind", &bind, application.name]);
        Self::start("gunicorn", command, port, tempfile::tempdir().expect("a folder"), None).await
    }

    /// Starts granian with its threads.
    pub(crate) async fn granian(application: &Application<'_>) -> Self {
        let port = free_port();
        let mut command = python(application);
        command.args(["-m", "granian", "--interface", "wsgi", "--blocking-threads", THREADS]);
        command.args(["--port", &port.to_string(), application.name]);
        Self::start("granian", command, port, tempfile::tempdir().expect("a folder"), None).await
    }

    /// Starts nginx as a proxy before a server that answers with what it has received, as `echo.py` does.
    pub(crate) async fn nginx() -> Self {
        let echo =
            HttpServer::start(|request| async move { (reqwest::StatusCode::OK, echo(&request)) }).await;
        let (port, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let here = folder.path().display();
        let temporary: String =
            temporary.iter().map(|name| format!("{name}_temp_path {here}/{name};\n")).collect();
        // one process, which a test ends by its id
        let file = format!(
            "daemon off;\nmaster_process off;\npid {here}/pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}server {{\nlisten 127.0.0.1:{port};\nlocation / {{\n\
             proxy_pass {};\nproxy_http_version 1.1;\nproxy_set_header Host $http_host;\n}}\n}}\n}}\n",
            echo.url()
        );
        let configuration = folder.path().join("nginx.conf");
        std::fs::write(&configuration, file).expect("a file");
        let program = std::env::var_os("NGINX").map_or_else(|| PathBuf::from("nginx"), PathBuf::from);
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(configuration).args(["-e", "stderr"]);
        Self::start("nginx", command, port, folder, Some(echo)).await
    }

    async fn start(
        name: &str,
        mut command: Command,
        port: u16,
        folder: TempDir,
        behind: Option<HttpServer>,
    ) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Process::start(name, &mut command, folder.path().join("log"));
        eventually(&format!("{name} listens"), SOON * 2, async || {
            if let Some(status) = process.ended() {
                panic!("{name} ended: {status}: {}", process.log());
            }
            TcpStream::connect(address).await.ok()
        })
        .await;
        Self { address, process, _folder: folder, _behind: behind }
    }
}

fn python(application: &Application<'_>) -> Command {
    let mut command = Command::new(venv().join("bin/python"));
    command.current_dir(application.directory).env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(application.environment.iter().copied());
    command
}

fn echo(request: &ReceivedRequest) -> Vec<u8> {
    let host = request.headers.get("host").and_then(|host| host.to_str().ok());
    let path: Vec<u8> = percent_encoding::percent_decode_str(&request.path).collect();
    json!({
        "method": request.method.as_str(),
        "path": latin_1(&path),
        "query": request.query,
        "host": host,
        "body": latin_1(&request.body),
    })
    .to_string()
    .into_bytes()
}

/// Returns a text with one character for each byte, as WSGI has them.
pub(crate) fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // a server ends its workers itself; killed, it would leave them
        if self.process.ended().is_some() {
            return;
        }
        self.process.signal(Signal::TERM);
        let start = Instant::now();
        while self.process.ended().is_none() && start.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
