//! Fetches the news of a page of a Genropy site for its socket.
//!
//! Owns: when they are fetched: what was fetched is gone from the register, so something must have been received from the client just before.
//! Never: the socket.

use std::sync::Arc;
use std::time::Instant;

use pagewire_cluster::timing::Timing;

use tokio::sync::{mpsc, watch};

use super::Site;
use crate::mount::{PageHold, SitePage};

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
    /// Runs until another socket has the page. Holds the page.
    pub(super) async fn run(mut self, _hold: PageHold) {
        let replaced = self.page.replaced();
        let to = self.to.clone();
        tokio::select! {
            () = replaced => drop(to.send(ToSocket::Replaced).await),
            () = fetch_all(&self.site, &self.page, &self.to, &mut self.activity, &self.timing) => {}
        }
    }
}

async fn fetch_all(
    site: &Site,
    page: &SitePage,
    to: &mpsc::Sender<ToSocket>,
    activity: &mut watch::Receiver<Instant>,
    timing: &Timing,
) {
    let Site { mounts, mount, visitor } = site;
    let mut after = 0;
    loop {
        let seen = page.published(after).await;
        present(to, activity, timing).await;
        match mounts.site_news(*mount, page, seen, visitor).await {
            Ok(news) => {
                after = seen;
                if let Some(text) = news
                    && to.send(ToSocket::News(text)).await.is_err()
                {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "news of a page of a site were not fetched");
                tokio::time::sleep(timing.site_retry).await;
            }
        }
    }
}

/// Returns when something was received from the client just now. A client that is silent is pinged.
async fn present(to: &mpsc::Sender<ToSocket>, activity: &mut watch::Receiver<Instant>, timing: &Timing) {
    let last = *activity.borrow_and_update();
    if last.elapsed() < timing.site_present {
        return;
    }
    let probe = to.send(ToSocket::Probe);
    // an error means that the socket is gone, and with it this task
    let _ = tokio::join!(probe, activity.changed());
}
