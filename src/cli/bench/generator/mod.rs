//! The clients of a measurement, in a process of their own and on one thread.
//!
//! Owns: opening pages, counting and checking what they get, sending when told to. Never: measuring; the process
//! that gives the orders does.

mod client;
mod frame;
mod tally;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use client::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use tally::Tally;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::order::{Answer, Manner, Order, misdirected, orders};
use super::report::Times;

/// Handshakes under way at a time.
const OPENING: usize = 64;
/// A client acknowledges after that many frames, like the real one.
pub(super) const ACK_EVERY: u64 = 32;
/// What is read from a socket at once.
const READ: usize = 64 * 1024;

/// Takes orders until standard input ends.
pub(super) fn run() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, Clients::default().serve(orders()))
}

/// The one thread of the clients sleeps, and not on their sockets, before it looks at them again.
async fn nap() {
    loop {
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
}

#[derive(Default)]
struct Clients {
    tally: Rc<Tally>,
    pages: Vec<Rc<Client>>,
}

impl Clients {
    async fn serve(mut self, mut orders: mpsc::Receiver<io::Result<Order>>) -> io::Result<()> {
        while let Some(order) = orders.recv().await {
            let answer = self.obey(order?).await;
            answer.unwrap_or_else(|error| Answer::Failed { reason: error.to_string() }).tell()?;
        }
        Ok(())
    }

    async fn obey(&mut self, order: Order) -> io::Result<Answer> {
        match order {
            Order::Open { address, tokens, manner } => self.open(address, tokens, manner).await,
            Order::Expect { frames } => self.expect(frames).await,
            Order::Send { messages, payload } => self.send(messages, &payload).await,
            Order::Acknowledge => {
                self.pages.iter().try_for_each(|page| page.acknowledge())?;
                Ok(Answer::Done)
            }
            Order::Ask { frame, times, in_flight } => self.ask(&frame, times, in_flight).await,
            Order::Ages => Ok(Answer::Aged { each: Times::of(self.tally.ages()) }),
            _ => Err(misdirected()),
        }
    }

    async fn open(&mut self, address: SocketAddr, tokens: Vec<String>, manner: Manner) -> io::Result<Answer> {
        let ack_every = match manner {
            Manner::Prompt | Manner::Timed => ACK_EVERY,
            Manner::Patient => u64::MAX,
        };
        if manner == Manner::Patient {
            tokio::task::spawn_local(nap());
        }
        self.tally.note_ages(manner == Manner::Timed);
        let open = |(index, token): (usize, String)| async move {
            Client::open(index, address, &token).await.map(Rc::new)
        };
        let opening = stream::iter(tokens.into_iter().enumerate()).map(open).buffered(OPENING);
        let buffer = Rc::new(RefCell::new(vec![0; READ]));
        let follow = |client: Rc<Client>| {
            let (tally, buffer, follower) = (self.tally.clone(), buffer.clone(), client.clone());
            tokio::task::spawn_local(async move {
                if let Err(error) = follower.follow(&tally, &buffer, ack_every).await {
                    tally.fail(&error);
                }
            });
            client
        };
        self.pages = opening.map_ok(follow).try_collect().await?;
        Ok(Answer::Opened { pages: self.pages.iter().map(|client| client.page()).collect() })
    }

    async fn expect(&self, frames: u64) -> io::Result<Answer> {
        let (frames, bytes) = self.tally.reach(frames).await?;
        Ok(Answer::Counted { frames, bytes })
    }

    /// Every message is two frames: itself at its target and the result at its sender.
    async fn send(&self, messages: u64, payload: &str) -> io::Result<Answer> {
        let Some((sender, targets)) = self.pages.split_first() else {
            return Err(io::Error::other("there is no page to send from"));
        };
        let mut expected = self.tally.frames();
        for (id, target) in (0..messages).zip(targets.iter().cycle()) {
            let page = target.page();
            sender.send(&format!(
                r#"{{"type":"send","id":{id},"to":{{"page":"{page}"}},"payload":{payload}}}"#
            ))?;
            expected += 2;
            self.tally.reach(expected).await?;
        }
        self.expect(expected).await
    }
    /// Every frame has one answer, its result.
    async fn ask(&self, frame: &str, times: u64, in_flight: u64) -> io::Result<Answer> {
        let before = self.tally.frames();
        for (id, page) in (0..times).zip(self.pages.iter().cycle()) {
            page.send(&frame.replace("{id}", &id.to_string()))?;
            self.tally.reach((before + id + 1).saturating_sub(in_flight.saturating_sub(1))).await?;
        }
        self.expect(before + times).await
    }
}
