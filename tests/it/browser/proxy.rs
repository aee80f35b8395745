//! A TCP proxy in front of one or several servers: the only address of a browser, and a network that fails.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connects each client to the first listening server of the current route. Connections end when the route changes.
pub(super) struct Proxy {
    address: SocketAddr,
    servers: Vec<SocketAddr>,
    route: watch::Sender<Vec<SocketAddr>>,
}

impl Proxy {
    pub(super) async fn start(servers: impl Into<Vec<SocketAddr>>) -> Self {
        let servers = servers.into();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (route, present) = watch::channel(servers.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, present.clone()));
            }
        });
        Self { address, servers, route }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Removes all routes.
    pub(super) fn cut(&self) {
        self.route.send_replace(Vec::new());
    }

    pub(super) fn mend(&self) {
        self.route.send_replace(self.servers.clone());
    }

    /// Routes all connections to this server.
    pub(super) fn lead_to(&self, server: SocketAddr) {
        self.route.send_replace(vec![server]);
    }
}

async fn carry(mut client: TcpStream, mut route: watch::Receiver<Vec<SocketAddr>>) {
    let servers = route.borrow_and_update().clone();
    let Some(mut server) = living(&servers).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = route.changed() => {}
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
