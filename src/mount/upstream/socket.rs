//! The socket of a connection to an upstream.
//!
//! Owns: how an upstream is connected, and the two directions of its bytes. Never: HTTP.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio::time::sleep;
use tokio_util::either::Either;

use crate::config::UpstreamAddress;

/// Pause before another attempt to connect to a listener with a full backlog.
const FULL_BACKLOG: Duration = Duration::from_millis(10);

/// The bytes from an upstream.
pub(super) type UpstreamReader = Either<tcp::OwnedReadHalf, unix::OwnedReadHalf>;
/// The bytes to an upstream, which another task may write while a response is read.
pub(super) type UpstreamWriter = Either<tcp::OwnedWriteHalf, unix::OwnedWriteHalf>;

/// Connects to an upstream.
pub(super) async fn connect(address: &UpstreamAddress) -> io::Result<(UpstreamReader, UpstreamWriter)> {
    Ok(match address {
        UpstreamAddress::Tcp(authority) => {
            let port = authority.port_u16().unwrap_or(80);
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            (Either::Left(reader), Either::Left(writer))
        }
        UpstreamAddress::Unix(path) => {
            let (reader, writer) = connect_unix(path).await?.into_split();
            (Either::Right(reader), Either::Right(writer))
        }
    })
}

/// Connects to a Unix socket. A listener with a full backlog refuses at once there, so this tries again, as TCP does.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(FULL_BACKLOG).await,
            connected => return connected,
        }
    }
}

/// Leaves the direction to the upstream open until the other one is closed, because an upstream may take its end for a
/// client that has gone.
pub(super) fn leave_open(writer: UpstreamWriter) {
    match writer {
        Either::Left(writer) => writer.forget(),
        Either::Right(writer) => writer.forget(),
    }
}
