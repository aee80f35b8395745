//! Users' tokens, signed like those of an application's login.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The `auth.hs256_secret` of the nodes in these tests.
pub(crate) const SECRET: &str = "a secret of the tests, long enough for HS256";

pub(crate) struct Token {
    claims: Value,
}

impl Token {
    /// Creates a token of this user, valid for an hour.
    pub(crate) fn of(user: &str) -> Self {
        Self { claims: json!({"sub": user}) }.valid_for(Duration::from_secs(3600))
    }

    pub(crate) fn with_role(mut self, role: &str) -> Self {
        self.claims["roles"] = json!([role]);
        self
    }

    pub(crate) fn with_topic(mut self, pattern: &str) -> Self {
        self.claims["topics"] = json!([pattern]);
        self
    }

    pub(crate) fn with_claim(mut self, name: &str, value: &str) -> Self {
        self.claims[name] = json!(value);
        self
    }

    pub(crate) fn valid_for(self, time: Duration) -> Self {
        self.until(SystemTime::now() + time)
    }

    pub(crate) fn expired(self) -> Self {
        self.until(SystemTime::now() - Duration::from_secs(600))
    }

    fn until(mut self, end: SystemTime) -> Self {
        self.claims["exp"] = json!(end.duration_since(UNIX_EPOCH).expect("after 1970").as_secs());
        self
    }

    /// Signs the token by RFC 7519 and 7515, without the library that the server reads it with.
    pub(crate) fn sign(&self) -> String {
        let part = |json: &Value| BASE64.encode(json.to_string());
        let message = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(&self.claims));
        let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        let signature = key.chain_update(&message).finalize().into_bytes();
        format!("{message}.{}", BASE64.encode(signature))
    }
}
