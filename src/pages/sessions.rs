//! The pages of this node over time: detached sockets, expired resume windows, and a new number or incarnation of the
//! node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::id::{Address, Holder, Key, Scope};
use pagewire_cluster::keyring::Keyring;
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::registry::{PageEntry, PageRemoval, PageRow, Registry, RemovalKind};
use pagewire_cluster::timing::Timing;

use super::hub::{Hub, LastOf};
use super::outbox::Budget;
use super::page::{AttachmentId, Membership, Page};
use super::state_watch::StateWatchers;
use crate::protocol::{Allow, Close, CloseCode, FrameBody, FrameLimitsInfo};

/// The settings of a deployment for pages.
#[derive(Debug, Clone)]
pub struct Options {
    /// The lane of this node.
    pub lane: String,
    /// The release of this node.
    pub release: String,
    /// The maximum bytes that each page may keep.
    pub budget: Budget,
    /// How long a page without a socket stays.
    pub resume_window: Duration,
    /// The interval of WebSocket pings in milliseconds, sent to clients.
    pub ping_ms: u64,
    /// The frame limits that are sent to clients.
    pub limits: FrameLimitsInfo,
    /// The permissions of a page without a role, sent to clients.
    pub allow: Allow,
    /// The maximum number of pages of one user in the cluster.
    pub pages_per_user: usize,
}

/// The pages of this node and the operations that open, move and close them.
pub struct Sessions {
    pub(super) hub: Arc<Hub>,
    pub(super) registry: Registry,
    pub(super) lease: NodeLease,
    pub(super) keyring: Keyring,
    pub(super) post: PeerClient,
    pub(super) watching: StateWatchers,
    pub(super) timing: Timing,
    pub(super) options: Options,
    /// Earlier incarnations (epochs) of this node.
    pub(super) lives: Mutex<Vec<Holder>>,
    /// Rows are being written for a new incarnation of this node: some pages here may have no row yet.
    rehoming: AtomicBool,
}

impl Sessions {
    /// A node without pages.
    pub fn new(
        registry: Registry,
        lease: NodeLease,
        keyring: Keyring,
        post: PeerClient,
        watching: StateWatchers,
        timing: Timing,
        options: Options,
    ) -> Self {
        let hub = watching.hub();
        let (lives, rehoming) = (Mutex::default(), AtomicBool::default());
        Self { hub, registry, lease, keyring, post, watching, timing, options, lives, rehoming }
    }

    /// Detaches a socket: the page stays for the resume window, then leaves the cluster.
    pub fn detach(self: &Arc<Self>, page: &Arc<Page>, ticket: AttachmentId) {
        if page.detach(ticket) {
            self.keep_for_window(page, ticket);
        }
    }

    /// Keeps a page without a socket for the resume window, then removes it from the cluster.
    pub(super) fn keep_for_window(self: &Arc<Self>, page: &Arc<Page>, ticket: AttachmentId) {
        let (this, page) = (self.clone(), page.clone());
        tokio::spawn(async move {
            tokio::time::sleep(this.options.resume_window).await;
            if page.leave(Some(ticket), Close::new(CloseCode::Unregistered, ""))
                && let Some(last) = this.hub.remove(&page)
            {
                this.remove_from_cluster(&page, last, RemovalKind::Forget).await;
            }
        });
    }

    /// The keys that sign page tokens.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Rewrites the rows of all pages after this node has claimed a number again. The rows get the new incarnation; if
    /// the number has changed, the pages are notified of their new address. A page with a row that names another holder
    /// leaves this node. Returns when every page has its row.
    pub async fn rewrite_rows(&self, before: Holder, holder: Holder) {
        self.remember_life(before);
        self.rehoming.store(true, Ordering::Release);
        let mut pages = self.pages();
        loop {
            let mut left = Vec::new();
            for page in pages {
                match self.rehome_page(&page, holder).await {
                    Ok(()) if before.node != holder.node => {
                        let token = self.token(&page, page.standing().told, page.user().as_deref());
                        page.push_unsequenced(FrameBody::address(
                            Address { key: page.key(), node: holder.node },
                            &token,
                        ));
                    }
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, "page row not refreshed");
                        left.push(page);
                    }
                }
            }
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(self.timing.lease_renew).await;
            pages = left;
        }
        self.rehoming.store(false, Ordering::Release);
    }

    /// Rewrites the row of one page.
    ///
    /// # Errors
    ///
    /// The caller must retry on any error.
    async fn rehome_page(&self, page: &Arc<Page>, holder: Holder) -> Result<(), WriteError> {
        while page.is_owned() {
            let standing = page.standing();
            let row = self.row(holder, standing.generation, &page.place(), page.opened(), "");
            match self.registry.write(page.key(), &row, Precondition::Rev(standing.rev)).await {
                Ok(rev) => {
                    self.set_row_and_user(page, rev, standing.generation, standing.user);
                    break;
                }
                Err(WriteError::Conflict { .. }) => {
                    if !self.knows_better(page, &standing).await.map_err(|Unavailable| WriteError::Down)? {
                        return self.lost(page, holder, &row).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handles a row that this node finds missing or changed: it was swept while the node was away, or won by another
    /// node.
    async fn lost(&self, page: &Arc<Page>, holder: Holder, row: &PageRow) -> Result<(), WriteError> {
        if self.registry.row(page.key()).await.map_err(|Unavailable| WriteError::Down)?.is_none() {
            match self.registry.write(page.key(), row, Precondition::Absent).await {
                Ok(rev) => {
                    self.set_row_and_user(page, rev, row.generation, page.user());
                    return Ok(());
                }
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::info!(node = %holder.node, "a page was taken by another node meanwhile");
        page.leave(None, Close::new(CloseCode::HeldElsewhere, "another node holds this page"));
        self.hub.remove(page);
        self.watching.departed(page.key());
        Ok(())
    }

    /// The pages that this node holds.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        self.hub.pages(&Scope::All).into_iter().filter(|page| page.is_owned()).collect()
    }

    /// The page's address while this node holds its lease.
    pub fn address(&self, page: &Page) -> Option<Address> {
        self.lease.holder().map(|holder| Address { key: page.key(), node: holder.node })
    }

    /// The session, connection, user and topics of a page in the cluster.
    pub fn find(&self, page: Key) -> Option<Membership> {
        let here = self.hub.page(page).map(|page| page.place());
        let place = |seen: &PageEntry| Membership {
            session: seen.session,
            connection: seen.connection,
            user: seen.user.clone(),
            topics: seen.topics.to_vec(),
        };
        here.or_else(|| self.registry.view().page(page).map(place))
    }

    /// The number of pages of a user in the cluster.
    pub(super) fn pages_of_user(&self, user: &str) -> usize {
        let scope = Scope::User(user.to_owned());
        let here = self.hub.pages(&scope).len();
        self.registry.view().count_of_user(user).max(here)
    }

    /// Records that the page's row is at `rev`. An anonymous page may get its user here.
    pub(super) fn set_row_and_user(
        &self,
        page: &Arc<Page>,
        rev: u64,
        generation: u32,
        user: Option<Arc<str>>,
    ) {
        let known = page.user();
        match user.clone().filter(|_| known.is_none()) {
            Some(new) => self.hub.identify(page, &new, || page.set_row(rev, generation, user)),
            None => drop(page.set_row(rev, generation, user)),
        }
    }

    /// A shared copy of the user's name: one allocation per user, for any number of pages.
    pub(super) fn intern(&self, user: Option<&str>) -> Option<Arc<str>> {
        let user = user?;
        let known = self.hub.pages(&Scope::User(user.to_owned())).first().and_then(|page| page.user());
        Some(known.unwrap_or_else(|| Arc::from(user)))
    }

    /// The row of a page with this membership, held by this node.
    pub(super) fn row(
        &self,
        holder: Holder,
        generation: u32,
        place: &Membership,
        opened: u64,
        agent: &str,
    ) -> PageRow {
        PageRow {
            node: holder.node,
            epoch: holder.epoch,
            generation,
            prev: None,
            session: place.session,
            connection: place.connection,
            user: place.user.as_deref().map(str::to_owned),
            topics: place.topics.iter().map(|topic| topic.to_string()).collect(),
            lane: self.options.lane.clone(),
            release: self.options.release.clone(),
            opened,
            agent: PageRow::shorten(agent),
        }
    }

    /// Removes a page that has left this node from the cluster. A row without a page would otherwise stay for as long
    /// as this node runs. A session or connection without other pages is idle from here on.
    pub(super) async fn remove_from_cluster(&self, page: &Page, last: LastOf, farewell: RemovalKind) {
        self.watching.leave(page);
        // other pages that are still here may have no row yet
        let alone = self.rehoming.load(Ordering::Acquire);
        let mut rev = page.standing().rev;
        loop {
            let leaving = PageRemoval {
                page: page.key(),
                rev,
                session: page.session(),
                connection: page.connection(),
                user: page.user().as_deref().map(str::to_owned),
                last_of_session: alone || last.of_session,
                last_of_connection: alone || last.of_connection,
            };
            match self.registry.leave(&leaving, farewell).await {
                Ok(()) | Err(WriteError::Invalid) => return,
                // the row may have been written once more before the page left, with or without a result
                Err(WriteError::Conflict { .. }) => match self.own_row(page).await {
                    Ok(Some((_, now))) if now != rev => {
                        rev = now;
                        continue;
                    }
                    Ok(None) => return,
                    Ok(Some(_)) | Err(Unavailable) => {}
                },
                Err(WriteError::Down | WriteError::Unknown) => {}
            }
            tokio::time::sleep(self.timing.lease_renew).await;
        }
    }
}
