//! The servers beside the node: gunicorn with the application, and nginx.
//!
//! Owns: their files, processes and CPU time. Never: the node.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};

use crate::child;
use crate::scratch::{free_address, until};

/// The application. It computes, so that other requests of the process wait as those of a real one do.
const APPLICATION: &str = r#"
import os
import time

WORK = int(os.environ["BENCH_WORK_US"]) / 1e6
BODY = b"x" * 1000


def application(environ, start_response):
    until = time.perf_counter() + WORK
    while time.perf_counter() < until:
        pass
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
"#;

/// The application of a measurement.
#[derive(clap::Args)]
pub(super) struct ApplicationOptions {
    /// A Python interpreter whose virtualenv has gunicorn.
    #[arg(long)]
    pub(super) python: PathBuf,
    /// Microseconds that the application computes for a request.
    #[arg(long, default_value_t = 1_000)]
    pub(super) work_us: u64,
}

/// Writes the application into a folder.
pub(super) fn write_application(directory: &Path) -> io::Result<()> {
    std::fs::write(directory.join("application.py"), APPLICATION)
}

/// gunicorn with one worker of eight threads.
pub(super) struct Gunicorn {
    _child: Child,
}

impl Gunicorn {
    pub(super) async fn start(
        python: &Path,
        work_us: u64,
        directory: &Path,
        socket: &Path,
    ) -> io::Result<Self> {
        write_application(directory)?;
        let mut command = Command::new(python);
        command.args(["-m", "gunicorn", "-k", "gthread", "-w", "1", "--threads", "8", "--keep-alive", "75"]);
        command.args(["--log-level", "error", "--no-control-socket"]);
        command.args(["-b", &format!("unix:{}", socket.display()), "application:application"]);
        command.current_dir(directory).env("BENCH_WORK_US", work_us.to_string()).stdin(Stdio::null());
        let child = child::start(command, None)?;
        until("gunicorn", async || Ok(UnixStream::connect(socket).await.is_ok())).await?;
        Ok(Self { _child: child })
    }
}

/// nginx, in front of a socket or a folder.
pub(super) struct Nginx {
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
    _child: Child,
}

impl Nginx {
    /// Starts nginx in front of a socket; `None` if there is none.
    pub(super) async fn start(directory: &Path, socket: &Path) -> io::Result<Option<Self>> {
        let upstream = format!(
            "upstream application {{ server unix:{}; keepalive 16; keepalive_requests 1000000; }}\n",
            socket.display()
        );
        let location = "proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
             proxy_set_header X-Forwarded-Proto $scheme;\n";
        Self::launch(directory, &upstream, location).await
    }

    /// Starts nginx in front of a folder, whose files the kernel copies to the sockets; `None` if there is none.
    pub(super) async fn with_folder(directory: &Path, folder: &Path) -> io::Result<Option<Self>> {
        let location = format!("root {}; sendfile on; tcp_nopush on;\n", folder.display());
        Self::launch(directory, "", &location).await
    }

    async fn launch(directory: &Path, upstream: &str, location: &str) -> io::Result<Option<Self>> {
        let address = free_address()?;
        let folder = directory.join("nginx");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration(&folder, address, upstream, location))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(&folder).stdin(Stdio::null()).stderr(Stdio::null());
        let child = match child::start(command, None) {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        until("nginx", async || Ok(TcpStream::connect(address).await.is_ok())).await?;
        Ok(Some(Self { address, pid: child::pid(&child)?, _child: child }))
    }
}

fn configuration(folder: &Path, address: SocketAddr, upstream: &str, location: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; error_log stderr crit; pid {folder}/pid;\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;\n\
         uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; keepalive_requests 1000000; keepalive_timeout 600;\n\
         {upstream}server {{ listen {address}; location / {{ {location} }} }} }}\n"
    )
}
