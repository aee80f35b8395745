//! Proxies between one process and the servers of its cluster, which can be cut and can stall.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connected,
    /// Connections are open and transfer nothing.
    Still,
    /// Connections are closed, and new ones end at once.
    Cut,
}

/// One proxy address for each server. Ends with its test.
pub(crate) struct Wires {
    addresses: Vec<SocketAddr>,
    state: watch::Sender<State>,
}

impl Wires {
    pub(crate) async fn to(servers: &[SocketAddr]) -> Self {
        let (state, present) = watch::channel(State::Connected);
        let mut addresses = Vec::new();
        for &server in servers {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            addresses.push(listener.local_addr().expect("an address"));
            let present = present.clone();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(carry(client, server, present.clone()));
                }
            });
        }
        Self { addresses, state }
    }

    /// Returns the addresses in the format of `nats.urls`.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<String> = self.addresses.iter().map(|address| format!("nats://{address}")).collect();
        urls.join(",")
    }

    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    pub(crate) fn pause(&self) {
        self.state.send_replace(State::Still);
    }

    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Connected);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    if *state.borrow_and_update() == State::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    let (out, back) = (state.clone(), state.clone());
    tokio::select! {
        () = pump(from_client, to_server, out) => {}
        () = pump(from_server, to_client, back) => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn pump(
    mut from: ReadHalf<TcpStream>,
    mut to: WriteHalf<TcpStream>,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| *state != State::Still).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}
