//! The parts that handle the pages of one node, over one store.
//!
//! Owns: which part gets which, and which part applies an event of the registry. Never: what a part does.

use std::sync::Arc;

use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::registry::RegistryEvent;
use pagewire_cluster::rollout::analysis::OutcomeLog;

use super::access::PageAccess;
use super::close::PageCloser;
use super::ends::PageEnds;
use super::login::PageLogin;
use super::migrate::PageMigrator;
use super::open::PageOpener;
use super::relocate::PageRelocator;
use super::rewrite::RowRewriter;
use super::store::PageStore;
use super::token::PageTokens;
use super::topics::PageTopics;

/// The pages of a node. Each part may be used directly.
pub struct Pages {
    /// The pages and their rows.
    pub store: Arc<PageStore>,
    /// The tokens of pages.
    pub tokens: PageTokens,
    /// Opens and resumes pages.
    pub opener: PageOpener,
    /// Moves pages between nodes.
    pub migrator: Arc<PageMigrator>,
    /// Sends pages to other nodes.
    pub relocator: PageRelocator,
    /// Closes pages.
    pub closer: Arc<PageCloser>,
    /// Counts the ends of their sockets.
    pub ends: PageEnds,
    /// Logs connections in.
    pub login: Arc<PageLogin>,
    /// Subscribes pages to topics.
    pub topics: PageTopics,
    /// Rewrites rows for a new incarnation of this node.
    pub rewriter: RowRewriter,
}

impl Pages {
    /// The parts over one store.
    pub fn new(store: PageStore, tokens: PageTokens, peers: PeerClient, outcomes: OutcomeLog) -> Self {
        let store = Arc::new(store);
        let ends = PageEnds::new(store.clone(), outcomes);
        let access = PageAccess { store: store.clone() };
        let closer = Arc::new(PageCloser { store: store.clone(), peers: peers.clone() });
        let migrator = PageMigrator { store: store.clone(), peers: peers.clone(), closer: closer.clone() };
        let migrator = Arc::new(migrator);
        let opener = PageOpener {
            store: store.clone(),
            access: access.clone(),
            tokens: tokens.clone(),
            closer: closer.clone(),
            migrator: migrator.clone(),
        };
        let relocator = PageRelocator::new(store.clone(), peers.clone());
        let login = Arc::new(PageLogin { store: store.clone(), access, peers });
        let topics = PageTopics { store: store.clone() };
        let rewriter = RowRewriter { store: store.clone(), tokens: tokens.clone() };
        Self { store, tokens, opener, migrator, relocator, closer, ends, login, topics, rewriter }
    }

    /// Applies an event of the registry.
    pub fn on_registry_event(&self, event: RegistryEvent) {
        match event {
            RegistryEvent::Page(page, row, rev) => self.migrator.on_row(page, &row, rev),
            RegistryEvent::Unregistered(page, rev) => self.closer.on_unregistered(page, rev),
            RegistryEvent::Owned(connection, user) => self.login.on_owner(connection, user),
            RegistryEvent::Ending(ending) => self.closer.on_ending(ending),
        }
    }
}
