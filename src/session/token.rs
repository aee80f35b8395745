//! The token of a page: the proof that a client held it.
//!
//! `<base64url of the claims>.<key id>.<base64url of the HMAC-SHA256>`, signed with the cluster's key ring. It gives
//! no rights beyond coming back; what has a user needs that user's authentication in addition.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pagewire_cluster::engine::Down;
use pagewire_cluster::id::Key;
use pagewire_cluster::keyring::Keyring;
use serde::{Deserialize, Serialize};

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The page.
    pub(super) page: Key,
    /// Its session.
    pub(super) session: Key,
    /// Its connection.
    pub(super) connection: Key,
    /// Its user when the token was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// The page's generation.
    #[serde(rename = "gen")]
    pub(super) generation: u32,
    /// When it was given, in seconds since the Unix epoch.
    pub(super) issued: u64,
}

impl Claims {
    /// The token.
    pub(super) fn sign(&self, keyring: &Keyring) -> String {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(pagewire_cluster::wire::encode(self));
        let signature = keyring.sign(claims.as_bytes());
        format!("{claims}.{signature}")
    }

    /// The claims of a genuine token, `None` of any other text.
    pub(super) async fn verify(token: &str, keyring: &Keyring) -> Result<Option<Self>, Down> {
        let Some((claims, signature)) = token.split_once('.') else { return Ok(None) };
        if !keyring.verify(claims.as_bytes(), signature).await? {
            return Ok(None);
        }
        let json = BASE64_URL_SAFE_NO_PAD.decode(claims).ok();
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }
}
