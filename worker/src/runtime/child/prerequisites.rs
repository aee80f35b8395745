//! What the programs of a pool need before the first of them starts.
//!
//! Owns: waiting until an address can be connected. Never: what is behind it.

use std::io;

use pagewire_cluster::timing::Timing;
use tokio::net::{TcpStream, UnixStream};

use super::listener_address::ListenerAddress;

async fn connect(address: &ListenerAddress) -> io::Result<()> {
    match address {
        ListenerAddress::Tcp(address) => TcpStream::connect(address.as_str()).await.map(drop),
        ListenerAddress::Unix(path) => UnixStream::connect(path).await.map(drop),
    }
}

/// Waits until an address accepts a connection. Calls `missing` with the reason the first time that it does not.
pub(super) async fn connectable(address: &ListenerAddress, timing: &Timing, missing: impl Fn(String)) {
    let mut is_first = true;
    loop {
        let error = match tokio::time::timeout(timing.child_stop, connect(address)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        if std::mem::take(&mut is_first) {
            missing(format!("the start waits for {address}: {error}"));
        }
        tokio::time::sleep(timing.child_watch).await;
    }
}
