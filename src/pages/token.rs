//! The token of a page: the proof that a client held it.
//!
//! `<base64url of the claims>.<key id>.<base64url of the HMAC-SHA256>`, signed with the cluster's key ring. The token
//! grants nothing but a return to the page, its session or its connection; an entity of a user also requires
//! authentication as that user.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::keyring::Keyring;
use serde::{Deserialize, Serialize};

use super::page::Page;
use super::sessions::Sessions;
use crate::protocol::FrameBody;
use pagewire_cluster::clock::unix_ms;

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
    pub(super) fn sign(&self, keyring: &Keyring) -> String {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(pagewire_cluster::wire::encode(self));
        let signature = keyring.sign(claims.as_bytes());
        format!("{claims}.{signature}")
    }

    /// The claims of a genuine token; `None` for any other text.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the key ring cannot be read.
    pub(super) async fn verify(token: &str, keyring: &Keyring) -> Result<Option<Self>, Unavailable> {
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

impl Sessions {
    /// The token that the page's client resumes with from now on, issued at a time in seconds since the Unix epoch.
    /// Takes no lock of the page, because the page builds its `registered` frame under its lock.
    pub(super) fn token(&self, page: &Page, generation: u32, user: Option<&str>, issued: u64) -> String {
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

    /// Renews the tokens of open pages: a page gets a new token when its token has reached half of its maximum age.
    pub async fn renew_tokens(&self) {
        let half = self.timing.page_token.as_secs() / 2;
        for pages in self.pages().chunks(TURN) {
            let Some(holder) = self.lease.holder() else { return };
            let now = unix_ms() / 1000;
            let old = |page: &&Arc<Page>| page.is_live() && now.saturating_sub(page.token_given()) >= half;
            for page in pages.iter().filter(old) {
                let standing = page.version();
                let token = self.token(page, standing.generation, standing.user.as_deref(), now);
                page.set_token_given(now);
                page.push_unsequenced(FrameBody::address(
                    Address { key: page.key(), node: holder.node },
                    &token,
                ));
            }
            tokio::task::yield_now().await;
        }
    }
}
