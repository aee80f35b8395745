//! The clients of a measurement, in a separate process and on one thread.
//!
//! Owns: opening pages, counting and checking the frames they receive, and sending on request. Never: measuring, which
//! is done by the process that sends the requests.

mod api;
mod client;
mod counters;
mod frame;
mod moving_client;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use api::{ApiConnections, ApiRequests};
use client::Client;
use counters::Counters;
use futures_util::{StreamExt, TryStreamExt, stream};
use moving_client::MovingClient;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use crate::helper_protocol::{HelperRequest, HelperResponse, Manner, requests, unsupported_request};
use crate::report::Times;

/// The most concurrent handshakes.
const OPENING: usize = 64;
/// Number of frames after which a client acknowledges, like the real one.
pub(super) const ACK_EVERY: u64 = 32;
/// The most bytes of one read from a socket.
const READ: usize = 64 * 1024;

/// Serves requests until standard input ends.
pub(super) fn run() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, Clients::default().serve(requests()))
}

/// Blocks the only thread of the clients for a millisecond at a time, so that it polls its sockets instead of waking
/// for each frame.
async fn nap() {
    loop {
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
}

#[derive(Default)]
struct Clients {
    counters: Rc<Counters>,
    pages: Vec<Rc<Client>>,
    followers: JoinSet<()>,
    api: ApiConnections,
}

impl Clients {
    async fn serve(mut self, mut requests: mpsc::Receiver<io::Result<HelperRequest>>) -> io::Result<()> {
        while let Some(request) = requests.recv().await {
            let response = self.handle(request?).await;
            response.unwrap_or_else(|error| HelperResponse::Failed { reason: error.to_string() }).send()?;
        }
        Ok(())
    }

    async fn handle(&mut self, request: HelperRequest) -> io::Result<HelperResponse> {
        match request {
            HelperRequest::Open { address, tokens, manner: Manner::Moving } => {
                self.open_moving(address, tokens).await
            }
            HelperRequest::Moved { moves } => {
                Ok(HelperResponse::Aged { each: Times::of(self.counters.reach_moves(moves).await?) })
            }
            HelperRequest::Open { address, tokens, manner } => self.open(address, tokens, manner).await,
            HelperRequest::Close => {
                self.pages.clear();
                self.followers.shutdown().await;
                Ok(HelperResponse::Done)
            }
            HelperRequest::Expect { frames } => self.expect(frames).await,
            HelperRequest::Send { messages, payload } => self.send(messages, &payload).await,
            HelperRequest::Acknowledge => {
                self.pages.iter().try_for_each(|page| page.acknowledge())?;
                Ok(HelperResponse::Done)
            }
            HelperRequest::Request { frame, times, in_flight } => {
                self.send_requests(&frame, times, in_flight).await
            }
            HelperRequest::Connect { address, connections } => {
                self.api = ApiConnections::open(address, connections).await?;
                Ok(HelperResponse::Done)
            }
            HelperRequest::Post { path, body, api_key, times, users, rate } => {
                self.api.post(&ApiRequests { path, body, api_key, times, users, rate }).await
            }
            HelperRequest::Ages => Ok(HelperResponse::Aged { each: Times::of(self.counters.ages()) }),
            _ => Err(unsupported_request()),
        }
    }

    async fn open(
        &mut self,
        address: SocketAddr,
        tokens: Vec<String>,
        manner: Manner,
    ) -> io::Result<HelperResponse> {
        let ack_every = match manner {
            Manner::Prompt | Manner::Timed | Manner::Moving => ACK_EVERY,
            Manner::Patient => u64::MAX,
        };
        if manner == Manner::Patient {
            tokio::task::spawn_local(nap());
        }
        self.counters.note_ages(manner == Manner::Timed);
        let open = |(index, token): (usize, String)| async move {
            Client::open(index, address, &token).await.map(Rc::new)
        };
        let opening = stream::iter(tokens.into_iter().enumerate()).map(open).buffered(OPENING);
        let buffer = Rc::new(RefCell::new(vec![0; READ]));
        let follow = |client: Rc<Client>| {
            let (counters, buffer, follower) = (self.counters.clone(), buffer.clone(), client.clone());
            self.followers.spawn_local(async move {
                if let Err(error) = follower.follow(&counters, &buffer, ack_every).await {
                    counters.fail(&error);
                }
            });
            client
        };
        self.pages = opening.map_ok(follow).try_collect().await?;
        Ok(HelperResponse::Opened { pages: self.pages.iter().map(|client| client.page()).collect() })
    }

    async fn open_moving(&mut self, address: SocketAddr, tokens: Vec<String>) -> io::Result<HelperResponse> {
        let open = |(index, token): (usize, String)| MovingClient::open(index, address, token);
        let mut opening = stream::iter(tokens.into_iter().enumerate()).map(open).buffered(OPENING);
        let mut pages = Vec::new();
        while let Some(client) = opening.try_next().await? {
            pages.push(client.page());
            let counters = self.counters.clone();
            self.followers.spawn_local(async move {
                if let Err(error) = client.follow(counters.clone()).await {
                    counters.fail(&error);
                }
            });
        }
        Ok(HelperResponse::Opened { pages })
    }

    async fn expect(&self, frames: u64) -> io::Result<HelperResponse> {
        let (frames, bytes) = self.counters.reach(frames).await?;
        Ok(HelperResponse::Counted { frames, bytes })
    }

    /// Sends messages. Each causes two frames: the message at its target and the result at its sender.
    async fn send(&self, messages: u64, payload: &str) -> io::Result<HelperResponse> {
        let Some((sender, targets)) = self.pages.split_first() else {
            return Err(io::Error::other("there is no page to send from"));
        };
        let mut expected = self.counters.frames();
        for (id, target) in (0..messages).zip(targets.iter().cycle()) {
            let page = target.page();
            sender.send(&format!(
                r#"{{"type":"send","id":{id},"to":{{"page":"{page}"}},"payload":{payload}}}"#
            ))?;
            expected += 2;
            self.counters.reach(expected).await?;
        }
        self.expect(expected).await
    }
    /// Sends frames. Each has one reply, its result.
    async fn send_requests(&self, frame: &str, times: u64, in_flight: u64) -> io::Result<HelperResponse> {
        let before = self.counters.frames();
        for (id, page) in (0..times).zip(self.pages.iter().cycle()) {
            page.send(&frame.replace("{id}", &id.to_string()))?;
            self.counters.reach((before + id + 1).saturating_sub(in_flight.saturating_sub(1))).await?;
        }
        self.expect(before + times).await
    }
}
