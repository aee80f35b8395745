//! Controls the client process: open pages, and the number of frames that they have received.

use std::io;
use std::net::SocketAddr;

use pagewire_cluster::id::Address;

use crate::helper_process::{HelperProcess, unexpected};
use crate::helper_protocol::{HelperRequest, HelperResponse, Manner};
use crate::report::Times;

/// Open pages in a separate process.
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
        match self.worker.request(&HelperRequest::Open { address, tokens, manner }).await? {
            HelperResponse::Opened { pages } => self.pages = pages,
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// Waits until pages have moved that many times in total. Returns the gaps since the last call.
    pub(crate) async fn moved(&mut self, moves: u64) -> io::Result<Times> {
        match self.worker.request(&HelperRequest::Moved { moves }).await? {
            HelperResponse::Aged { each } => Ok(each),
            other => Err(unexpected(&other)),
        }
    }

    /// Closes all sockets.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.worker.done(&HelperRequest::Close).await?;
        self.pages.clear();
        Ok(())
    }

    /// Returns the process id of the clients.
    pub(crate) fn pid(&self) -> u32 {
        self.worker.pid()
    }

    /// Announces how many more frames will arrive.
    pub(crate) async fn expect(&mut self, more: u64) -> io::Result<()> {
        self.worker.send(&HelperRequest::Expect { frames: self.frames + more }).await
    }

    /// Waits for the announced frames. Returns the bytes that arrived with them.
    pub(crate) async fn arrived(&mut self) -> io::Result<u64> {
        let response = self.worker.response().await?;
        self.count(&response)
    }

    /// Makes every page acknowledge the frames that it has received.
    pub(crate) async fn acknowledge(&mut self) -> io::Result<()> {
        match self.worker.request(&HelperRequest::Acknowledge).await? {
            HelperResponse::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes the first page send to the others in turn.
    pub(crate) async fn send(&mut self, messages: u64, payload: String) -> io::Result<()> {
        let response = self.worker.request(&HelperRequest::Send { messages, payload }).await?;
        self.count(&response).map(|_| ())
    }

    /// Makes all pages send this frame in turn, with a number for `{id}`. Returns when each has its result.
    pub(crate) async fn send_requests(
        &mut self,
        frame: String,
        times: u64,
        in_flight: u64,
    ) -> io::Result<()> {
        let response = self.worker.request(&HelperRequest::Request { frame, times, in_flight }).await?;
        self.count(&response).map(|_| ())
    }

    /// Opens connections to the server API, in the place of those that are open.
    pub(crate) async fn connect(&mut self, address: SocketAddr, connections: u64) -> io::Result<()> {
        self.worker.done(&HelperRequest::Connect { address, connections }).await
    }

    /// Sends requests on these connections. Returns the seconds until each has its response, and their times.
    pub(crate) async fn post(&mut self, requests: &HelperRequest) -> io::Result<(f64, Times)> {
        self.worker.took(requests).await
    }

    /// Returns the age of the messages that have arrived since the last call, if the clients record it.
    pub(crate) async fn ages(&mut self) -> io::Result<Times> {
        match self.worker.request(&HelperRequest::Ages).await? {
            HelperResponse::Aged { each } => Ok(each),
            other => Err(unexpected(&other)),
        }
    }

    fn count(&mut self, response: &HelperResponse) -> io::Result<u64> {
        let HelperResponse::Counted { frames, bytes } = *response else { return Err(unexpected(response)) };
        let more = bytes - self.bytes;
        (self.frames, self.bytes) = (frames, bytes);
        Ok(more)
    }
}
