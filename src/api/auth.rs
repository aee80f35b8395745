//! Access control of the API.
//!
//! A valid key or token grants access from anywhere. Without any configured key the API is open to this machine only.
//! So that no web page gets in through a browser on this machine, it then accepts only requests that name this
//! machine as their host, come from no other origin, and cannot be sent by an HTML form.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::extract::is_json;
use crate::auth::{AuthError, Authenticator, Role};
use crate::config::names_this_machine;
use crate::protocol::ErrorCode;

/// Access policy of a group of endpoints.
#[derive(Clone)]
pub(super) struct AuthPolicy {
    /// The role that a token must have.
    pub(super) needs: Role,
    /// Whether the node listens on this machine only.
    pub(super) open: bool,
    /// Checks keys and tokens.
    pub(super) authenticator: Arc<Authenticator>,
}

/// The authenticated caller, for audit fields such as `updated_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// A holder of an API key, or of a token without a user.
    ApiKey,
    /// The user of a token.
    User(Arc<str>),
    /// A caller on this machine, without credentials.
    Local,
}

impl Principal {
    /// The name that audit fields show.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::ApiKey => "an API key",
            Self::User(user) => user,
            Self::Local => "this machine",
        }
    }
}

/// The facts of a request that the decision depends on.
#[derive(Debug, Clone, Copy)]
struct RequestFacts<'a> {
    peer: Option<IpAddr>,
    host: Option<&'a str>,
    origin: Option<&'a str>,
    forwarded: bool,
    /// `Some` when there is an `Authorization` header: its bearer credential, empty for another scheme.
    credential: Option<&'a str>,
    writes: bool,
    json: bool,
}

/// Middleware: authorizes the request and adds its [`Principal`], or refuses it.
pub(super) async fn guard(State(policy): State<AuthPolicy>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    match policy.authorize(&RequestFacts::of(request.headers(), request.method(), request.version(), peer)) {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

impl<'a> RequestFacts<'a> {
    fn of(headers: &'a HeaderMap, method: &Method, version: Version, peer: Option<IpAddr>) -> Self {
        // a header that occurs twice counts as absent
        let text = |name| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
        };
        let bearer = |value: &'a str| {
            let (scheme, credential) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim())
        };
        Self {
            peer,
            host: text(header::HOST),
            origin: headers.contains_key(header::ORIGIN).then(|| text(header::ORIGIN).unwrap_or("null")),
            forwarded: is_from_proxy(headers, version),
            credential: headers
                .contains_key(header::AUTHORIZATION)
                .then(|| text(header::AUTHORIZATION).and_then(bearer).unwrap_or_default()),
            writes: !matches!(*method, Method::GET | Method::HEAD),
            // an HTML form cannot send DELETE, and a deletion has no body
            json: is_json(headers) || *method == Method::DELETE,
        }
    }
}

impl AuthPolicy {
    fn authorize(&self, facts: &RequestFacts<'_>) -> Result<Principal, ApiError> {
        let refuse = |code, message: &'static str| Err(ApiError::new(code, message));
        if let Some(credential) = facts.credential {
            return self.admit_credential(credential);
        }
        if !self.open || self.authenticator.has_api_keys() {
            return refuse(
                ErrorCode::Unauthenticated,
                "an API key or a token is needed: Authorization: Bearer …",
            );
        }
        let here = facts.peer.is_some_and(|peer| peer.to_canonical().is_loopback());
        if facts.forwarded {
            return refuse(
                ErrorCode::Forbidden,
                "without a key the API is closed to proxies and HTTP/1.0: set auth.api_keys",
            );
        }
        if !here || !facts.host.is_some_and(names_this_machine) {
            return refuse(ErrorCode::Forbidden, "without a key the API is open to this machine alone");
        }
        let own = |origin: &str| origin.strip_prefix("http://") == facts.host;
        if !facts.origin.is_none_or(own) {
            return refuse(ErrorCode::Forbidden, "without a key the API is closed to other origins");
        }
        if facts.writes && !facts.json {
            return refuse(ErrorCode::Forbidden, "without a key a request that writes is application/json");
        }
        Ok(Principal::Local)
    }

    fn admit_credential(&self, credential: &str) -> Result<Principal, ApiError> {
        if self.authenticator.is_api_key(credential) {
            return Ok(Principal::ApiKey);
        }
        match self.authenticator.verify(credential) {
            Ok(verified) if verified.identity.roles.has(self.needs) => {
                Ok(verified.identity.user.map_or(Principal::ApiKey, Principal::User))
            }
            Ok(_) => Err(ApiError::new(ErrorCode::Forbidden, "the token does not have the needed role")),
            Err(AuthError::Expired) => {
                Err(ApiError::new(ErrorCode::Unauthenticated, "the token has expired"))
            }
            Err(AuthError::Invalid(_)) => {
                Err(ApiError::new(ErrorCode::Unauthenticated, "this is neither an API key nor a valid token"))
            }
        }
    }
}

/// Headers that only a proxy adds. Headers that begin with one of [`PROXY_PREFIXES`] count as well.
const PROXY_HEADERS: [&str; 10] = [
    "via",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "client-ip",
    "x-proxyuser-ip",
    "x-varnish",
    "proxy-connection",
];
const PROXY_PREFIXES: [&str; 10] = [
    "x-forwarded",
    "x-original-",
    "x-envoy-",
    "x-amzn-",
    "x-appengine-",
    "x-azure-",
    "cf-",
    "cdn-",
    "fastly-",
    "fly-",
];

/// Whether a request came through a proxy. nginx adds no header unless it is configured to, but forwards with
/// HTTP/1.0 as long as its `proxy_http_version` has the old default.
fn is_from_proxy(headers: &HeaderMap, version: Version) -> bool {
    let is_mark = |name: &str| {
        PROXY_HEADERS.contains(&name) || PROXY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    version < Version::HTTP_11 || headers.keys().any(|name| is_mark(name.as_str()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth;
    use crate::config::{self, Secret, Sources};

    fn config(api_keys: &[&str]) -> config::AuthConfig {
        let auth = config::load(&Sources::default()).unwrap().auth;
        let api_keys = api_keys.iter().map(|key| Secret::new((*key).to_owned())).collect();
        config::AuthConfig {
            hs256_secret: Secret::new("0123456789abcdef0123456789abcdef".into()),
            api_keys,
            ..auth
        }
    }

    fn policy(needs: Role, open: bool, api_keys: &[&str]) -> AuthPolicy {
        AuthPolicy { needs, open, authenticator: Arc::new(Authenticator::new(&config(api_keys))) }
    }

    const GOOD: RequestFacts<'_> = RequestFacts {
        peer: Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
        host: Some("127.0.0.1:8080"),
        origin: None,
        forwarded: false,
        credential: None,
        writes: false,
        json: false,
    };

    #[test]
    fn without_a_key_only_this_machine_is_let_in() {
        let policy = policy(Role::Admin, true, &[]);
        let from = |peer: &str| Some(peer.parse().unwrap());
        let table = [
            (true, GOOD, "a program on this machine"),
            (true, RequestFacts { peer: from("::1"), host: Some("[::1]:8080"), ..GOOD }, "over IPv6"),
            (true, RequestFacts { peer: from("::ffff:127.0.0.1"), ..GOOD }, "IPv4 on a dual-stack socket"),
            (true, RequestFacts { host: Some("LocalHost"), ..GOOD }, "by name, without a port"),
            (true, RequestFacts { origin: Some("http://127.0.0.1:8080"), ..GOOD }, "the node's own page"),
            (true, RequestFacts { writes: true, json: true, ..GOOD }, "a JSON write"),
            (false, RequestFacts { peer: from("192.0.2.1"), ..GOOD }, "another machine"),
            (false, RequestFacts { peer: None, ..GOOD }, "an unknown peer"),
            (false, RequestFacts { host: None, ..GOOD }, "no host"),
            (
                false,
                RequestFacts { host: Some("evil.example:8080"), ..GOOD },
                "a name that resolves to this machine",
            ),
            (false, RequestFacts { host: Some("127.0.0.1.evil.example"), ..GOOD }, "a name that looks local"),
            (false, RequestFacts { host: Some("localhost.evil.example:1"), ..GOOD }, "another one"),
            (false, RequestFacts { host: Some("[::1"), ..GOOD }, "half an address"),
            (false, RequestFacts { host: Some("10.0.0.1"), ..GOOD }, "this machine's other address"),
            (false, RequestFacts { origin: Some("https://evil.example"), ..GOOD }, "another origin"),
            (
                false,
                RequestFacts { origin: Some("http://127.0.0.1:3000"), ..GOOD },
                "another port is another origin",
            ),
            (false, RequestFacts { origin: Some("https://127.0.0.1:8080"), ..GOOD }, "another scheme too"),
            (false, RequestFacts { origin: Some("null"), ..GOOD }, "a sandboxed page"),
            (false, RequestFacts { forwarded: true, ..GOOD }, "through a proxy"),
            (false, RequestFacts { writes: true, ..GOOD }, "a write that a form could send"),
        ];
        for (admitted, request, who) in table {
            assert_eq!(policy.authorize(&request).is_ok(), admitted, "{who}");
        }
    }

    #[test]
    fn with_a_key_configured_or_beyond_this_machine_a_credential_is_needed() {
        let keyed = policy(Role::Admin, true, &["the-key"]);
        assert!(keyed.authorize(&GOOD).is_err(), "this machine alone is not enough any more");
        let exposed = policy(Role::Admin, false, &[]);
        assert!(exposed.authorize(&GOOD).is_err(), "a proxy on this machine may not say that it is one");
        let elsewhere = RequestFacts { peer: None, host: None, forwarded: true, writes: true, ..GOOD };
        assert!(keyed.authorize(&RequestFacts { credential: Some("the-key"), ..elsewhere }).is_ok());
        for wrong in ["", "the-ke", "the-key "] {
            assert!(keyed.authorize(&RequestFacts { credential: Some(wrong), ..GOOD }).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_wrong_credential_is_refused_even_where_none_is_needed() {
        assert!(
            policy(Role::Admin, true, &[])
                .authorize(&RequestFacts { credential: Some("x"), ..GOOD })
                .is_err()
        );
    }

    #[test]
    fn a_token_opens_what_its_roles_open() {
        let token = |roles: &[&str]| {
            let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
            auth::issue(&config(&[]), "ann", &roles, Duration::from_secs(60)).unwrap()
        };
        let (none, push, admin) = (token(&[]), token(&["push"]), token(&["admin"]));
        for (needs, token, admitted) in [
            (Role::Push, &none, false),
            (Role::Push, &push, true),
            (Role::Push, &admin, true),
            (Role::Admin, &push, false),
            (Role::Admin, &admin, true),
        ] {
            let request = RequestFacts { peer: None, credential: Some(token), ..GOOD };
            assert_eq!(policy(needs, false, &[]).authorize(&request).is_ok(), admitted, "{needs:?}");
        }
    }

    #[test]
    fn headers_become_what_the_decision_rests_on() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "bearer  k".parse().unwrap());
        headers.insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
        headers.insert(header::ORIGIN, [0xffu8].as_slice().try_into().unwrap());
        let request = RequestFacts::of(&headers, &Method::PUT, Version::HTTP_11, None);
        assert_eq!((request.credential, request.origin), (Some("k"), Some("null")));
        assert!(request.forwarded && request.writes && !request.json);
        let deletes = RequestFacts::of(&headers, &Method::DELETE, Version::HTTP_11, None);
        assert!(deletes.writes && deletes.json, "no form deletes");
        headers.append(header::HOST, "127.0.0.1".parse().unwrap());
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert_eq!(
            RequestFacts::of(&headers, &Method::GET, Version::HTTP_11, None).host,
            None,
            "two hosts are none"
        );
        headers.insert(header::AUTHORIZATION, "Basic eDp5".parse().unwrap());
        assert_eq!(
            RequestFacts::of(&headers, &Method::GET, Version::HTTP_11, None).credential,
            Some(""),
            "another scheme opens nothing"
        );
    }

    #[test]
    fn every_mark_of_a_proxy_is_seen_and_nothing_that_programs_send() {
        let marked = |name: &str, version| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
            headers.insert(name.parse::<header::HeaderName>().unwrap(), "x".parse().unwrap());
            RequestFacts::of(&headers, &Method::GET, version, None).forwarded
        };
        for name in [
            "Via",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Real-IP",
            "X-Original-URL",
            "CF-Connecting-IP",
            "CF-Ray",
            "True-Client-IP",
            "X-Client-IP",
            "X-Envoy-External-Address",
            "Fastly-Client-IP",
            "Fly-Client-IP",
        ] {
            assert!(marked(name, Version::HTTP_11), "{name}");
        }
        for name in ["User-Agent", "Accept", "Connection", "Traceparent", "X-Request-Id", "Content-Type"] {
            assert!(!marked(name, Version::HTTP_11), "{name}");
            assert!(marked(name, Version::HTTP_10), "{name}: nginx as it comes");
        }
    }
}
