//! One address for several nodes: connections go to one node after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Pause after a connection that was not accepted, for example because the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections and passes each on to a node that accepts it. Never returns.
pub(super) async fn serve(listener: TcpListener, nodes: Vec<SocketAddr>) {
    let nodes = Arc::<[SocketAddr]>::from(nodes);
    let mut turn: usize = 0;
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(pass_on(client, nodes.clone(), turn))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        turn = turn.wrapping_add(1);
    }
}

/// Passes a connection on to the node whose turn it is, or to the next one that accepts it.
async fn pass_on(mut client: TcpStream, nodes: Arc<[SocketAddr]>, turn: usize) {
    for offset in 0..nodes.len() {
        if let Ok(mut node) = TcpStream::connect(nodes[(turn % nodes.len() + offset) % nodes.len()]).await {
            // both small: a frame must not wait for the next one
            let _ = (client.set_nodelay(true), node.set_nodelay(true));
            // an error means that one side has closed the connection
            let _ = copy_bidirectional(&mut client, &mut node).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn connections_go_to_one_node_after_the_other_and_a_node_that_is_gone_is_left_out() {
        let mut nodes = Vec::new();
        for name in ["a", "b"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            nodes.push(listener.local_addr().unwrap());
            tokio::spawn(async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    client.write_all(name.as_bytes()).await.unwrap();
                }
            });
        }
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        nodes.push(gone);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, nodes));
        let mut answers = String::new();
        while answers.len() < 6 {
            TcpStream::connect(listen).await.unwrap().read_to_string(&mut answers).await.unwrap();
        }
        assert_eq!(answers, "abaaba");
    }
}
