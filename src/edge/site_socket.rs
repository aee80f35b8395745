//! The socket of a page of a Genropy site.
//!
//! Owns: the framework's protocol over this socket: `connected`, pings, and news. Never: where they come from, or
//! their content (`mount/site`).
//!
//! Two tasks serve a page: this one has the socket, and [`feed::Feed`] fetches news and passes them on.

mod command;
mod feed;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use self::command::SiteCommand;
use self::feed::{Feed, ToSocket};
use super::Edge;
use super::connection::closing;
use super::handshake;
use super::heartbeat::{Heartbeat, HeartbeatAction};
use super::listener::Peer;
use super::origin::OriginCheck;
use super::socket::{Disconnect, Flow, WebSocketStream};
use super::upgrade::{refusal, stream_of, switching};
use super::websocket::writer;
use crate::mount::{Mounts, SiteVisitor};
use crate::protocol::{Close, CloseCode};

/// The mount that a socket belongs to, and its client.
struct Site {
    mounts: Arc<Mounts>,
    mount: usize,
    visitor: SiteVisitor,
}

/// Responds to a handshake, and serves the socket after the response was sent. Only web pages of this server and programs may
/// open one: a browser sends the cookie of the site from any web page.
pub(super) fn upgrade(
    edge: Arc<Edge>,
    mounts: Arc<Mounts>,
    mount: usize,
    mut head: Parts,
    peer: Arc<Peer>,
) -> Response<Body> {
    let handshake = match handshake::read(&head) {
        Ok(handshake) => handshake,
        Err(status) => return refusal(status, &edge),
    };
    if edge.is_draining() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, &edge);
    }
    let origin = edge.origins.check(&head.headers);
    if matches!(origin, OriginCheck::Foreign | OriginCheck::ForeignHost) {
        edge.foreign_origins.report(&head.headers, Instant::now());
        return refusal(StatusCode::FORBIDDEN, &edge);
    }
    let Some(upgrade) = head.extensions.remove::<OnUpgrade>() else {
        return refusal(StatusCode::BAD_REQUEST, &edge);
    };
    let user = edge.user_of_mount(&head.headers);
    let visitor = SiteVisitor::new(head.headers, peer.client.clone(), user);
    edge.metrics.connections_opened.inc();
    tokio::spawn(async move {
        if let Some(wire) = stream_of(upgrade).await {
            serve(edge, wire, Arc::new(Site { mounts, mount, visitor })).await;
        }
        // the connection counts until here
        drop(peer);
    });
    switching(&handshake)
}

async fn serve(edge: Arc<Edge>, wire: Box<WebSocketStream>, site: Arc<Site>) {
    let timer = pin!(edge.heartbeats.timer());
    let draining = pin!(edge.heartbeats.draining());
    let heartbeat = Heartbeat::new(&edge.heartbeats, timer, draining);
    let (fed, news) = mpsc::channel(1);
    let activity = watch::Sender::new(Instant::now());
    let mut socket =
        SiteSocket { edge: &edge, site, wire, heartbeat, fed, news, activity, claimed: None, feed: None };
    let end = socket.run().await;
    // news that it fetches now would be lost
    socket.feed = None;
    edge.metrics.closed(end.code());
    tracing::debug!(?end, "the socket of a site ended");
    socket.wire.close(&end, edge.timing.close_timeout).await;
}

/// One socket.
struct SiteSocket<'node> {
    edge: &'node Edge,
    site: Arc<Site>,
    wire: Box<WebSocketStream>,
    heartbeat: Heartbeat<'node>,
    /// Leads to this socket.
    fed: mpsc::Sender<ToSocket>,
    news: mpsc::Receiver<ToSocket>,
    /// When something was received last.
    activity: watch::Sender<Instant>,
    /// The page that the client names.
    claimed: Option<String>,
    /// Fetches the news of the page; `None` while there is no such page.
    feed: Option<AbortOnDropHandle<()>>,
}

impl SiteSocket<'_> {
    async fn run(&mut self) -> Disconnect {
        match self.serve().await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Disconnect> {
        let greeted = tokio::time::sleep(self.edge.timing.hello);
        let mut greeted = pin!(greeted);
        loop {
            let Self { edge, wire, heartbeat, news, .. } = self;
            let (is_writable, mut texts) = (wire.is_writable(), Vec::new());
            tokio::select! {
                received = poll_fn(|cx| poll_socket(cx, edge, wire, heartbeat, &mut texts)) => {
                    if received? {
                        self.activity.send_replace(Instant::now());
                    }
                }
                Some(message) = news.recv(), if is_writable => self.pass_on(message)?,
                () = &mut greeted, if self.claimed.is_none() => {
                    return Err(Disconnect::Close(Close::new(CloseCode::Silent, "no page in time")));
                }
            }
            for text in texts {
                self.obey(&text).await?;
            }
        }
    }

    /// Passes on what the feed sends.
    fn pass_on(&mut self, message: ToSocket) -> Result<(), Disconnect> {
        match message {
            ToSocket::News(text) => self.send(&text),
            ToSocket::Probe => {
                self.wire.ping();
                self.wire.write(self.edge.timing.write_stall, |_| ())
            }
            ToSocket::Replaced => {
                Err(Disconnect::Close(Close::new(CloseCode::Replaced, "another socket holds this page")))
            }
        }
    }

    /// Obeys a command of the client.
    async fn obey(&mut self, text: &str) -> Result<(), Disconnect> {
        match SiteCommand::parse(text) {
            SiteCommand::Connected { page } => {
                self.claimed = Some(page);
                self.feed = None;
                self.follow().await;
                Ok(())
            }
            SiteCommand::Ping => {
                self.follow().await;
                self.send("pong")
            }
            SiteCommand::Ignored => Ok(()),
            SiteCommand::Refused { answer } => self.send(&answer),
        }
    }

    /// Begins to follow the page that the client names, when it exists.
    async fn follow(&mut self) {
        let Some(page) = self.claimed.as_deref().filter(|_| self.feed.is_none()) else { return };
        let Site { mounts, mount, visitor } = &*self.site;
        match mounts.site_page(*mount, page, visitor).await {
            Ok(Some(page)) => {
                let (site, to, activity) = (self.site.clone(), self.fed.clone(), self.activity.subscribe());
                let feed = Feed { site, page, to, activity, timing: self.edge.timing };
                self.feed = Some(AbortOnDropHandle::new(tokio::spawn(feed.run())));
            }
            Ok(None) => tracing::debug!("the client of a site names a page that is not its own"),
            // looked for again with the next ping
            Err(error) => tracing::debug!(%error, "a page of a site was not found"),
        }
    }

    fn send(&mut self, text: &str) -> Result<(), Disconnect> {
        self.wire.write(self.edge.timing.write_stall, |out| writer::text(out, &[text.as_bytes()]))
    }
}

/// Ready when bytes have arrived, with their texts, or when the socket can be written again or has to close. Returns whether
/// bytes have arrived.
fn poll_socket(
    cx: &mut Context<'_>,
    edge: &Edge,
    wire: &mut WebSocketStream,
    heartbeat: &mut Heartbeat<'_>,
    texts: &mut Vec<String>,
) -> Poll<Result<bool, Disconnect>> {
    match heartbeat.poll_action(cx) {
        Some(HeartbeatAction::Close(cause)) => {
            return Poll::Ready(Err(Disconnect::Close(closing(edge, cause))));
        }
        Some(HeartbeatAction::Ping) => {
            wire.ping();
            return Poll::Ready(wire.write(edge.timing.write_stall, |_| false));
        }
        None => {}
    }
    if let Poll::Ready(flows) = wire.poll_flow(cx) {
        return Poll::Ready(flows.map(|()| false));
    }
    // commands of a client that does not read its answers wait
    if !wire.is_writable() {
        return Poll::Pending;
    }
    let read = wire.poll_read(cx, edge.allowance, &mut |text| {
        texts.push(text.to_owned());
        Flow::Next
    });
    if read.is_ready() {
        heartbeat.record_activity();
    }
    read.map_ok(|()| true)
}
