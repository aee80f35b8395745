//! Login: a connection gets a user, together with all its pages on every node.
//!
//! Owns: the order of a login: the owner row first, then the rows of the pages. Never: the validity of the user's
//! token. Every node that sees the owner row updates its own pages, so no page is left out when a request between nodes
//! is lost.

use std::sync::Arc;

use pagewire_cluster::id::{Holder, Key, Scope};
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::registry::Expirable;
use pagewire_cluster::wire::IdentifyPages;

use super::access::{PageAccess, check_owner};
use super::page::{Membership, Page};
use super::store::PageStore;
use crate::protocol::{Close, CloseCode, FrameBody};
use crate::telemetry;

/// Maximum attempts to write the row of a page while other writers change it. Also divides the operation timeout into
/// the pauses between attempts.
const ATTEMPTS: u32 = 40;

/// Reason why a login fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginError {
    /// The connection belongs to another user.
    Foreign,
    /// The user would exceed the maximum number of pages per user.
    TooManyPages,
    /// The cluster does not reply. The login may have happened; it can be repeated.
    Unavailable,
}

/// Logs connections in.
pub struct PageLogin {
    pub(super) store: Arc<PageStore>,
    pub(super) access: PageAccess,
    pub(super) peers: PeerClient,
}

impl PageLogin {
    /// Assigns a connection and all its pages on every node to the user that one of its pages authenticated.
    ///
    /// # Errors
    ///
    /// See [`LoginError`].
    pub async fn identify(&self, connection: Key, user: &Arc<str>) -> Result<(), LoginError> {
        let known = self.access.known(Expirable::Connection(connection)).and_then(|known| known.user);
        check_owner(known.as_deref(), Some(user)).map_err(|_| LoginError::Foreign)?;
        let joining = self.access.anonymous_pages(connection, None).max(1);
        self.access.check_room(Some(user), joining).map_err(|_| LoginError::TooManyPages)?;
        let kept = self.store.timing.outlives_tokens();
        let owned = self.store.registry.claim_connection(connection, user, kept).await;
        let owned = owned.map_err(|_| LoginError::Unavailable)?;
        check_owner(Some(&owned.owner), Some(user)).map_err(|_| LoginError::Foreign)?;
        // a page that did not find the owner row was written before that row, so from here on the view shows the page
        let seen =
            tokio::time::timeout(self.store.timing.operation, self.store.registry.reached(owned.rev)).await;
        seen.map_err(|_| LoginError::Unavailable)?;
        let scope = Scope::Connection(connection);
        let own = self.store.lease.holder();
        let others: Vec<Holder> = self.store.registry.view().holders(&scope);
        for other in others.into_iter().filter(|holder| Some(*holder) != own) {
            let request = IdentifyPages { connection, user: user.to_string() };
            if let Err(error) = self.peers.request(other, &request, telemetry::current_trace()).await {
                tracing::warn!(node = %other.node, %error, "a node was not notified of a login; it will see the owner row");
            }
        }
        self.identify_here(connection, user).await;
        Ok(())
    }

    /// Assigns the pages of the connection on this node to the user.
    pub async fn identify_here(&self, connection: Key, user: &Arc<str>) {
        for page in self.store.hub.pages(&Scope::Connection(connection)) {
            self.identify_page(&page, user).await;
        }
    }

    /// Assigns the pages of a connection to the user that it now belongs to, perhaps after a login at another node.
    pub(super) fn on_owner(self: &Arc<Self>, connection: Key, user: String) {
        if self.store.hub.has_pages(&Scope::Connection(connection)) {
            let this = self.clone();
            tokio::spawn(async move { this.identify_here(connection, &Arc::from(user)).await });
        }
    }

    /// Assigns one page to the user, and retries while other writers change its row. If all attempts fail, the page
    /// leaves this node: it must not stay anonymous among the pages of a user.
    async fn identify_page(&self, page: &Arc<Page>, user: &Arc<str>) {
        for attempt in 0..ATTEMPTS {
            let known = page.version();
            if known.user.is_some() || !page.is_owned() {
                return;
            }
            if attempt > 0 {
                tokio::time::sleep(self.store.timing.operation / ATTEMPTS).await;
            }
            // the page must first get the state that the old holder hands over
            let Some(holder) = self.store.lease.holder().filter(|_| !page.is_installing()) else { continue };
            let place = Membership { user: Some(user.clone()), ..page.place() };
            let row = self.store.row(holder, known.generation, &place, page.opened(), "");
            match self.store.write_row(page, &known, &row).await {
                Ok(rev) => {
                    self.store.set_row_and_user(page, rev, known.generation, Some(user.clone()));
                    page.push_unsequenced(FrameBody::identity(user));
                    return;
                }
                Err(error) => tracing::debug!(%error, "the user of a page is written again"),
            }
        }
        if page.is_owned() && page.user().is_none() {
            tracing::warn!(page = %page.key(), "page closed: its user could not be written");
            page.leave(None, Close::new(CloseCode::HeldElsewhere, "the page's user is not known here"));
            self.store.hub.remove(page);
            self.store.watching.remove_page(page.key());
        }
    }
}
