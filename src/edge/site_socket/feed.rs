//! Fetches the news of a page of a Genropy site for its socket.
//!
//! Owns: when they are fetched: what was fetched is gone from the register, so something must have been received from the client just before.
//! Never: the socket.

use std::sync::Arc;
use std::time::Instant;

use pagewire_cluster::timing::Timing;

use tokio::sync::{mpsc, watch};

use super::Site;
use crate::mount::SitePage;

/// What a feed sends to its socket.
pub(super) enum ToSocket {
    /// A text for the client.
    News(String),
    /// Nothing has come from the client: it is pinged.
    Probe,
    /// Another socket has the page.
    Replaced,
}

/// Fetches the news of one page.
pub(super) struct Feed {
    pub(super) site: Arc<Site>,
    pub(super) page: SitePage,
    /// Leads to the socket.
    pub(super) to: mpsc::Sender<ToSocket>,
    /// When something was received last.
    pub(super) activity: watch::Receiver<Instant>,
    pub(super) timing: Timing,
}

impl Feed {
    /// Runs until another socket has the page.
    pub(super) async fn run(mut self) {
        let (replaced, to) = (self.page.replaced(), self.to.clone());
        tokio::select! {
            () = replaced => drop(to.send(ToSocket::Replaced).await),
            () = self.fetch_all() => {}
        }
    }

    async fn fetch_all(&mut self) {
        let mut after = 0;
        loop {
            let seen = self.page.published(after).await;
            self.present().await;
            // before news are fetched, so that they do not wait here for a socket that ends
            let Ok(place) = self.to.reserve().await else { return };
            let Site { mounts, mount, visitor } = &*self.site;
            match mounts.site_news(*mount, &self.page, seen, visitor).await {
                Ok(news) => {
                    after = seen;
                    if let Some(text) = news {
                        place.send(ToSocket::News(text));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "news of a page of a site were not fetched");
                    tokio::time::sleep(self.timing.site_retry).await;
                }
            }
        }
    }

    /// Returns when something was received from the client just now. A client that is silent is pinged.
    async fn present(&mut self) {
        let last = *self.activity.borrow_and_update();
        if last.elapsed() < self.timing.site_present {
            return;
        }
        let probe = self.to.send(ToSocket::Probe);
        // an error means that the socket is gone, and with it this task
        let _ = tokio::join!(probe, self.activity.changed());
    }
}
