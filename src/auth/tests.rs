use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::json;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW_OR_LATER: u64 = 4_000_000_000;

fn config() -> config::AuthConfig {
    let mut auth = config::load(&config::Sources::default()).unwrap().auth;
    auth.hs256_secret = Secret::new(SECRET.to_owned());
    auth
}

fn authenticator() -> Authenticator {
    Authenticator::new(&config())
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn signed_with(header: &Header, secret: &str, claims: &Value) -> String {
    signing::install();
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn signed(claims: &Value) -> String {
    signed_with(&Header::default(), SECRET, claims)
}

fn good() -> Value {
    json!({"sub": "ann", "exp": NOW_OR_LATER})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn is_invalid(token: &str) -> bool {
    matches!(authenticator().verify(token), Err(AuthError::Invalid(_)))
}

#[test]
fn a_token_proves_its_user_and_roles_until_it_expires() {
    let verified = authenticator().verify(&signed(&with("roles", json!(["push", "editor"])))).unwrap();
    assert_eq!(verified.identity.user.as_deref(), Some("ann"));
    assert!(verified.identity.roles.has(Role::Push));
    assert!(!verified.identity.roles.has(Role::Admin));
    let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW_OR_LATER + config().leeway_s);
    assert_eq!(verified.expires_at, expiry);
}

#[test]
fn admin_contains_push_and_nothing_contains_nothing() {
    assert!(Roles::from_iter([Role::Admin]).has(Role::Push));
    assert!(!Roles::default().has(Role::Push));
}

#[test]
fn the_algorithm_is_what_the_configuration_says_and_never_what_the_header_says() {
    let none = |algorithm: &str| {
        let header = BASE64.encode(json!({"alg": algorithm, "typ": "JWT"}).to_string());
        format!("{header}.{}.", BASE64.encode(good().to_string()))
    };
    for algorithm in ["none", "None", "NONE", "", "HS256", "RS256", "ES256"] {
        assert!(is_invalid(&none(algorithm)), "unsigned with alg={algorithm:?}");
    }
    let hs512 = signed_with(&Header::new(jsonwebtoken::Algorithm::HS512), SECRET, &good());
    assert!(is_invalid(&hs512), "the right secret under another algorithm");
    let both = config::AuthConfig { algorithms: vec![Algorithm::HS256, Algorithm::HS512], ..config() };
    assert!(Authenticator::new(&both).verify(&hs512).is_ok(), "unless it is configured");
}

#[test]
fn an_hmac_under_the_name_of_rsa_is_refused() {
    let token = signed(&good());
    let (_, rest) = token.split_once('.').unwrap();
    let header = BASE64.encode(json!({"alg": "RS256", "typ": "JWT"}).to_string());
    let (claims, _) = rest.split_once('.').unwrap();
    let message = format!("{header}.{claims}");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    assert!(is_invalid(&format!("{message}.{signature}")));
}

#[test]
fn a_token_without_a_proper_expiry_is_refused() {
    let mut missing = good();
    missing.as_object_mut().unwrap().remove("exp");
    assert!(is_invalid(&signed(&missing)));
    for exp in [json!("4000000000"), json!(null), json!(-1), json!(1e300), json!([NOW_OR_LATER])] {
        assert!(is_invalid(&signed(&with("exp", exp.clone()))), "{exp}");
    }
    assert!(authenticator().verify(&signed(&with("exp", json!(4e9 + 0.5)))).is_ok());
}

#[test]
fn a_refusal_names_the_claim_that_is_missing_or_of_the_wrong_type() {
    let refusal = |claims: Value| authenticator().verify(&signed(&claims)).unwrap_err().to_string();
    let table = [
        (json!({"sub": "ann"}), "the token has no exp"),
        (json!({"sub": "ann", "exp": null}), "the token"),
        (json!({"exp": NOW_OR_LATER}), "the token has no sub"),
        (json!({}), "the token has no "),
        (json!({"sub": "ann", "exp": "4000000000"}), "the token has no exp: a number"),
        (json!({"sub": "ann", "exp": NOW_OR_LATER, "nbf": "1"}), "the token's nbf is not a number"),
        (json!({"sub": 7, "exp": NOW_OR_LATER}), "the token has no sub: a text"),
        (json!({"sub": "ann", "exp": NOW_OR_LATER, "roles": "admin"}), "the token's roles are not"),
    ];
    for (claims, expected) in table {
        let message = refusal(claims.clone());
        assert!(message.starts_with(expected), "{claims}: {message}");
        // the reason must fit into a close frame
        assert!(message.len() <= 100, "{message}");
    }
}

#[test]
fn an_expired_token_is_told_apart_from_an_invalid_one() {
    let expired = with("exp", json!(now() - 3600));
    assert_eq!(authenticator().verify(&signed(&expired)), Err(AuthError::Expired));
    let forged = signed_with(&Header::default(), "another secret", &expired);
    assert!(is_invalid(&forged), "a forged token does not show whether it has expired");
    let within_leeway = with("exp", json!(now() - 5));
    assert!(authenticator().verify(&signed(&within_leeway)).is_ok());
}

#[test]
fn a_token_of_the_future_is_refused() {
    assert!(is_invalid(&signed(&with("nbf", json!(now() + 3600)))));
    assert!(is_invalid(&signed(&with("nbf", json!((now() + 3600).to_string())))));
    assert!(authenticator().verify(&signed(&with("nbf", json!(now())))).is_ok());
}

#[test]
fn a_user_is_a_text_of_1_to_256_bytes() {
    for sub in [json!(""), json!(7), json!(null), json!(["ann"]), json!("x".repeat(257))] {
        assert!(is_invalid(&signed(&with("sub", sub.clone()))), "{sub}");
    }
    for sub in ["*", ">", "a.b", "..", "a b", &"😀".repeat(64)] {
        let verified = authenticator().verify(&signed(&with("sub", json!(sub)))).unwrap();
        assert_eq!(verified.identity.user.as_deref(), Some(sub));
    }
}

#[test]
fn roles_are_a_list_of_texts() {
    assert!(is_invalid(&signed(&with("roles", json!("admin")))));
    assert!(is_invalid(&signed(&with("roles", json!({"admin": true})))));
}

#[test]
fn issuer_and_audience_are_required_when_configured() {
    let strict = config::AuthConfig { issuer: "idp".into(), audience: "app".into(), ..config() };
    let strict = Authenticator::new(&strict);
    assert!(strict.verify(&signed(&good())).is_err(), "neither");
    let with_issuer = |aud: Value| json!({"sub": "ann", "exp": NOW_OR_LATER, "iss": "idp", "aud": aud});
    assert!(strict.verify(&signed(&with_issuer(json!(["other", "app"])))).is_ok());
    assert!(strict.verify(&signed(&with_issuer(json!("other")))).is_err());
    let other = json!({"sub": "ann", "exp": NOW_OR_LATER, "iss": "evil", "aud": "app"});
    assert!(strict.verify(&signed(&other)).is_err());
    assert!(authenticator().verify(&signed(&other)).is_ok(), "not configured, not looked at");
}

#[test]
fn what_is_no_token_is_refused_and_nothing_panics() {
    let long = signed(&with("pad", json!("x".repeat(9000))));
    for token in ["", ".", "..", "a.b.c", "é.ü.😀", &long, SECRET] {
        assert!(is_invalid(token), "{token:.20}");
    }
    let critical = Header { crit: Some(vec!["b64".into()]), ..Header::default() };
    assert!(is_invalid(&signed_with(&critical, SECRET, &good())));
}

#[test]
fn without_a_secret_no_token_is_accepted() {
    let open = Authenticator::new(&config::load(&config::Sources::default()).unwrap().auth);
    let empty = signed_with(&Header::default(), "", &good());
    assert!(open.verify(&empty).is_err() && open.verify(&signed(&good())).is_err());
    assert!(open.allows_anonymous());
}

#[test]
fn an_api_key_is_one_of_the_configured_ones_entirely() {
    let keys = vec![Secret::new("first-key".into()), Secret::new("second-key".into())];
    let keyed = Authenticator::new(&config::AuthConfig { api_keys: keys, ..config() });
    assert!(keyed.is_api_key("first-key") && keyed.is_api_key("second-key"));
    for wrong in ["", "first-ke", "first-keyx", "First-key"] {
        assert!(!keyed.is_api_key(wrong), "{wrong}");
    }
    assert!(keyed.has_api_keys() && !authenticator().is_api_key(""));
}

#[test]
fn an_issued_token_is_accepted_by_the_same_configuration() {
    let config = config::AuthConfig { issuer: "idp".into(), audience: "app".into(), ..config() };
    let token = issue(&config, "a.b", &["admin".into()], Duration::from_secs(60)).unwrap();
    let verified = Authenticator::new(&config).verify(&token).unwrap();
    assert_eq!(verified.identity.user.as_deref(), Some("a.b"));
    assert!(verified.identity.roles.has(Role::Admin));
    assert!(verified.expires_at > SystemTime::now());
}
