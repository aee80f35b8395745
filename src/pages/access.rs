//! Access checks for a page that joins a session and its connection.
//!
//! Owns: the checks of a page that joins or resumes against the current user of its session and connection, and the
//! limit of pages per user. Never: rows of pages, or sockets.
//!
//! A token that names a user is valid only for that user. A token without a user proves only that its client was there
//! while the connection was anonymous. In that case there are two paths. If the client brings a user, the connection
//! becomes that user's by compare-and-set. If it brings none, the owner row is read after the page's own row was
//! written (`registry/owner` gives the reason).

use std::sync::Arc;

use pagewire_cluster::engine::WriteError;
use pagewire_cluster::id::{Address, Holder, Key, Scope};
use pagewire_cluster::registry::Expirable;
use pagewire_cluster::rollout::RoutingKey;
use pagewire_cluster::timing::Timing;

use super::page::Membership;
use super::refusal::{
    NO_PROOF, NOT_AUTHENTICATED, OLDER_ID, STALE_TOKEN, TOO_MANY, WRONG_USER, refused, unavailable,
};
use super::request::OpenRequest;
use super::store::PageStore;
use super::token::PageClaims;
use crate::protocol::{Close, GivenId};

/// A session or connection that a page may join.
pub(super) struct Joinable {
    pub(super) connection: Address,
    pub(super) user: Option<Arc<str>>,
}

/// The access checks of this node. Cheap to clone.
#[derive(Clone)]
pub(super) struct PageAccess {
    pub(super) store: Arc<PageStore>,
}

/// Checks that a socket of `user` may use an entity of `owner`. An anonymous entity requires only its token.
///
/// # Errors
///
/// [`WRONG_USER`] for another user, [`NOT_AUTHENTICATED`] for a socket without a user.
pub(super) fn check_owner(owner: Option<&str>, user: Option<&str>) -> Result<(), Close> {
    match (owner, user) {
        (None, _) => Ok(()),
        (Some(owner), Some(user)) if owner == user => Ok(()),
        (Some(_), Some(_)) => Err(WRONG_USER),
        (Some(_), None) => Err(NOT_AUTHENTICATED),
    }
}

/// Accepts the newest generation. Also accepts the one before, as long as the client may not have the token of the
/// newest one yet.
///
/// # Errors
///
/// [`STALE_TOKEN`] for any other generation.
pub(super) fn check_generation(claimed: u32, current: u32, confirmed: bool) -> Result<(), Close> {
    let newest = claimed == current || (claimed.checked_add(1) == Some(current) && !confirmed);
    if newest { Ok(()) } else { Err(STALE_TOKEN) }
}

/// Whether a token was issued while its connection was anonymous.
pub(super) fn is_anonymous(claims: Option<&PageClaims>) -> bool {
    claims.is_some_and(|claims| claims.user.is_none())
}

/// Returns the close for a page whose row is not written. One that exists under its older id needs its token.
pub(super) fn not_created(error: WriteError, adopted: AdoptedIds, timing: &Timing) -> Close {
    match error {
        WriteError::Conflict { .. } if adopted.page.is_some() => NO_PROOF,
        error => refused(error, timing),
    }
}

/// The older ids that a new page brings into the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AdoptedIds {
    /// The id of the page; it is adopted when the row of the page is written.
    pub(super) page: Option<Key>,
    session: Option<Key>,
    connection: Option<Key>,
}

impl PageAccess {
    /// The session and connection that a new page joins: the ones that it names if it proves access to them, otherwise
    /// new ones.
    ///
    /// # Errors
    ///
    /// The close of [`check_owner`] when the token, the session or the connection belongs to another user.
    pub(super) fn place(
        &self,
        holder: Holder,
        claims: Option<&PageClaims>,
        open: &OpenRequest,
        adopted: AdoptedIds,
    ) -> Result<Membership, Close> {
        let mut place = self.joined(holder, claims, open, adopted)?;
        place.resident = open.hello.resident.clone().map(Arc::new);
        if open.is_placed {
            let unit = RoutingKey::of(open.user.as_deref(), Some(place.connection.key));
            place.placed = self.store.placement.revision_of_hash(unit);
        }
        Ok(place)
    }

    /// Adopts the older ids of a session and a connection that are new. One that exists, or that was adopted before,
    /// is joined with proof only, as others are.
    ///
    /// # Errors
    ///
    /// [`OLDER_ID`] where older ids are not adopted, and the close for an engine that does not reply.
    pub(super) async fn adopt(&self, open: &OpenRequest) -> Result<AdoptedIds, Close> {
        if open.hello.names_older_id() && !self.store.options.adopt_ids {
            return Err(OLDER_ID);
        }
        let adopt = async |of: Expirable| {
            if self.known(of).is_some() || self.ends(&[of]) {
                return Ok(false);
            }
            let adopted = of.adopt(&self.store.registry, self.store.timing.outlives_tokens()).await;
            adopted.map_err(|error| refused(error, &self.store.timing))
        };
        let page = open.hello.page_id.map(|page| page.key());
        let mut adopted = AdoptedIds { page, ..AdoptedIds::default() };
        if let Some(GivenId::Older(session)) = open.hello.session_id
            && adopt(Expirable::Session(session)).await?
        {
            adopted.session = Some(session);
        }
        if let Some(GivenId::Older(connection)) = open.hello.connection_id
            && adopt(Expirable::Connection(connection)).await?
        {
            adopted.connection = Some(connection);
        }
        Ok(adopted)
    }

    fn joined(
        &self,
        holder: Holder,
        claims: Option<&PageClaims>,
        open: &OpenRequest,
        adopted: AdoptedIds,
    ) -> Result<Membership, Close> {
        let user = open.user.as_deref();
        let proven = |key: Key, claimed: Option<Key>, known: Option<&Joinable>| -> Result<bool, Close> {
            if let Some(known) = known {
                check_owner(known.user.as_deref(), user)?;
            }
            let by_token = claimed == Some(key);
            let by_user = user.is_some() && known.is_some_and(|known| known.user.as_deref() == user);
            Ok(by_token || by_user)
        };
        if let Some(claims) = claims {
            check_owner(claims.user.as_deref(), user)?;
        }
        let here = |key: Key| Address { key, node: holder.node };
        let given = |id: GivenId| id.address().unwrap_or_else(|| here(id.key()));
        let fresh = || here(adopted.session.unwrap_or_else(Key::random));
        let new_connection =
            || here(adopted.connection.unwrap_or_else(|| self.store.placement.new_connection()));
        if let Some(session) = open.hello.session_id.map(given) {
            let of = Expirable::Session(session.key);
            let known = self.known(of);
            if !self.ends(&[of]) && proven(session.key, claims.map(|claims| claims.session), known.as_ref())?
            {
                let connection = match (&known, claims) {
                    (Some(known), _) => known.connection,
                    (None, Some(claims)) => Address { key: claims.connection, node: session.node },
                    (None, None) => new_connection(),
                };
                let expirable = Expirable::Connection(connection.key);
                // the session may have been left before its connection became a user's
                if let Some(expirable) = self.known(expirable) {
                    check_owner(expirable.user.as_deref(), user)?;
                }
                if !self.ends(&[expirable]) {
                    return Ok(Membership::new(session, connection, open.user.clone()));
                }
            }
        }
        if let Some(connection) = open.hello.connection_id.map(given) {
            let of = Expirable::Connection(connection.key);
            let known = self.known(of);
            let claimed = claims.map(|claims| claims.connection);
            if !self.ends(&[of]) && proven(connection.key, claimed, known.as_ref())? {
                let connection = known.map_or(connection, |known| known.connection);
                return Ok(Membership::new(fresh(), connection, open.user.clone()));
            }
        }
        Ok(Membership::new(fresh(), new_connection(), open.user.clone()))
    }

    /// Waits a moment until this node sees the session or connection that a page of a user names, because another node
    /// may have created it a moment ago. After the wait, [`PageAccess::place`] decides by what this node sees.
    pub(super) async fn await_named(&self, holder: Holder, open: &OpenRequest) {
        let address = |id: Option<GivenId>| id.and_then(|id| id.address());
        let session = address(open.hello.session_id).map(|id| (Expirable::Session(id.key), id.node));
        let connection = address(open.hello.connection_id).map(|id| (Expirable::Connection(id.key), id.node));
        let Some((of, node)) = session.or(connection).filter(|_| open.user.is_some()) else { return };
        let registry = &self.store.registry;
        if node != holder.node && self.known(of).is_none() && registry.view().epoch(node).is_some() {
            let seen = tokio::time::timeout(self.store.timing.view_wait, registry.shown(of)).await;
            tracing::debug!(seen = seen.is_ok(), "waited for a session or connection of another node");
        }
    }

    /// Whether one of these is ending. No page joins an ending entity, even with a valid proof.
    pub(super) fn ends(&self, expirable: &[Expirable]) -> bool {
        let view = self.store.registry.view();
        expirable.iter().any(|of| view.is_ending(*of))
    }

    /// A session or connection that has pages or can still be joined. Combines this node's own pages and the view,
    /// because each may be a moment behind the other.
    pub(super) fn known(&self, of: Expirable) -> Option<Joinable> {
        let scope = match of {
            Expirable::Session(key) => Scope::Session(key),
            Expirable::Connection(key) => Scope::Connection(key),
        };
        let pages = self.store.hub.pages(&scope);
        let here = pages.iter().find(|page| page.user().is_some()).or_else(|| pages.first());
        let here = here.map(|page| Joinable { connection: page.connection(), user: page.user() });
        if here.as_ref().is_some_and(|known| known.user.is_some()) {
            return here;
        }
        let view = self.store.registry.view();
        let seen = match of {
            Expirable::Session(key) => {
                view.session(key).map(|seen| Joinable { connection: seen.connection, user: seen.user })
            }
            Expirable::Connection(key) => {
                view.connection(key).map(|seen| Joinable { connection: seen.connection, user: seen.user })
            }
        };
        seen.filter(|known| known.user.is_some() || here.is_none()).or(here)
    }

    /// The first check of a page that resumes: the token's user, and the users of its session and connection as far as
    /// this node sees.
    pub(super) fn check_return(&self, claims: &PageClaims, user: Option<&str>) -> Result<(), Close> {
        check_owner(claims.user.as_deref(), user)?;
        let expirable = [Expirable::Session(claims.session), Expirable::Connection(claims.connection)];
        for known in expirable.into_iter().filter_map(|of| self.known(of)) {
            check_owner(known.user.as_deref(), user)?;
        }
        Ok(())
    }

    /// Claims the connection for the user of a page with a token from the time when the connection was anonymous.
    /// Called before the page's row is written. Fails if the connection belongs to another user.
    pub(super) async fn claim_for(
        &self,
        connection: Key,
        claims: Option<&PageClaims>,
        user: Option<&str>,
    ) -> Result<(), Close> {
        let Some(user) = user.filter(|_| is_anonymous(claims)) else { return Ok(()) };
        let kept = self.store.timing.outlives_tokens();
        match self.store.registry.claim_connection(connection, user, kept).await {
            Ok(owned) => check_owner(Some(&owned.owner), Some(user)),
            Err(error) => Err(refused(error, &self.store.timing)),
        }
    }

    /// The user that the connection belongs to by now, for a page that brings no user and so may not stay. Called after
    /// the page's row was written.
    pub(super) async fn other_owner(
        &self,
        connection: Key,
        claims: Option<&PageClaims>,
        user: Option<&str>,
    ) -> Result<Option<String>, Close> {
        if user.is_some() || !is_anonymous(claims) {
            return Ok(None);
        }
        self.store.registry.owner(connection).await.map_err(|_| unavailable(&self.store.timing))
    }

    /// Checks that a user may have `more` additional pages, as far as this node sees.
    pub(super) fn check_room(&self, user: Option<&str>, more: usize) -> Result<(), Close> {
        let Some(user) = user.filter(|_| more > 0) else { return Ok(()) };
        if self.store.pages_of_user(user) + more > self.store.options.pages_per_user {
            Err(TOO_MANY)
        } else {
            Ok(())
        }
    }

    /// The number of pages that a resuming page adds to its user: itself, if it is not counted yet, and the anonymous
    /// pages of its connection, which become that user's too.
    pub(super) fn added_by_return(&self, claims: &PageClaims, user: Option<&str>) -> usize {
        let is_user = |owner: Option<Arc<str>>| owner.as_deref() == user;
        let here = self.store.hub.page(claims.page).filter(|page| page.is_owned());
        let counted = here.is_some_and(|page| is_user(page.user()))
            || self.store.registry.view().page(claims.page).is_some_and(|seen| is_user(seen.user.clone()));
        let following = match claims.user {
            None => self.anonymous_pages(claims.connection, Some(claims.page)),
            Some(_) => 0,
        };
        following + usize::from(!counted)
    }

    /// The number of anonymous pages of a connection, excluding `without`.
    pub(super) fn anonymous_pages(&self, connection: Key, without: Option<Key>) -> usize {
        let scope = Scope::Connection(connection);
        let here = self.store.hub.pages(&scope).into_iter();
        let here =
            here.filter(|page| page.is_owned() && page.user().is_none() && Some(page.key()) != without);
        let here = here.count();
        let view = self.store.registry.view();
        let seen = view.pages_of(&scope).filter(|(key, seen)| seen.user.is_none() && Some(*key) != without);
        seen.count().max(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CloseCode;

    #[test]
    fn what_has_a_user_needs_that_user() {
        assert!(check_owner(None, None).is_ok() && check_owner(None, Some("ann")).is_ok());
        assert!(check_owner(Some("ann"), Some("ann")).is_ok());
        assert_eq!(check_owner(Some("ann"), Some("bob")).map_err(|c| c.code), Err(CloseCode::Forbidden));
        assert_eq!(check_owner(Some("ann"), None).map_err(|c| c.code), Err(CloseCode::Unauthenticated));
    }

    #[test]
    fn the_token_before_the_newest_resumes_only_until_the_newest_was_used() {
        assert!(check_generation(3, 3, true).is_ok());
        assert!(check_generation(2, 3, false).is_ok());
        assert!(check_generation(2, 3, true).is_err());
        assert!(check_generation(1, 3, false).is_err());
        assert!(check_generation(u32::MAX, 3, false).is_err());
    }
}
