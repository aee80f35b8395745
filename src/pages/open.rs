//! Opens and resumes pages: decides which page a socket gets, and builds the `registered` frame.
//!
//! Owns: the order of an opening, from the proof to the first frame. Never: the frames of a page, or what its old holder
//! does.
//!
//! The order is fixed: proof first, then the row, then the socket. The node that wins the compare-and-set on the row
//! holds the page.

use std::sync::Arc;

use pagewire_cluster::engine::{Precondition, WriteError};
use pagewire_cluster::id::{Address, Holder, Key};
use pagewire_cluster::registry::{Expirable, PageRow, RemovalKind, RowLookup};

use super::access::{PageAccess, check_generation, check_owner, is_anonymous, not_created};
use super::close::PageCloser;
use super::migrate::PageMigrator;
use super::page::{AttachKind, AttachmentId, Membership, Page, RegisteredState};
use super::refusal::{
    EXPIRED, NO_PROOF, NOT_AUTHENTICATED, RESUME_CONFLICT, UNREGISTERED, refused, unavailable,
};
use super::request::OpenRequest;
use super::rows::RowError;
use super::store::{Options, PageStore};
use super::takeover::Takeover;
use super::token::{PageClaims, PageTokens};
use crate::protocol::{Close, FrameBody, GivenId, Registered, ResumeOutcome};

/// Maximum attempts of a resume that loses the race for the row.
const RESUME_ATTEMPTS: usize = 3;

/// A page attached to a socket.
pub struct Opened {
    /// The page; `registered` is the first frame to take.
    pub page: Arc<Page>,
    /// The attachment of the socket to the page.
    pub ticket: AttachmentId,
    /// Whether the page is new, recovered or reset.
    pub recovered: ResumeOutcome,
}

/// Opens and resumes the pages of this node.
pub struct PageOpener {
    pub(super) store: Arc<PageStore>,
    pub(super) access: PageAccess,
    pub(super) tokens: PageTokens,
    pub(super) closer: Arc<PageCloser>,
    pub(super) migrator: Arc<PageMigrator>,
}

impl PageOpener {
    /// Opens a page or resumes one.
    ///
    /// # Errors
    ///
    /// The [`Close`] that the socket must send, for example `forbidden` without a valid token, or
    /// `overloaded` while the cluster is unavailable.
    pub async fn open(&self, open: OpenRequest) -> Result<Opened, Close> {
        let holder = self.store.lease.holder().ok_or_else(|| self.unavailable())?;
        let claims = match &open.hello.resume {
            None => None,
            Some(resume) => {
                let claims = self.tokens.verify(&resume.token).await.map_err(|_| self.unavailable())?;
                Some((claims.ok_or(NO_PROOF)?, resume.seq))
            }
        };
        let expired =
            |claims: &PageClaims| claims.is_older_than(self.store.timing.page_token, self.tokens.now_s());
        match (open.hello.page_id, claims) {
            (Some(page), Some((claims, _))) if claims.page == page.key() && expired(&claims) => Err(EXPIRED),
            (Some(page), Some((claims, seq))) if claims.page == page.key() => {
                self.resume(holder, claims, seq, &open).await
            }
            (Some(GivenId::Own(_)), _) => Err(NO_PROOF),
            (Some(GivenId::Older(_)) | None, claims) => {
                // an expired token proves nothing any more; a user needs no token for the user's own sessions
                let claims = claims.map(|(claims, _)| claims).filter(|claims| !expired(claims));
                self.create(holder, claims, &open).await
            }
        }
    }

    async fn create(
        &self,
        holder: Holder,
        claims: Option<PageClaims>,
        open: &OpenRequest,
    ) -> Result<Opened, Close> {
        let user = open.user.as_deref();
        if claims.is_none() {
            self.access.await_named(holder, open).await;
        }
        let adopted = self.access.adopt(open).await?;
        let place = self.access.place(holder, claims.as_ref(), open, adopted)?;
        let connection = place.connection.key;
        let claims = claims.as_ref().filter(|claims| claims.connection == connection);
        let following = if is_anonymous(claims) { self.access.anonymous_pages(connection, None) } else { 0 };
        self.access.check_room(user, 1 + following)?;
        self.access.claim_for(connection, claims, user).await?;
        let key = adopted.page.unwrap_or_else(Key::random);
        let row = self.store.row(holder, 1, &place, self.store.now_ms(), &open.agent);
        let rev = self.store.registry.write(key, &row, Precondition::Absent).await.map_err(|error| {
            if error == WriteError::Unknown {
                self.store.remove_unclaimed_row(key, row.generation, true);
            }
            not_created(error, adopted, &self.store.timing)
        })?;
        let page = self.adopt_page(key, rev, &row, false);
        self.check_again(&page, claims, user, RemovalKind::Forget).await?;
        self.attach(holder, page, AttachKind::New).ok_or(RESUME_CONFLICT)
    }

    async fn resume(
        &self,
        holder: Holder,
        claims: PageClaims,
        seq: u64,
        open: &OpenRequest,
    ) -> Result<Opened, Close> {
        if self.access.ends(&[Expirable::Session(claims.session), Expirable::Connection(claims.connection)]) {
            return Err(UNREGISTERED);
        }
        self.access.check_return(&claims, open.user.as_deref())?;
        self.access
            .check_room(open.user.as_deref(), self.access.added_by_return(&claims, open.user.as_deref()))?;
        for _ in 0..RESUME_ATTEMPTS {
            let opened = match self.store.hub.page(claims.page).filter(|page| page.is_owned()) {
                // an earlier resume waits for the old holder: it gets the page in a moment, or no socket does
                Some(page) if page.is_installing() => return Err(RESUME_CONFLICT),
                // a later token: the page has moved since, and this node has not seen the row yet
                Some(page) if page.version().generation < claims.generation => {
                    self.resume_elsewhere(holder, &claims, seq, open).await?
                }
                Some(page) => self.resume_here(holder, &page, &claims, seq, open).await?,
                None => self.resume_elsewhere(holder, &claims, seq, open).await?,
            };
            if let Some(opened) = opened {
                return Ok(opened);
            }
            // another socket was first: read its result and decide again
            tokio::task::yield_now().await;
        }
        Err(RESUME_CONFLICT)
    }

    /// Resumes a page that this node holds. `None` when the row or the page changed meanwhile; the caller reads again.
    async fn resume_here(
        &self,
        holder: Holder,
        page: &Arc<Page>,
        claims: &PageClaims,
        seq: u64,
        open: &OpenRequest,
    ) -> Result<Option<Opened>, Close> {
        let known = page.version();
        check_owner(known.user.as_deref(), open.user.as_deref())?;
        check_generation(claims.generation, known.issued, known.confirmed)?;
        let (connection, user) = (page.connection().key, open.user.as_deref());
        let anonymous = Some(claims).filter(|_| known.user.is_none());
        self.access.claim_for(connection, anonymous, user).await?;
        let place = Membership { user: known.user.clone().or_else(|| open.user.clone()), ..page.place() };
        let generation = known.generation.max(known.issued + 1);
        page.will_write(generation);
        let row = self.store.row(holder, generation, &place, page.opened(), &open.agent);
        let rev = match self.store.write_row(page, &known, &row).await {
            Ok(rev) => rev,
            Err(RowError::Changed | RowError::Lost) => return Ok(None),
            Err(error) => return Err(self.refused(error)),
        };
        self.store.set_row_and_user(page, rev, generation, place.user);
        if self.access.other_owner(connection, anonymous, user).await?.is_some() {
            // the page stays: it gets its user in a moment
            return Err(NOT_AUTHENTICATED);
        }
        Ok(self.attach(holder, page.clone(), AttachKind::Resumed { seq }))
    }

    /// Resumes a page that another node or an earlier incarnation (epoch) of this node held. This node wins the row
    /// first, then the old holder hands the page over if it is alive.
    async fn resume_elsewhere(
        &self,
        holder: Holder,
        claims: &PageClaims,
        seq: u64,
        open: &OpenRequest,
    ) -> Result<Option<Opened>, Close> {
        let user = open.user.as_deref();
        let (found, overtaken) = tokio::join!(
            self.store.registry.find(claims.page),
            // checked before the page is taken from its holder
            self.access.other_owner(claims.connection, Some(claims), user)
        );
        if overtaken?.is_some() {
            return Err(NOT_AUTHENTICATED);
        }
        let found = match found.map_err(|_| self.unavailable())? {
            RowLookup::Page(row, rev) => Some((row, rev)),
            RowLookup::Nothing => None,
            RowLookup::Unregistered => return Err(UNREGISTERED),
        };
        let (owner, generation) = match &found {
            Some((row, _)) => (row.user.as_deref(), row.generation),
            None => (claims.user.as_deref(), claims.generation),
        };
        check_owner(owner, user)?;
        let confirmed = match &found {
            Some((row, _)) if claims.generation != row.generation => {
                self.migrator.is_confirmed(claims.page, row).await
            }
            _ => false,
        };
        check_generation(claims.generation, generation, confirmed)?;
        let anonymous = Some(claims).filter(|_| owner.is_none());
        self.access.claim_for(claims.connection, anonymous, user).await?;
        let is_alive = |holder| self.store.registry.view().is_alive(holder);
        let found = found.as_ref().map(|(row, rev)| (&**row, *rev));
        let mut plan = Takeover::plan(found, claims, holder, open, is_alive, self.store.now_ms());
        if found.is_some_and(|(row, _)| row.lane != self.store.options.lane) {
            plan.place.placed = 0;
        }
        self.take(holder, claims, seq, plan, &open.agent).await
    }

    /// Takes a page as planned. `None` when another node was faster.
    async fn take(
        &self,
        holder: Holder,
        claims: &PageClaims,
        seq: u64,
        plan: Takeover,
        agent: &str,
    ) -> Result<Option<Opened>, Close> {
        let row = self.store.row(holder, plan.generation, &plan.place, plan.opened, agent);
        let row = PageRow { prev: plan.old, ..row };
        let arrival = self.store.hub.arrivals.begin(claims.page, &plan.place);
        let rev = match self.store.registry.write(claims.page, &row, plan.expect).await {
            Ok(rev) => rev,
            Err(WriteError::Conflict { .. }) => return Ok(None),
            Err(error) => {
                if error == WriteError::Unknown {
                    self.store.remove_unclaimed_row(claims.page, plan.generation, false);
                }
                return Err(self.refused(error));
            }
        };
        let page = self.adopt_page(claims.page, rev, &row, plan.has_copies);
        drop(arrival);
        // another node may still have a copy and must see the removal
        let removal_kind = if plan.has_copies { RemovalKind::Unregister } else { RemovalKind::Forget };
        self.check_again(&page, Some(claims), row.user.as_deref(), removal_kind).await?;
        let kind = match plan.old {
            None => AttachKind::Elsewhere,
            Some(old) => self.migrator.take_over(holder, &page, old, row, seq).await?,
        };
        match (plan.old, self.attach(holder, page, kind)) {
            (Some(_), None) => Err(RESUME_CONFLICT),
            (_, opened) => Ok(opened),
        }
    }

    /// Keeps a page after this node has written its row, unless its session or connection has begun to end, or the
    /// connection has become a user's meanwhile.
    async fn check_again(
        &self,
        page: &Arc<Page>,
        claims: Option<&PageClaims>,
        user: Option<&str>,
        removal_kind: RemovalKind,
    ) -> Result<(), Close> {
        let (session, connection) = (page.session().key, page.connection().key);
        if self.access.ends(&[Expirable::Session(session), Expirable::Connection(connection)]) {
            // the mark was received before the page was here to be closed
            self.remove_at_once(page, UNREGISTERED, RemovalKind::Unregister);
            return Err(UNREGISTERED);
        }
        match self.access.other_owner(page.connection().key, claims, user).await {
            Ok(None) => Ok(()),
            Ok(Some(owner)) => Err(self.reject(page, &owner, removal_kind)),
            Err(close) => {
                // as after an incomplete handover: the client's next resume decides
                page.leave(None, RESUME_CONFLICT);
                self.store.hub.remove(page);
                Err(close)
            }
        }
    }

    /// Removes a page right after its row was written, because its connection now belongs to this user. Returns the
    /// close for its socket.
    fn reject(&self, page: &Arc<Page>, owner: &str, removal_kind: RemovalKind) -> Close {
        let known = page.version();
        // a session or connection that becomes idle without this page keeps its owner
        self.store.set_row_and_user(page, known.rev, known.generation, self.store.intern(Some(owner)));
        self.remove_at_once(page, NOT_AUTHENTICATED, removal_kind);
        NOT_AUTHENTICATED
    }

    /// Removes a page that no socket has got.
    fn remove_at_once(&self, page: &Arc<Page>, close: Close, removal_kind: RemovalKind) {
        page.leave(None, close);
        if let Some(last) = self.store.hub.remove(page) {
            let (closer, page) = (self.closer.clone(), page.clone());
            tokio::spawn(async move { closer.remove_from_cluster(&page, last, removal_kind).await });
        }
    }

    /// Creates the copy of a page after this node has won its row; a socket attaches later. `others`: another node may
    /// have a copy of the page.
    fn adopt_page(&self, key: Key, rev: u64, row: &PageRow, others: bool) -> Arc<Page> {
        let user = self.store.intern(row.user.as_deref());
        let place = Membership::of_row(row, user);
        let page = Page::new(key, place, row.opened, rev, row.generation, self.store.options.budget);
        if others {
            page.mark_acquired(rev);
        }
        if row.prev.is_some() {
            page.expect_handover();
        }
        let page = Arc::new(page);
        // this node still has a stale copy: freeze it, so that the frames it took since are forwarded like other late
        // frames
        if let Some(old_copy) = self.store.hub.page(key).filter(|old_copy| old_copy.is_owned()) {
            self.migrator.freeze(old_copy, row.node, row.generation, rev, u64::MAX);
        }
        self.store.hub.insert(page.clone());
        page
    }

    /// Gives the page to a socket; `None` when the page has left this node.
    fn attach(&self, holder: Holder, page: Arc<Page>, kind: AttachKind) -> Option<Opened> {
        let mut recovered = ResumeOutcome::New;
        let issued = self.tokens.now_s();
        page.set_token_given(issued);
        let ticket = page.attach(kind, |state| {
            recovered = state.recovered;
            let token = self.tokens.issue(&page, state.generation, state.user.as_deref(), issued);
            registered(&self.store.options, holder, &page, &state, &token)
        })?;
        self.store.residents.report(&page, kind.event());
        Some(Opened { page, ticket, recovered })
    }

    fn refused(&self, error: impl Into<RowError>) -> Close {
        refused(error, &self.store.timing)
    }

    fn unavailable(&self) -> Close {
        unavailable(&self.store.timing)
    }
}

/// The first frame to a socket of a page.
fn registered(
    options: &Options,
    holder: Holder,
    page: &Page,
    state: &RegisteredState,
    token: &str,
) -> FrameBody {
    FrameBody::registered(&Registered {
        connection_id: page.connection(),
        session_id: page.session(),
        page_id: Address { key: page.key(), node: holder.node },
        user: state.user.as_deref(),
        node: holder.node,
        lane: &options.lane,
        release: &options.release,
        token,
        recovered: state.recovered,
        seq: state.seq,
        pos: 0,
        received: state.received,
        ping_ms: options.ping_ms,
        limits: options.limits,
        allow: &options.allow,
    })
}
