//! The pages of this node, and the rows that the cluster has of them.
//!
//! Owns: the hub, the registry and the lease as seen by the pages of this node, the content of a page's row, and what
//! the hub and the view together know of a page. Never: a socket, or the decision to open, move or close a page.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::id::{Address, Holder, Key, Scope};
use pagewire_cluster::lease::{NodeLease, NodeRow};
use pagewire_cluster::registry::{PageEntry, PageRow, Registry};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::PageEvent;
use tokio::sync::Semaphore;

use super::hub::Hub;
use super::incarnations::Incarnations;
use super::outbox::Budget;
use super::page::{Membership, Page};
use super::pins::WRITERS;
use super::placement::{PagePlace, PagePlacement};
use super::residents::ResidentFeed;
use super::state_watch::StateWatchers;
use crate::protocol::{Allow, FrameLimitsInfo, Hello};

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
    /// Whether ids of older deployments are adopted.
    pub adopt_ids: bool,
}

/// The pages of this node and their rows.
pub struct PageStore {
    pub(super) hub: Arc<Hub>,
    pub(super) registry: Registry,
    pub(super) lease: NodeLease,
    pub(super) watching: StateWatchers,
    pub(super) timing: Timing,
    pub(super) options: Options,
    pub(super) placement: PagePlacement,
    pub(super) incarnations: Incarnations,
    pub(super) pin_writers: Semaphore,
    /// What happens to resident pages.
    pub residents: ResidentFeed,
}

impl PageStore {
    /// Returns the time of the cluster in milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> u64 {
        self.registry.clock.now_ms()
    }

    /// A node without pages.
    pub fn new(
        registry: Registry,
        lease: NodeLease,
        watching: StateWatchers,
        timing: Timing,
        options: Options,
        placement: PagePlacement,
    ) -> Self {
        let (hub, incarnations) = (watching.hub(), Incarnations::default());
        let (pin_writers, residents) = (Semaphore::new(WRITERS), ResidentFeed::default());
        Self {
            hub,
            registry,
            lease,
            watching,
            timing,
            options,
            placement,
            incarnations,
            pin_writers,
            residents,
        }
    }

    /// Returns where the page of a socket has to be opened.
    pub fn place_of(&self, hello: &Hello, user: Option<&str>) -> PagePlace {
        self.placement.on_opening(hello, user)
    }

    /// Returns the revision of the rollout that decides the lanes of pages; 0 for none.
    pub fn rollout_revision(&self) -> u64 {
        self.placement.revision()
    }

    /// Whether an origin is the address of a living node.
    pub fn is_origin_of_a_node(&self, origin: &str) -> bool {
        let view = self.registry.view();
        let is_same = |row: &NodeRow| row.advertise.trim_end_matches('/').eq_ignore_ascii_case(origin);
        view.nodes().into_iter().any(|(_, row)| is_same(row))
    }

    /// The pages that this node holds.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        self.hub.pages(&Scope::All).into_iter().filter(|page| page.is_owned()).collect()
    }

    /// The page's address while this node holds its lease.
    pub fn address(&self, page: &Page) -> Option<Address> {
        self.lease.holder().map(|holder| Address { key: page.key(), node: holder.node })
    }

    /// The session, connection, user and topics of a page in the cluster. The lanes that it keeps are left out unless it
    /// is here: see [`PageStore::pins`].
    pub fn find(&self, page: Key) -> Option<Membership> {
        let here = self.hub.page(page).map(|page| page.place());
        let place = |seen: &PageEntry| Membership {
            session: seen.session,
            connection: seen.connection,
            user: seen.user.clone(),
            topics: seen.topics.to_vec(),
            pins: Default::default(),
            resident: None,
            placed: 0,
        };
        here.or_else(|| self.registry.view().page(page).map(place))
    }

    /// The number of pages of a user in the cluster.
    pub(super) fn pages_of_user(&self, user: &str) -> usize {
        let scope = Scope::User(user.to_owned());
        let here = self.hub.pages(&scope).len();
        self.registry.view().count_of_user(user).max(here)
    }

    /// A shared copy of the user's name: one allocation per user, for any number of pages.
    pub(super) fn intern(&self, user: Option<&str>) -> Option<Arc<str>> {
        let user = user?;
        let known = self.hub.pages(&Scope::User(user.to_owned())).first().and_then(|page| page.user());
        Some(known.unwrap_or_else(|| Arc::from(user)))
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
            Some(new) => {
                self.hub.identify(page, &new, || page.set_row(rev, generation, user));
                // the object belongs to the user from now on
                self.residents.report(page, PageEvent::Wake);
            }
            None => drop(page.set_row(rev, generation, user)),
        }
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
            pins: place.pins.clone(),
            resident: place.resident.as_deref().cloned(),
            placed: place.placed,
            lane: self.options.lane.clone(),
            release: self.options.release.clone(),
            opened,
            agent: PageRow::shorten(agent),
        }
    }
}
