//! The Flask application of `examples/http-backend`, as its README starts it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Process, SOON, eventually, free_port};

/// The folder of the example.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/http-backend");

/// A running application. Ends with its test.
pub(crate) struct FlaskBackend {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl FlaskBackend {
    /// Starts the application with the Python that `FLASK_PYTHON` names, which has Flask.
    pub(crate) async fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let python = std::env::var_os("FLASK_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(python);
        command.args(["-m", "flask", "run", "--port", &address.port().to_string()]);
        command.current_dir(FOLDER).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut process = Process::start("the Flask application", &mut command, folder.path().join("log"));
        eventually("the Flask application listens", SOON, async || {
            if let Some(status) = process.ended() {
                panic!("the application ended: {status}: tests/run.py installs Flask and sets FLASK_PYTHON");
            }
            TcpStream::connect(address).await.ok()
        })
        .await;
        Self { address, _process: process, _folder: folder }
    }

    /// Returns the host and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
