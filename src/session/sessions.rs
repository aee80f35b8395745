//! The pages of this node over time: their sockets going, their windows ending, their node changing its number.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::delivery::Post;
use pagewire_cluster::engine::{Expect, WriteError};
use pagewire_cluster::id::{Address, Holder, Key};
use pagewire_cluster::keyring::Keyring;
use pagewire_cluster::lease::NodeLease;
use pagewire_cluster::registry::{Farewell, Leaving, Registry, Row, Seen};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::Scope;

use super::hub::{Hub, Last};
use super::outbox::Budget;
use super::page::{Page, Place, Ticket};
use super::watching::Watching;
use crate::protocol::{Close, CloseCode, Limits, Tail};

/// What a deployment decides about pages.
#[derive(Debug, Clone)]
pub struct Options {
    /// This node's lane.
    pub lane: String,
    /// This node's release.
    pub release: String,
    /// What each page may keep.
    pub budget: Budget,
    /// How long a page without a socket stays.
    pub resume_window: Duration,
    /// The interval of WebSocket pings, told to clients.
    pub ping_ms: u64,
    /// Limits told to clients.
    pub limits: Limits,
    /// The most pages of one user in the cluster.
    pub pages_per_user: usize,
}

/// The pages of this node and the rules of their lives.
pub struct Sessions {
    pub(super) hub: Arc<Hub>,
    pub(super) registry: Registry,
    pub(super) lease: NodeLease,
    pub(super) keyring: Keyring,
    pub(super) post: Post,
    pub(super) watching: Watching,
    pub(super) timing: Timing,
    pub(super) options: Options,
}

impl Sessions {
    /// No pages yet.
    pub fn new(
        registry: Registry,
        lease: NodeLease,
        keyring: Keyring,
        post: Post,
        watching: Watching,
        timing: Timing,
        options: Options,
    ) -> Self {
        let hub = watching.hub();
        Self { hub, registry, lease, keyring, post, watching, timing, options }
    }

    /// The socket is gone: the page stays for the resume window, then leaves everywhere.
    pub fn detach(self: &Arc<Self>, page: &Arc<Page>, ticket: Ticket) {
        if !page.detach(ticket) {
            return;
        }
        let (this, page) = (self.clone(), page.clone());
        tokio::spawn(async move {
            tokio::time::sleep(this.options.resume_window).await;
            if page.leave(Some(ticket), Close::new(CloseCode::Unregistered, ""))
                && let Some(last) = this.hub.remove(&page)
            {
                this.depart(&page, last, Farewell::Forget).await;
            }
        });
    }

    /// The keys that sign page tokens.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// This node has claimed a number again after a time without one: its rows get the new life, and if the number
    /// is another one, its pages learn their new address. A page whose row names another holder is gone from here.
    pub async fn rehome(&self, before: Holder, holder: Holder) {
        for page in self.hub.pages(&Scope::All).into_iter().filter(|page| page.is_here()) {
            let standing = page.standing();
            let row = self.row(holder, standing.generation, &page.place(), page.opened(), "");
            match self.registry.write(page.key(), &row, Expect::Rev(standing.rev)).await {
                Ok(rev) => self.label(&page, rev, standing.generation, standing.user),
                Err(WriteError::Conflict { .. }) => self.lost(&page, holder, &row).await,
                Err(error) => tracing::warn!(%error, "page row not refreshed"),
            }
            if before.node != holder.node {
                let token = self.token(&page, standing.generation, page.user().as_deref());
                page.notice(Tail::address(Address { key: page.key(), node: holder.node }, &token));
            }
        }
    }

    /// The row is not where this node left it: swept while the node was away, or won by another.
    async fn lost(&self, page: &Arc<Page>, holder: Holder, row: &Row) {
        if let Ok(None) = self.registry.row(page.key()).await
            && let Ok(rev) = self.registry.write(page.key(), row, Expect::Absent).await
        {
            return self.label(page, rev, row.generation, page.user());
        }
        tracing::info!(node = %holder.node, "a page was taken by another node meanwhile");
        page.leave(None, Close::new(CloseCode::HeldElsewhere, "another node holds this page"));
        self.hub.remove(page);
        self.watching.departed(page.key());
    }

    /// The pages that this node holds.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        self.hub.pages(&Scope::All).into_iter().filter(|page| page.is_here()).collect()
    }

    /// The page's address while this node holds its lease.
    pub fn address(&self, page: &Page) -> Option<Address> {
        self.lease.holder().map(|holder| Address { key: page.key(), node: holder.node })
    }

    /// Where a page of the cluster belongs.
    pub fn find(&self, page: Key) -> Option<Place> {
        let here = self.hub.page(page).map(|page| page.place());
        let place = |seen: &Seen| Place {
            session: seen.session,
            connection: seen.connection,
            user: seen.user.clone(),
            topics: seen.topics.to_vec(),
        };
        here.or_else(|| self.registry.view().page(page).map(place))
    }

    /// How many pages a user has in the cluster.
    pub(super) fn pages_of_user(&self, user: &str) -> usize {
        let scope = Scope::User(user.to_owned());
        let here = self.hub.pages(&scope).len();
        self.registry.view().count_of_user(user).max(here)
    }

    /// The page's row stands at `rev`; an anonymous page may have become a user's.
    pub(super) fn label(&self, page: &Arc<Page>, rev: u64, generation: u32, user: Option<Arc<str>>) {
        let known = page.user();
        match user.clone().filter(|_| known.is_none()) {
            Some(new) => self.hub.identify(page, &new, || page.stands_at(rev, generation, user)),
            None => page.stands_at(rev, generation, user),
        }
    }

    /// One allocation per user, however many pages.
    pub(super) fn intern(&self, user: Option<&str>) -> Option<Arc<str>> {
        let user = user?;
        let known = self.hub.pages(&Scope::User(user.to_owned())).first().and_then(|page| page.user());
        Some(known.unwrap_or_else(|| Arc::from(user)))
    }

    /// The row of a page at a place, held by this node.
    pub(super) fn row(
        &self,
        holder: Holder,
        generation: u32,
        place: &Place,
        opened: u64,
        agent: &str,
    ) -> Row {
        Row {
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
            agent: Row::shorten(agent),
        }
    }

    /// A page that is not here any more leaves the cluster: a row that stays would be a ghost for as long as this node
    /// lives. What it was the last page of is idle from here on.
    pub(super) async fn depart(&self, page: &Page, last: Last, farewell: Farewell) {
        self.watching.leave(page);
        let leaving = |rev| Leaving {
            page: page.key(),
            rev,
            session: page.session(),
            connection: page.connection(),
            user: page.user().as_deref().map(str::to_owned),
            last_of_session: last.of_session,
            last_of_connection: last.of_connection,
        };
        let mut rev = page.standing().rev;
        loop {
            match self.registry.leave(&leaving(rev), farewell).await {
                Err(WriteError::Down | WriteError::Unknown) => {
                    tokio::time::sleep(self.timing.lease_renew).await;
                }
                // a write of this node was under way: of the page's user, for one
                Err(WriteError::Conflict { .. }) => match self.row_left_behind(page).await {
                    Some(newer) if newer != rev => rev = newer,
                    _ => return,
                },
                Ok(()) | Err(WriteError::Invalid) => return,
            }
        }
    }

    /// The revision of a row that still gives a page to this node, which has it no more.
    async fn row_left_behind(&self, page: &Page) -> Option<u64> {
        let (row, rev) = self.registry.row(page.key()).await.ok().flatten()?;
        let holder = Holder { node: row.node, epoch: row.epoch };
        let own = self.lease.holder() == Some(holder) && row.generation == page.standing().generation;
        (own && self.hub.page(page.key()).is_none()).then_some(rev)
    }
}
