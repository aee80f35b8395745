//! A TCP proxy in front of one or several servers: the one address of a browser, and a network that fails under it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections through it end when it is cut, and new ones are refused until it is mended.
pub(super) struct Proxy {
    address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Proxy {
    pub(super) async fn start(server: SocketAddr) -> Self {
        Self::before(vec![server]).await
    }

    /// Each connection goes to the first of these servers that listens.
    pub(super) async fn before(servers: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (whole, watch) = watch::channel(true);
        let servers: Arc<[_]> = servers.into();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, servers.clone(), watch.clone()));
            }
        });
        Self { address, whole }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(super) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(mut client: TcpStream, servers: Arc<[SocketAddr]>, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let Some(mut server) = living(&servers).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}

async fn living(servers: &[SocketAddr]) -> Option<TcpStream> {
    for server in servers {
        if let Ok(stream) = TcpStream::connect(server).await {
            return Some(stream);
        }
    }
    None
}
