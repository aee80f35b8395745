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

use pagewire_cluster::id::{Address, Holder, Key, Scope};
use pagewire_cluster::registry::{Expirable, RemovalKind};

use super::open::OpenRequest;
use super::page::{Membership, Page};
use super::sessions::Sessions;
use super::token::PageClaims;
use crate::protocol::{Close, CloseCode};

pub(super) const WRONG_USER: Close = Close::new(CloseCode::Forbidden, "this belongs to another user");
pub(super) const NOT_AUTHENTICATED: Close =
    Close::new(CloseCode::Unauthenticated, "this belongs to a user: authenticate");
pub(super) const TOO_MANY: Close = Close::new(CloseCode::Policy, "too many pages of this user");

/// A session or connection that a page may join.
pub(super) struct Joinable {
    pub(super) connection: Address,
    pub(super) user: Option<Arc<str>>,
}

/// Checks that a socket of `user` may use an entity of `owner`. An anonymous entity requires only its token.
///
/// # Errors
///
/// A close with [`CloseCode::Forbidden`] for another user, or [`CloseCode::Unauthenticated`] for a socket without a
/// user.
pub(super) fn check_owner(owner: Option<&str>, user: Option<&str>) -> Result<(), Close> {
    match (owner, user) {
        (None, _) => Ok(()),
        (Some(owner), Some(user)) if owner == user => Ok(()),
        (Some(_), Some(_)) => Err(WRONG_USER),
        (Some(_), None) => Err(NOT_AUTHENTICATED),
    }
}

/// Whether a token was issued while its connection was anonymous.
pub(super) fn is_anonymous(claims: Option<&PageClaims>) -> bool {
    claims.is_some_and(|claims| claims.user.is_none())
}

impl Sessions {
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
        let fresh = || Address { key: Key::random(), node: holder.node };
        if let Some(session) = open.hello.session_id {
            let of = Expirable::Session(session.key);
            let known = self.known(of);
            if !self.ends(&[of]) && proven(session.key, claims.map(|claims| claims.session), known.as_ref())?
            {
                let connection = match (&known, claims) {
                    (Some(known), _) => known.connection,
                    (None, Some(claims)) => Address { key: claims.connection, node: session.node },
                    (None, None) => fresh(),
                };
                let whole = Expirable::Connection(connection.key);
                // the session may have been left before its connection became a user's
                if let Some(whole) = self.known(whole) {
                    check_owner(whole.user.as_deref(), user)?;
                }
                if !self.ends(&[whole]) {
                    return Ok(Membership {
                        session,
                        connection,
                        user: open.user.clone(),
                        topics: Vec::new(),
                    });
                }
            }
        }
        if let Some(connection) = open.hello.connection_id {
            let of = Expirable::Connection(connection.key);
            let known = self.known(of);
            let claimed = claims.map(|claims| claims.connection);
            if !self.ends(&[of]) && proven(connection.key, claimed, known.as_ref())? {
                let user = open.user.clone();
                return Ok(Membership { session: fresh(), connection, user, topics: Vec::new() });
            }
        }
        Ok(Membership { session: fresh(), connection: fresh(), user: open.user.clone(), topics: Vec::new() })
    }

    /// Waits a moment until this node sees the session or connection that a page of a user names, because another node
    /// may have created it a moment ago. After the wait, [`Sessions::place`] decides by what this node sees.
    pub(super) async fn await_named(&self, holder: Holder, open: &OpenRequest) {
        let session = open.hello.session_id.map(|id| (Expirable::Session(id.key), id.node));
        let connection = open.hello.connection_id.map(|id| (Expirable::Connection(id.key), id.node));
        let Some((of, node)) = session.or(connection).filter(|_| open.user.is_some()) else { return };
        if node != holder.node && self.known(of).is_none() && self.registry.view().epoch(node).is_some() {
            let seen = tokio::time::timeout(self.timing.view_wait, self.registry.shown(of)).await;
            tracing::debug!(seen = seen.is_ok(), "waited for a session or connection of another node");
        }
    }

    /// Whether one of these is ending. No page joins an ending entity, even with a valid proof.
    pub(super) fn ends(&self, lasting: &[Expirable]) -> bool {
        let view = self.registry.view();
        lasting.iter().any(|of| view.is_ending(*of))
    }

    /// A session or connection that has pages or can still be joined. Combines this node's own pages and the view,
    /// because each may be a moment behind the other.
    pub(super) fn known(&self, of: Expirable) -> Option<Joinable> {
        let scope = match of {
            Expirable::Session(key) => Scope::Session(key),
            Expirable::Connection(key) => Scope::Connection(key),
        };
        let pages = self.hub.pages(&scope);
        let here = pages.iter().find(|page| page.user().is_some()).or_else(|| pages.first());
        let here = here.map(|page| Joinable { connection: page.connection(), user: page.user() });
        if here.as_ref().is_some_and(|known| known.user.is_some()) {
            return here;
        }
        let view = self.registry.view();
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
        let whole = [Expirable::Session(claims.session), Expirable::Connection(claims.connection)];
        for known in whole.into_iter().filter_map(|of| self.known(of)) {
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
        let kept = self.timing.outlives_tokens();
        match self.registry.claim_connection(connection, user, kept).await {
            Ok(owned) => check_owner(Some(&owned.owner), Some(user)),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// The user that the connection belongs to by now, for a page that brings no user and so may not stay. Called after
    /// the page's row was written.
    pub(super) async fn overtaken_by(
        &self,
        connection: Key,
        claims: Option<&PageClaims>,
        user: Option<&str>,
    ) -> Result<Option<String>, Close> {
        if user.is_some() || !is_anonymous(claims) {
            return Ok(None);
        }
        self.registry.owner(connection).await.map_err(|_| self.cut_off())
    }

    /// Removes a page right after its row was written, because its connection now belongs to this user. Returns the
    /// close for its socket.
    pub(super) fn turn_away(self: &Arc<Self>, page: &Arc<Page>, owner: &str, farewell: RemovalKind) -> Close {
        let standing = page.standing();
        // a session or connection that becomes idle without this page keeps its owner
        self.set_row_and_user(page, standing.rev, standing.generation, self.intern(Some(owner)));
        page.leave(None, NOT_AUTHENTICATED);
        if let Some(last) = self.hub.remove(page) {
            let (this, page) = (self.clone(), page.clone());
            tokio::spawn(async move { this.remove_from_cluster(&page, last, farewell).await });
        }
        NOT_AUTHENTICATED
    }

    /// Checks that a user may have `more` additional pages, as far as this node sees.
    pub(super) fn check_room(&self, user: Option<&str>, more: usize) -> Result<(), Close> {
        let Some(user) = user.filter(|_| more > 0) else { return Ok(()) };
        if self.pages_of_user(user) + more > self.options.pages_per_user { Err(TOO_MANY) } else { Ok(()) }
    }

    /// The number of pages that a resuming page adds to its user: itself, if it is not counted yet, and the anonymous
    /// pages of its connection, which become that user's too.
    pub(super) fn added_by_return(&self, claims: &PageClaims, user: Option<&str>) -> usize {
        let is_user = |owner: Option<Arc<str>>| owner.as_deref() == user;
        let here = self.hub.page(claims.page).filter(|page| page.is_owned());
        let counted = here.is_some_and(|page| is_user(page.user()))
            || self.registry.view().page(claims.page).is_some_and(|seen| is_user(seen.user.clone()));
        let following = match claims.user {
            None => self.anonymous_pages(claims.connection, Some(claims.page)),
            Some(_) => 0,
        };
        following + usize::from(!counted)
    }

    /// The number of anonymous pages of a connection, excluding `without`.
    pub(super) fn anonymous_pages(&self, connection: Key, without: Option<Key>) -> usize {
        let scope = Scope::Connection(connection);
        let here = self.hub.pages(&scope).into_iter();
        let here =
            here.filter(|page| page.is_owned() && page.user().is_none() && Some(page.key()) != without);
        let here = here.count();
        let view = self.registry.view();
        let seen = view.pages_of(&scope).filter(|(key, seen)| seen.user.is_none() && Some(*key) != without);
        seen.count().max(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_user_needs_that_user() {
        assert!(check_owner(None, None).is_ok() && check_owner(None, Some("ann")).is_ok());
        assert!(check_owner(Some("ann"), Some("ann")).is_ok());
        assert_eq!(check_owner(Some("ann"), Some("bob")).map_err(|c| c.code), Err(CloseCode::Forbidden));
        assert_eq!(check_owner(Some("ann"), None).map_err(|c| c.code), Err(CloseCode::Unauthenticated));
    }
}
