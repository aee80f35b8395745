//! Opens and resumes pages: decides which page a socket gets, and builds the `registered` frame.
//!
//! The order is fixed: proof first, then the row, then the socket. The node that wins the compare-and-set on the row
//! holds the page.

use std::sync::Arc;

use pagewire_cluster::engine::{Precondition, Unavailable, WriteError};
use pagewire_cluster::id::{Address, Holder, Key};
use pagewire_cluster::registry::{Expirable, PageRow, RemovalKind, RowLookup};

use super::access::{NOT_AUTHENTICATED, check_owner, is_anonymous};
use super::page::{AttachKind, AttachmentId, Membership, Page, RegisteredState, RowVersion};
use super::rows::to_ask;
use super::sessions::Sessions;
use super::token::PageClaims;
use crate::protocol::{Close, CloseCode, FrameBody, Hello, Registered, ResumeOutcome};
use pagewire_cluster::clock::unix_ms;

/// Maximum attempts of a resume that loses the race for the row.
const RESUME_ATTEMPTS: usize = 3;

/// Input of a socket that opens a page.
#[derive(Debug)]
pub struct OpenRequest {
    /// The first frame of the socket.
    pub hello: Hello,
    /// The authenticated user of the socket; absent for anonymous.
    pub user: Option<Arc<str>>,
    /// The user agent of the browser.
    pub agent: String,
}

/// A page attached to a socket.
pub struct Opened {
    /// The page; `registered` is the first frame to take.
    pub page: Arc<Page>,
    /// The attachment of the socket to the page.
    pub ticket: AttachmentId,
    /// Whether the page is new, recovered or reset.
    pub recovered: ResumeOutcome,
}

const NO_PROOF: Close = Close::new(CloseCode::Forbidden, "resuming a page needs its token");
const EXPIRED: Close = Close::new(CloseCode::Forbidden, "the token of this page has expired");
const STALE_TOKEN: Close = Close::new(CloseCode::Replaced, "another socket holds this page");
pub(super) const UNREGISTERED: Close = Close::new(CloseCode::Unregistered, "the server has removed this");
const CLUSTER_UNAVAILABLE: Close = Close::new(CloseCode::Overloaded, "the cluster is unavailable");
pub(super) const RESUME_CONFLICT: Close =
    Close::new(CloseCode::HeldElsewhere, "the page is being taken elsewhere");

/// Accepts the newest generation. Also accepts the one before, as long as the client may not have the token of the
/// newest one yet.
///
/// # Errors
///
/// [`STALE_TOKEN`] for any other generation.
fn check_generation(claimed: u32, standing: u32, confirmed: bool) -> Result<(), Close> {
    let newest = claimed == standing || (claimed.checked_add(1) == Some(standing) && !confirmed);
    if newest { Ok(()) } else { Err(STALE_TOKEN) }
}

impl Sessions {
    /// Opens a page or resumes one.
    ///
    /// # Errors
    ///
    /// The [`Close`] that the socket must send, for example [`CloseCode::Forbidden`] without a valid token, or
    /// [`CloseCode::Overloaded`] while the cluster is unavailable.
    pub async fn open(self: &Arc<Self>, open: OpenRequest) -> Result<Opened, Close> {
        let holder = self.lease.holder().ok_or_else(|| self.cut_off())?;
        let claims = match &open.hello.resume {
            None => None,
            Some(resume) => {
                let claims =
                    PageClaims::verify(&resume.token, &self.keyring).await.map_err(|_| self.cut_off())?;
                Some((claims.ok_or(NO_PROOF)?, resume.seq))
            }
        };
        let expired = |claims: &PageClaims| claims.is_older_than(self.timing.page_token, unix_ms() / 1000);
        match (open.hello.page_id, claims) {
            (Some(page), Some((claims, _))) if claims.page == page.key && expired(&claims) => Err(EXPIRED),
            (Some(page), Some((claims, seq))) if claims.page == page.key => {
                self.resume(holder, claims, seq, &open).await
            }
            (Some(_), _) => Err(NO_PROOF),
            (None, claims) => {
                // an expired token proves nothing any more; a user needs no token for the user's own sessions
                let claims = claims.map(|(claims, _)| claims).filter(|claims| !expired(claims));
                self.create(holder, claims, &open).await
            }
        }
    }

    async fn create(
        self: &Arc<Self>,
        holder: Holder,
        claims: Option<PageClaims>,
        open: &OpenRequest,
    ) -> Result<Opened, Close> {
        let user = open.user.as_deref();
        if claims.is_none() {
            self.await_named(holder, open).await;
        }
        let place = self.place(holder, claims.as_ref(), open)?;
        let connection = place.connection.key;
        let claims = claims.as_ref().filter(|claims| claims.connection == connection);
        let following = if is_anonymous(claims) { self.anonymous_pages(connection, None) } else { 0 };
        self.check_room(user, 1 + following)?;
        self.claim_for(connection, claims, user).await?;
        let key = Key::random();
        let row = self.row(holder, 1, &place, unix_ms(), &open.agent);
        let rev = self.registry.write(key, &row, Precondition::Absent).await.map_err(|error| {
            if error == WriteError::Unknown {
                self.disown(key, row.generation, true);
            }
            self.refused(error)
        })?;
        let page = self.adopt_page(key, rev, &row, false);
        self.stay(&page, claims, user, RemovalKind::Forget).await?;
        self.attach(holder, page, AttachKind::New).ok_or(RESUME_CONFLICT)
    }

    async fn resume(
        self: &Arc<Self>,
        holder: Holder,
        claims: PageClaims,
        seq: u64,
        open: &OpenRequest,
    ) -> Result<Opened, Close> {
        if self.ends(&[Expirable::Session(claims.session), Expirable::Connection(claims.connection)]) {
            return Err(UNREGISTERED);
        }
        self.check_return(&claims, open.user.as_deref())?;
        self.check_room(open.user.as_deref(), self.added_by_return(&claims, open.user.as_deref()))?;
        for _ in 0..RESUME_ATTEMPTS {
            let opened = match self.hub.page(claims.page).filter(|page| page.is_owned()) {
                // an earlier resume waits for the old holder: it gets the page in a moment, or no socket does
                Some(page) if page.is_installing() => return Err(RESUME_CONFLICT),
                // a later token: the page has moved since, and this node has not seen the row yet
                Some(page) if page.standing().generation < claims.generation => {
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
        self: &Arc<Self>,
        holder: Holder,
        page: &Arc<Page>,
        claims: &PageClaims,
        seq: u64,
        open: &OpenRequest,
    ) -> Result<Option<Opened>, Close> {
        let standing = page.standing();
        check_owner(standing.user.as_deref(), open.user.as_deref())?;
        check_generation(claims.generation, standing.told, standing.confirmed)?;
        let (connection, user) = (page.connection().key, open.user.as_deref());
        let anonymous = Some(claims).filter(|_| standing.user.is_none());
        self.claim_for(connection, anonymous, user).await?;
        let place = Membership { user: standing.user.clone().or_else(|| open.user.clone()), ..page.place() };
        let generation = standing.generation.max(standing.told + 1);
        page.writes(generation);
        let row = self.row(holder, generation, &place, page.opened(), &open.agent);
        let rev = match self.registry.write(page.key(), &row, Precondition::Rev(standing.rev)).await {
            Ok(rev) => rev,
            Err(WriteError::Conflict { .. }) => {
                self.knows_better(page, &standing).await.map_err(|Unavailable| self.cut_off())?;
                return Ok(None);
            }
            Err(error) => return Err(self.refused(error)),
        };
        self.set_row_and_user(page, rev, generation, place.user);
        if self.overtaken_by(connection, anonymous, user).await?.is_some() {
            // the page stays: it gets its user in a moment
            return Err(NOT_AUTHENTICATED);
        }
        Ok(self.attach(holder, page.clone(), AttachKind::Resumed { seq }))
    }

    /// Resumes a page that another node or an earlier incarnation (epoch) of this node held. This node wins the row
    /// first, then the old holder hands the page over if it is alive.
    async fn resume_elsewhere(
        self: &Arc<Self>,
        holder: Holder,
        claims: &PageClaims,
        seq: u64,
        open: &OpenRequest,
    ) -> Result<Option<Opened>, Close> {
        let user = open.user.as_deref();
        let (found, overtaken) = tokio::join!(
            self.registry.find(claims.page),
            // checked before the page is taken from its holder
            self.overtaken_by(claims.connection, Some(claims), user)
        );
        if overtaken?.is_some() {
            return Err(NOT_AUTHENTICATED);
        }
        let found = match found.map_err(|_| self.cut_off())? {
            RowLookup::Page(row, rev) => Some((row, rev)),
            RowLookup::Nothing => None,
            RowLookup::Unregistered => return Err(UNREGISTERED),
        };
        let (owner, generation, expect) = match &found {
            Some((row, rev)) => (row.user.clone(), row.generation, Precondition::Rev(*rev)),
            None => (claims.user.clone(), claims.generation, Precondition::Absent),
        };
        check_owner(owner.as_deref(), user)?;
        let confirmed = match &found {
            Some((row, _)) if claims.generation != row.generation => {
                self.is_confirmed(claims.page, row).await
            }
            _ => false,
        };
        check_generation(claims.generation, generation, confirmed)?;
        self.claim_for(claims.connection, Some(claims).filter(|_| owner.is_none()), user).await?;
        let at = |key| Address { key, node: holder.node };
        let (session, connection, opened) = match &found {
            Some((row, _)) => (row.session, row.connection, row.opened),
            None => (at(claims.session), at(claims.connection), unix_ms()),
        };
        let topics =
            found.iter().flat_map(|(row, _)| &row.topics).map(|topic| topic.as_str().into()).collect();
        let user = owner.map(Arc::from).or_else(|| open.user.clone());
        let place = Membership { session, connection, user, topics };
        // an interrupted move has left frames of the page on two nodes, and they cannot be put in order again
        let others =
            found.iter().flat_map(|(row, _)| [Some(Holder { node: row.node, epoch: row.epoch }), row.prev]);
        let others = others.flatten().any(|old| old != holder && self.registry.view().lives(old));
        let (old, generation) = found.map_or((None, generation + 1), |(row, _)| to_ask(&row, holder, claims));
        let prev = old.filter(|old| *old != holder && self.registry.view().lives(*old));
        let row = PageRow { prev, ..self.row(holder, generation, &place, opened, &open.agent) };
        let rev = match self.registry.write(claims.page, &row, expect).await {
            Ok(rev) => rev,
            Err(WriteError::Conflict { .. }) => return Ok(None),
            Err(error) => {
                if error == WriteError::Unknown {
                    self.disown(claims.page, generation, false);
                }
                return Err(self.refused(error));
            }
        };
        let page = self.adopt_page(claims.page, rev, &row, others);
        // another node may still have a copy and must see the removal
        let farewell = if others { RemovalKind::Unregister } else { RemovalKind::Forget };
        self.stay(&page, Some(claims), row.user.as_deref(), farewell).await?;
        match prev {
            None => Ok(self.attach(holder, page, AttachKind::Elsewhere)),
            Some(old) => self.take_over(holder, page, old, row, seq).await.map(Some),
        }
    }

    /// Keeps a page after this node has written its row, unless the connection has become a user's meanwhile.
    async fn stay(
        self: &Arc<Self>,
        page: &Arc<Page>,
        claims: Option<&PageClaims>,
        user: Option<&str>,
        farewell: RemovalKind,
    ) -> Result<(), Close> {
        match self.overtaken_by(page.connection().key, claims, user).await {
            Ok(None) => Ok(()),
            Ok(Some(owner)) => Err(self.turn_away(page, &owner, farewell)),
            Err(close) => {
                // as after an incomplete handover: the client's next resume decides
                page.leave(None, RESUME_CONFLICT);
                self.hub.remove(page);
                Err(close)
            }
        }
    }

    /// Creates the copy of a page after this node has won its row; a socket attaches later. `others`: another node may
    /// have a copy of the page.
    fn adopt_page(self: &Arc<Self>, key: Key, rev: u64, row: &PageRow, others: bool) -> Arc<Page> {
        let user = self.intern(row.user.as_deref());
        let topics = row.topics.iter().map(|topic| topic.as_str().into()).collect();
        let (generation, told) = (row.generation, 0);
        let standing = RowVersion { rev, generation, told, confirmed: false, user, topics };
        let page = Page::new(key, row.session, row.connection, row.opened, standing, self.options.budget);
        if others {
            page.mark_acquired(rev);
        }
        if row.prev.is_some() {
            page.expect_handover();
        }
        let page = Arc::new(page);
        // this node still has a stale copy: freeze it, so that the frames it took since are forwarded like other late
        // frames
        if let Some(stale) = self.hub.page(key).filter(|stale| stale.is_owned()) {
            self.freeze(stale, row.node, row.generation, rev, u64::MAX);
        }
        self.hub.insert(page.clone());
        page
    }

    pub(super) fn attach(&self, holder: Holder, page: Arc<Page>, arrival: AttachKind) -> Option<Opened> {
        let mut recovered = ResumeOutcome::New;
        let ticket = page.attach(arrival, |welcome| {
            recovered = welcome.recovered;
            self.registered(holder, &page, &welcome)
        })?;
        Some(Opened { page, ticket, recovered })
    }

    fn registered(&self, holder: Holder, page: &Page, welcome: &RegisteredState) -> FrameBody {
        FrameBody::registered(&Registered {
            connection_id: page.connection(),
            session_id: page.session(),
            page_id: Address { key: page.key(), node: holder.node },
            user: welcome.user.as_deref(),
            node: holder.node,
            lane: &self.options.lane,
            release: &self.options.release,
            token: &self.token(page, welcome.generation, welcome.user.as_deref()),
            recovered: welcome.recovered,
            seq: welcome.seq,
            pos: 0,
            received: welcome.received,
            ping_ms: self.options.ping_ms,
            limits: self.options.limits,
            allow: &self.options.allow,
        })
    }

    pub(super) fn refused(&self, error: WriteError) -> Close {
        match error {
            WriteError::Conflict { .. } => RESUME_CONFLICT,
            WriteError::Unknown | WriteError::Down | WriteError::Invalid => self.cut_off(),
        }
    }

    /// The close for an unavailable cluster. Clients reconnect at random times within the jitter, because all of them
    /// return when the cluster does.
    pub(super) fn cut_off(&self) -> Close {
        CLUSTER_UNAVAILABLE.after(self.timing.reconnect_jitter.mul_f64(rand::random()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_before_the_newest_resumes_only_until_the_newest_was_used() {
        assert!(check_generation(3, 3, true).is_ok());
        assert!(check_generation(2, 3, false).is_ok());
        assert!(check_generation(2, 3, true).is_err());
        assert!(check_generation(1, 3, false).is_err());
        assert!(check_generation(u32::MAX, 3, false).is_err());
    }
}
