//! Tokens that this server issues: for users who have logged in to an application of a mount.
//!
//! Owns: the claims of such a token. Never: whether the user is who logs in, which the application has checked.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pagewire_cluster::clock;
use serde_json::{Map, json};

use crate::config::AuthConfig;

/// Issues tokens that the server itself accepts.
pub struct TokenIssuer {
    key: EncodingKey,
    algorithm: Algorithm,
    issuer: String,
    audience: String,
    cookie: String,
}

impl TokenIssuer {
    /// Creates the issuer of a configuration; `None` if it has no secret of tokens, or no cookie that carries one.
    pub fn new(config: &AuthConfig) -> Option<Self> {
        super::signing::install();
        let (secret, cookie) = (config.hs256_secret.expose(), config.cookie.clone());
        let algorithm = *config.algorithms.first()?;
        (!secret.is_empty() && !cookie.is_empty()).then(|| Self {
            key: EncodingKey::from_secret(secret.as_bytes()),
            algorithm: algorithm.into(),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            cookie,
        })
    }

    /// Returns the cookie that carries a token.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Issues a token of a user, which has no roles. `None` if it cannot be signed.
    pub fn issue(&self, user: &str, valid: Duration) -> Option<String> {
        let now = clock::unix();
        let expires = now.saturating_add(valid).as_secs();
        // with microseconds: a login may begin right after all others have ended
        let began = now.as_micros() as f64 / 1e6;
        let claims = [("sub", json!(user)), ("exp", json!(expires)), ("iat", json!(began))];
        let mut claims = Map::from_iter(claims.map(|(name, value)| (name.to_owned(), value)));
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if !value.is_empty() {
                claims.insert(name.to_owned(), json!(value));
            }
        }
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Authenticator;
    use crate::config::{Algorithm as ConfiguredAlgorithm, Secret};

    fn config() -> AuthConfig {
        AuthConfig {
            anonymous: true,
            hs256_secret: Secret::new("a secret of the tests, long enough for HS256".to_owned()),
            algorithms: vec![ConfiguredAlgorithm::HS512, ConfiguredAlgorithm::HS256],
            issuer: "me".to_owned(),
            audience: "pages".to_owned(),
            leeway_s: 0,
            cookie: "token".to_owned(),
            api_keys: Vec::new(),
        }
    }

    #[test]
    fn a_token_that_the_server_issues_proves_its_user_and_no_role_to_the_server() {
        let config = config();
        let token = TokenIssuer::new(&config).unwrap().issue("ann@ä", Duration::from_secs(60)).unwrap();
        let verified = Authenticator::new(&config).verify(&token).unwrap();
        assert_eq!(verified.identity.user.as_deref(), Some("ann@ä"));
        assert_eq!(verified.identity.roles, Default::default());
        assert!(verified.topics.is_empty());
        let other = AuthConfig { audience: "others".to_owned(), ..config };
        assert!(Authenticator::new(&other).verify(&token).is_err());
    }

    #[test]
    fn no_token_is_issued_without_a_secret_or_without_a_cookie() {
        assert!(TokenIssuer::new(&AuthConfig { hs256_secret: Secret::default(), ..config() }).is_none());
        assert!(TokenIssuer::new(&AuthConfig { cookie: String::new(), ..config() }).is_none());
    }
}
