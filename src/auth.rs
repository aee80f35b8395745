//! Authentication: tokens (JWT) and API keys.
//!
//! Owns: the verification of tokens and keys, the identity that a valid token proves ([`Identity`]), and the reason
//! of a refusal. Never: the source of a token (header, cookie, `hello`), or the rights of an identity over a page. A
//! leaf.

mod issuing;
mod signing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::{Choice, ConstantTimeEq};

use crate::config::{self, Algorithm, Secret};
pub use issuing::TokenIssuer;
use pagewire_cluster::clock;
use pagewire_cluster::id::check_user;
use pagewire_cluster::login::EndedLogins;

/// Maximum length of a token in bytes; a longer one is not decoded.
const MAX_TOKEN: usize = 8 * 1024;

/// A right beyond the page's own data, granted by a token's `roles`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// May send to all pages.
    Push,
    /// May do everything, which includes pushing.
    Admin,
}

impl Role {
    /// Parses a role. Returns `None` for an unknown role, because applications have roles of their own.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "push" => Some(Self::Push),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Push => 0b01,
            Self::Admin => 0b11,
        }
    }
}

/// A set of roles, stored in one byte because every page has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Whether the set contains this role; `admin` contains all others.
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() == role.bit()
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

/// The identity of a caller: a user with roles, or anonymous.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`; `None` for anonymous.
    pub user: Option<Arc<str>>,
    /// The rights that the token grants beyond the page's own data.
    pub roles: Roles,
}

/// The identity that a valid token proves, and its expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The authenticated identity.
    pub identity: Identity,
    /// When the token expires, including the leeway.
    pub expires_at: SystemTime,
    /// Patterns of the topics that the token grants.
    pub topics: Vec<String>,
    /// Its claims that say something of the user, for the rules of rollouts: all but `exp` and `topics`.
    pub claims: Map<String, Value>,
}

/// Reason why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token was valid and has expired: the client gets a new one and reconnects (close 4504).
    #[error("the token has expired")]
    Expired,
    /// The token is invalid (close 4001).
    #[error("{0}")]
    Invalid(&'static str),
}

/// Checks tokens and keys against the configuration.
pub struct Authenticator {
    tokens: Option<(DecodingKey, Validation)>,
    api_keys: Vec<Secret>,
    anonymous: bool,
    ended: Option<EndedLogins>,
}

#[derive(Deserialize)]
struct Claims {
    // untyped values, so that an error can name the claim that is wrong
    #[serde(default)]
    sub: Value,
    #[serde(default)]
    exp: Value,
    #[serde(default)]
    roles: Value,
    #[serde(default)]
    topics: Value,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Authenticator {
    /// Creates the authenticator of a configuration.
    pub fn new(config: &config::AuthConfig) -> Self {
        signing::install();
        let secret = config.hs256_secret.expose().as_bytes();
        let tokens = (!secret.is_empty()).then(|| (DecodingKey::from_secret(secret), validation(config)));
        Self { tokens, api_keys: config.api_keys.clone(), anonymous: config.anonymous, ended: None }
    }

    /// Refuses tokens of logins that have ended.
    #[must_use]
    pub fn without(mut self, ended: EndedLogins) -> Self {
        self.ended = Some(ended);
        self
    }

    /// Whether a client without a token may open a page.
    pub const fn allows_anonymous(&self) -> bool {
        self.anonymous
    }

    /// Whether at least one API key is configured.
    pub const fn has_api_keys(&self) -> bool {
        !self.api_keys.is_empty()
    }

    /// Whether `candidate` is one of the API keys. The comparison takes constant time, so it does not reveal how
    /// close a wrong key is.
    pub fn is_api_key(&self, candidate: &str) -> bool {
        let same = |key: &Secret| key.expose().as_bytes().ct_eq(candidate.as_bytes());
        self.api_keys.iter().map(same).fold(Choice::from(0), |any, one| any | one).into()
    }

    /// Verifies a token.
    ///
    /// # Errors
    ///
    /// [`AuthError::Expired`] when the token was valid and has expired. [`AuthError::Invalid`] when no secret is
    /// configured, the token is longer than 8 KiB, its signature, a header or a claim is wrong, or its login has ended.
    pub fn verify(&self, token: &str) -> Result<Verified, AuthError> {
        let Some((key, validation)) = &self.tokens else {
            return Err(AuthError::Invalid("this server accepts no tokens"));
        };
        if token.len() > MAX_TOKEN {
            return Err(AuthError::Invalid("the token is longer than 8 KiB"));
        }
        let decoded =
            jsonwebtoken::decode::<Claims>(token, key, validation).map_err(|e| refusal(e.kind()))?;
        if decoded.header.crit.is_some() {
            return Err(AuthError::Invalid("the token has critical headers that this server does not know"));
        }
        let Claims { sub, exp, roles, topics, others: mut claims } = decoded.claims;
        claims.insert("roles".to_owned(), roles.clone());
        claims.insert("sub".to_owned(), sub.clone());
        let Value::String(sub) = sub else { return Err(AuthError::Invalid(missing("sub"))) };
        // RFC 7519 allows fractions of a second
        let exp = exp.as_f64().ok_or(AuthError::Invalid(missing("exp")))?;
        let (roles, topics) = (texts("roles", roles)?, texts("topics", topics)?);
        check_user(&sub).map_err(|_| AuthError::Invalid("the token's sub does not have 1 to 256 bytes"))?;
        let began = claims.get("iat").and_then(Value::as_f64).map(|seconds| (seconds * 1e6).round() as u64);
        if self.ended.as_ref().is_some_and(|ended| ended.has_ended(&sub, began)) {
            return Err(AuthError::Invalid("the login has ended"));
        }
        let roles = roles.iter().filter_map(|role| Role::parse(role)).collect();
        let expires_at = Duration::try_from_secs_f64(exp)
            .ok()
            .and_then(|since_epoch| since_epoch.checked_add(Duration::from_secs(validation.leeway)))
            .and_then(|since_epoch| SystemTime::UNIX_EPOCH.checked_add(since_epoch))
            .ok_or(AuthError::Invalid("the token's exp is not a time"))?;
        Ok(Verified { identity: Identity { user: Some(sub.into()), roles }, expires_at, topics, claims })
    }
}

fn validation(config: &config::AuthConfig) -> Validation {
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.algorithms = config.algorithms.iter().copied().map(Into::into).collect();
    validation.leeway = config.leeway_s;
    validation.validate_nbf = true;
    let mut required = vec!["exp", "sub"];
    if !config.issuer.is_empty() {
        validation.set_issuer(&[&config.issuer]);
        required.push("iss");
    }
    validation.validate_aud = !config.audience.is_empty();
    if validation.validate_aud {
        validation.set_audience(&[&config.audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn refusal(kind: &ErrorKind) -> AuthError {
    AuthError::Invalid(match kind {
        ErrorKind::ExpiredSignature => return AuthError::Expired,
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm => "the token is signed with an algorithm that is not accepted",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token comes from another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(claim) => missing(claim),
        ErrorKind::InvalidClaimFormat(claim) => wrong_type(claim),
        ErrorKind::Json(_) => {
            "a claim of the token has the wrong type: sub is a text, exp and nbf are numbers, roles and topics are lists of texts"
        }
        _ => "this is not a token",
    })
}

/// Reads a claim that is a list of texts and may be absent.
fn texts(claim: &str, value: Value) -> Result<Vec<String>, AuthError> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    serde_json::from_value(value).map_err(|_| AuthError::Invalid(wrong_type(claim)))
}

fn missing(claim: &str) -> &'static str {
    match claim {
        "exp" => "the token has no exp: a number, the second since 1970 at which it expires",
        "sub" => "the token has no sub: a text, the user that it is for",
        "iss" => "the token has no iss, and auth.issuer requires one",
        "aud" => "the token has no aud, and auth.audience requires one",
        _ => "the token lacks a claim that is required",
    }
}

fn wrong_type(claim: &str) -> &'static str {
    match claim {
        "exp" => "the token's exp is not a number of seconds since 1970",
        "nbf" => "the token's nbf is not a number of seconds since 1970",
        "roles" => "the token's roles are not a list of texts",
        "topics" => "the token's topics are not a list of texts",
        _ => "a claim of the token has the wrong type",
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 => Self::HS256,
            Algorithm::HS384 => Self::HS384,
            Algorithm::HS512 => Self::HS512,
        }
    }
}

/// Signs a token that [`Authenticator::verify`] with the same configuration accepts, for experiments, tests and
/// operators. Returns `None` when no secret or no algorithm is configured.
pub fn issue(config: &config::AuthConfig, user: &str, roles: &[String], ttl: Duration) -> Option<String> {
    if config.hs256_secret.is_empty() {
        return None;
    }
    let now = clock::unix();
    let mut claims =
        serde_json::json!({"sub": user, "exp": now.saturating_add(ttl).as_secs(), "roles": roles});
    for (claim, value) in [("iss", &config.issuer), ("aud", &config.audience)] {
        if !value.is_empty() {
            claims[claim] = value.as_str().into();
        }
    }
    signing::install();
    let header = Header::new((*config.algorithms.first()?).into());
    let key = EncodingKey::from_secret(config.hs256_secret.expose().as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).ok()
}

#[cfg(test)]
mod tests;
