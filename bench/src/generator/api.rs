//! Sends requests to the server API over connections that stay open: as cheap as a client that checks every status can
//! be, because the pages beside it are as cheap.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::read_more;
use crate::helper_protocol::HelperResponse;
use crate::http_response::succeeded;
use crate::report::Times;
use crate::view::user;

/// The part of a body that the user replaces.
const USER: &str = "{user}";

/// The jobs or calls of one request of the measuring process.
#[derive(Debug)]
pub(super) struct ApiRequests {
    /// The path of the resource.
    pub(super) path: String,
    /// The JSON of a job or call, with `{user}` in it.
    pub(super) body: String,
    /// The bearer token of the requests.
    pub(super) api_key: String,
    /// The number of requests.
    pub(super) times: u64,
    /// The number of users that they belong to, in turn.
    pub(super) users: u64,
    /// Requests per second; without it, each connection sends as soon as it has the previous response.
    pub(super) rate: Option<u64>,
}

/// Open connections to one node.
#[derive(Default)]
pub(super) struct ApiConnections(Vec<ApiConnection>);

struct ApiConnection {
    stream: TcpStream,
    address: SocketAddr,
    input: Vec<u8>,
}

impl ApiConnections {
    /// Opens that many connections.
    pub(super) async fn open(address: SocketAddr, connections: u64) -> io::Result<Self> {
        let open = (0..connections).map(|_| ApiConnection::open(address));
        Ok(Self(try_join_all(open).await?))
    }

    /// Sends all requests, one at a time on each connection. Returns when each has its response.
    pub(super) async fn post(&mut self, requests: &ApiRequests) -> io::Result<HelperResponse> {
        if self.0.is_empty() {
            return Err(io::Error::other("there is no connection to send on"));
        }
        let next = Rc::new(Cell::new(0));
        let started = Instant::now();
        let lanes = self.0.iter_mut().map(|connection| connection.send(requests, next.clone(), started));
        let each = try_join_all(lanes).await?.concat();
        let seconds = started.elapsed().as_secs_f64();
        Ok(HelperResponse::Took { seconds, each: Times::of(each), batches: 0 })
    }
}

impl ApiConnection {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, input: Vec::new() })
    }

    /// Sends requests while there are any. Returns their times in microseconds.
    async fn send(
        &mut self,
        requests: &ApiRequests,
        next: Rc<Cell<u64>>,
        started: Instant,
    ) -> io::Result<Vec<f64>> {
        let mut each = Vec::new();
        loop {
            let number = next.get();
            if number >= requests.times {
                return Ok(each);
            }
            next.set(number + 1);
            if let Some(rate) = requests.rate {
                tokio::time::sleep_until(started + due(number, rate)).await;
            }
            let body = requests.body.replace(USER, &user(number % requests.users));
            let sent = Instant::now();
            self.post(requests, &body).await?;
            each.push(sent.elapsed().as_secs_f64() * 1e6);
        }
    }

    async fn post(&mut self, requests: &ApiRequests, body: &str) -> io::Result<()> {
        let (address, length) = (self.address, body.len());
        let ApiRequests { path, api_key, .. } = requests;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {api_key}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            match succeeded(&self.input, "20")? {
                Some(length) => break drop(self.input.drain(..length)),
                None => read_more(&self.stream, &mut self.input).await?,
            }
        }
        Ok(())
    }
}

/// Returns the time of a request since the first one.
fn due(number: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(number as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_due_at_equal_intervals() {
        assert_eq!([0, 1, 500].map(|number| due(number, 500).as_millis()), [0, 2, 1000]);
    }
}
