//! The token of a page: the proof that a client held it.
//!
//! Owns: the claims, and when an open page gets a new token. Never: the keys, or what a token permits.
//!
//! `<base64url of the claims>.<key id>.<base64url of the HMAC-SHA256>`, signed with the cluster's key ring. The token
//! grants nothing but a return to the page, its session or its connection; an entity of a user also requires
//! authentication as that user.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::{Address, Key, NodeNumber};
use pagewire_cluster::keyring::Keyring;
use serde::{Deserialize, Serialize};

use super::page::Page;
use super::store::PageStore;
use crate::protocol::FrameBody;

/// Number of pages that are checked before the task yields.
const TURN: usize = 256;

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PageClaims {
    /// The page.
    pub(super) page: Key,
    /// The page's session.
    pub(super) session: Key,
    /// The page's connection.
    pub(super) connection: Key,
    /// The page's user when the token was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// The page's generation.
    #[serde(rename = "gen")]
    pub(super) generation: u32,
    /// Time of issue, in seconds since the Unix epoch.
    pub(super) issued: u64,
}

impl PageClaims {
    /// Signs the claims and returns the token.
    fn sign(&self, keyring: &Keyring) -> String {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(pagewire_cluster::wire::encode(self));
        let signature = keyring.sign(claims.as_bytes());
        format!("{claims}.{signature}")
    }

    /// The claims of a genuine token; `None` for any other text.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the key ring cannot be read.
    async fn verify(token: &str, keyring: &Keyring) -> Result<Option<Self>, Unavailable> {
        let Some((claims, signature)) = token.split_once('.') else { return Ok(None) };
        if !keyring.verify(claims.as_bytes(), signature).await? {
            return Ok(None);
        }
        let json = BASE64_URL_SAFE_NO_PAD.decode(claims).ok();
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    /// Whether the token was issued more than `age` before `now` (seconds since the Unix epoch).
    pub(super) fn is_older_than(&self, age: Duration, now: u64) -> bool {
        now.saturating_sub(self.issued) > age.as_secs()
    }
}

/// Issues and verifies page tokens. Cheap to clone.
#[derive(Clone)]
pub struct PageTokens {
    keyring: Keyring,
}

impl PageTokens {
    /// Tokens that these keys sign.
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring }
    }

    /// The keys that sign page tokens.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Returns whether a token is that of a page, and not too old.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the key ring cannot be read.
    pub async fn proves(&self, token: &str, page: Key, age: Duration) -> Result<bool, Unavailable> {
        let claims = self.verify(token).await?;
        Ok(claims.is_some_and(|claims| claims.page == page && !claims.is_older_than(age, self.now_s())))
    }

    /// The claims of a genuine token; `None` for any other text.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the key ring cannot be read.
    pub(super) async fn verify(&self, token: &str) -> Result<Option<PageClaims>, Unavailable> {
        PageClaims::verify(token, &self.keyring).await
    }

    /// Returns the time of the cluster, by which tokens age, in seconds since the Unix epoch.
    pub(super) fn now_s(&self) -> u64 {
        self.keyring.now_s()
    }

    /// The token that the page's client resumes with from now on, issued at a time in seconds since the Unix epoch.
    /// Takes no lock of the page, because the page builds its `registered` frame under its lock.
    pub(super) fn issue(&self, page: &Page, generation: u32, user: Option<&str>, issued: u64) -> String {
        let claims = PageClaims {
            page: page.key(),
            session: page.session().key,
            connection: page.connection().key,
            user: user.map(str::to_owned),
            generation,
            issued,
        };
        claims.sign(&self.keyring)
    }

    /// Sends a page its address at this node and a new token.
    pub(super) fn push_address(&self, page: &Page, node: NodeNumber) {
        let (version, issued) = (page.version(), self.now_s());
        // of the generation that the client knows: no socket got a token of a later one
        let token = self.issue(page, version.issued, version.user.as_deref(), issued);
        page.set_token_given(issued);
        page.push_unsequenced(FrameBody::address(Address { key: page.key(), node }, &token));
    }

    /// Renews the tokens of open pages: a page gets a new token when its token has reached half of its maximum age.
    pub async fn renew(&self, store: &PageStore) {
        let half = store.timing.page_token.as_secs() / 2;
        for pages in store.pages().chunks(TURN) {
            let Some(holder) = store.lease.holder() else { return };
            let now = self.now_s();
            let is_old = |page: &&Arc<Page>| page.is_live() && now.saturating_sub(page.token_given()) >= half;
            pages.iter().filter(is_old).for_each(|page| self.push_address(page, holder.node));
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::engine::{Engine, Memory};

    use super::super::outbox::Budget;
    use super::super::page::{AttachKind, Membership};
    use super::*;
    use crate::protocol::pong;

    #[tokio::test]
    async fn a_new_token_has_the_generation_that_the_client_knows() {
        let engine = Engine::Memory(Memory::new());
        let tokens = PageTokens::new(Keyring::load(&engine).await.unwrap());
        let node = NodeNumber::new(1).unwrap();
        let at = Address { key: Key::from_bits(1), node };
        let place = Membership::new(at, at, None);
        let page = Page::new(at.key, place, 0, 1, 1, Budget { outbox: 4000, replay: 4000 });
        let ticket = page.attach(AttachKind::New, |_| pong()).unwrap();
        // a row of a resume that got no socket
        page.set_row(2, 2, None);
        tokens.push_address(&page, node);
        let mut token = None;
        page.take(ticket, 4000, &mut |head, tail| {
            let frame: serde_json::Value = serde_json::from_slice(&[head, tail.bytes()].concat()).unwrap();
            token = frame["token"].as_str().map(str::to_owned).or(token.take());
        });
        let claims = tokens.verify(&token.unwrap()).await.unwrap().unwrap();
        assert_eq!((claims.page, claims.generation), (at.key, page.version().issued));
        assert_eq!(claims.generation, 1);
    }
}
