//! The clients as those who measure see them: pages that are open, and how many frames they have got.

use std::io;
use std::net::SocketAddr;

use pagewire_cluster::id::Address;

use crate::helper_process::{HelperProcess, unexpected};
use crate::helper_protocol::{HelperRequest, HelperResponse, Manner};
use crate::report::Times;

/// Open pages in a process of their own.
pub(crate) struct Clients {
    worker: HelperProcess,
    /// Their addresses, in the order of their tokens.
    pub(crate) pages: Vec<Address>,
    frames: u64,
    bytes: u64,
}

impl Clients {
    /// Opens one page per token.
    pub(crate) async fn open(
        address: SocketAddr,
        tokens: Vec<String>,
        manner: Manner,
        core: Option<usize>,
    ) -> io::Result<Self> {
        let mut clients = Self::none(core)?;
        clients.reopen(address, tokens, manner).await?;
        Ok(clients)
    }

    /// No page yet.
    pub(crate) fn none(core: Option<usize>) -> io::Result<Self> {
        let worker = HelperProcess::start(&["generator"], core)?;
        Ok(Self { worker, pages: Vec::new(), frames: 0, bytes: 0 })
    }

    /// Opens one page per token; none is open.
    pub(crate) async fn reopen(
        &mut self,
        address: SocketAddr,
        tokens: Vec<String>,
        manner: Manner,
    ) -> io::Result<()> {
        match self.worker.ask(&HelperRequest::Open { address, tokens, manner }).await? {
            HelperResponse::Opened { pages } => self.pages = pages,
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// Closes all sockets.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.worker.done(&HelperRequest::Close).await?;
        self.pages.clear();
        Ok(())
    }

    /// Their process.
    pub(crate) fn pid(&self) -> u32 {
        self.worker.pid()
    }

    /// That many more frames are about to come.
    pub(crate) async fn expect(&mut self, more: u64) -> io::Result<()> {
        self.worker.send(&HelperRequest::Expect { frames: self.frames + more }).await
    }

    /// Waits for what was expected; returns the bytes that came with it.
    pub(crate) async fn arrived(&mut self) -> io::Result<u64> {
        let answer = self.worker.answer().await?;
        self.count(&answer)
    }

    /// Every page acknowledges what it has got.
    pub(crate) async fn acknowledge(&mut self) -> io::Result<()> {
        match self.worker.ask(&HelperRequest::Acknowledge).await? {
            HelperResponse::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The first page sends to the others in turn.
    pub(crate) async fn send(&mut self, messages: u64, payload: String) -> io::Result<()> {
        let answer = self.worker.ask(&HelperRequest::Send { messages, payload }).await?;
        self.count(&answer).map(|_| ())
    }

    /// All pages in turn send this frame, with a number for `{id}`; returns when each has its result.
    pub(crate) async fn ask(&mut self, frame: String, times: u64, in_flight: u64) -> io::Result<()> {
        let answer = self.worker.ask(&HelperRequest::Ask { frame, times, in_flight }).await?;
        self.count(&answer).map(|_| ())
    }

    /// How old the messages were that have come since the last time, when the clients note that.
    pub(crate) async fn ages(&mut self) -> io::Result<Times> {
        match self.worker.ask(&HelperRequest::Ages).await? {
            HelperResponse::Aged { each } => Ok(each),
            other => Err(unexpected(&other)),
        }
    }

    fn count(&mut self, answer: &HelperResponse) -> io::Result<u64> {
        let HelperResponse::Counted { frames, bytes } = *answer else { return Err(unexpected(answer)) };
        let more = bytes - self.bytes;
        (self.frames, self.bytes) = (frames, bytes);
        Ok(more)
    }
}
