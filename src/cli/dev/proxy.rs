//! One address for several nodes: connections go to one node after the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Accepts connections and passes each on to a node that accepts it. Returns only when the address cannot be used.
pub(super) async fn serve(listen: SocketAddr, nodes: Vec<SocketAddr>) -> io::Error {
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => return io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")),
    };
    let nodes = Arc::<[SocketAddr]>::from(nodes);
    for next in 0.. {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(pass_on(client, nodes.clone(), next))),
            Err(error) => return error,
        }
    }
    io::Error::other("too many connections")
}

/// Passes a connection on to the node whose turn it is, or to the next one that accepts it.
async fn pass_on(mut client: TcpStream, nodes: Arc<[SocketAddr]>, turn: usize) {
    for offset in 0..nodes.len() {
        if let Ok(mut node) = TcpStream::connect(nodes[(turn + offset) % nodes.len()]).await {
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
    use std::time::Duration;

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
        let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        tokio::spawn(serve(listen, nodes));
        let mut answers = String::new();
        while answers.len() < 6 {
            let Ok(mut client) = TcpStream::connect(listen).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            client.read_to_string(&mut answers).await.unwrap();
        }
        assert_eq!(answers, "abaaba");
    }
}
