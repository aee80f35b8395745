//! The heads that pass through a mount. Pure.
//!
//! Owns: which headers an upstream and a client receive. Never: framing, which is checked on the raw head (`edge`) and
//! written anew for each side, or what is believed about the client (`trust`).

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Version};

use super::trust::{FORWARDED_FOR, FORWARDED_PROTO, Origin};
use crate::telemetry::{REQUEST_ID, RequestId};

/// Headers of one connection, which end at the proxy; in addition to those that `Connection` names.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Headers that a client cannot set for an upstream, because upstreams believe them: the client's address, its user, and
/// variables of CGI.
const NOT_OF_CLIENTS: [&str; 20] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "proxy",
    "proxy-connection",
    "remote-user",
    "script-name",
    "true-client-ip",
    "via",
    "x-auth-request-user",
    "x-authenticated-user",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-real-ip",
    "x-remote-user",
    "x-request-id",
    "x-rewrite-url",
    "x-script-name",
];
/// Prefixes of such headers.
const PREFIXES_NOT_OF_CLIENTS: [&str; 3] = ["x-forwarded-", "x-pagewire-", "x-remote-"];

/// `Host` of the client.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Path of the mount.
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// `Host` of a request of HTTP/1.0 without one: the upstream is asked in HTTP/1.1, which requires it.
const NO_HOST: HeaderValue = HeaderValue::from_static("localhost");

/// What an upstream is told about a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardFacts<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) request_id: &'a RequestId,
    /// The path of the mount, if the upstream gets paths without it.
    pub(crate) prefix: Option<&'a str>,
    /// The name of the upstream, if it gets that as `Host`.
    pub(crate) host: Option<&'a HeaderValue>,
    /// Whether the request asks for a WebSocket.
    pub(crate) is_upgrade: bool,
}

/// Returns the headers of a request for its upstream. The cookies of the application stay as they are.
pub(crate) fn request_headers(headers: HeaderMap, facts: ForwardFacts<'_>) -> HeaderMap {
    let host = headers.get(header::HOST).cloned();
    let mut passed = end_to_end(headers, |name| is_of_client(name) && *name != header::EXPECT);
    passed.insert(REQUEST_ID, facts.request_id.header());
    if let Some(prefix) = facts.prefix.and_then(|prefix| HeaderValue::from_str(prefix).ok()) {
        passed.insert(FORWARDED_PREFIX, prefix);
    }
    let scheme = if facts.origin.is_secure { "https" } else { "http" };
    passed.insert(FORWARDED_FOR, facts.origin.address.text.clone());
    passed.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(host) = &host {
        passed.insert(FORWARDED_HOST, host.clone());
    }
    // set in any case: a client may name it in `Connection`
    passed.insert(header::HOST, facts.host.cloned().or(host).unwrap_or(NO_HOST));
    if facts.is_upgrade {
        add_upgrade(&mut passed);
    }
    passed
}

/// Returns the headers of a response for the client. The id of the request is added unless the response has one.
pub(crate) fn response_headers(headers: HeaderMap, is_upgrade: bool, request_id: &RequestId) -> HeaderMap {
    let mut passed = end_to_end(headers, |_| true);
    if is_upgrade {
        add_upgrade(&mut passed);
    }
    passed.entry(REQUEST_ID).or_insert_with(|| request_id.header());
    passed
}

fn add_upgrade(to: &mut HeaderMap) {
    to.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    to.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Returns whether a request asks for a WebSocket. Another protocol, such as HTTP/2 without TLS, is not passed on: its
/// requests would reach the upstream unchecked.
pub(crate) fn asks_for_upgrade(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && tokens(headers, header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
        && tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Returns whether a response changes the protocol to WebSocket alone.
pub(crate) fn becomes_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = tokens(headers, header::UPGRADE);
    let is_first = protocols.next().is_some_and(|token| token.eq_ignore_ascii_case("websocket"));
    is_first && protocols.next().is_none()
}

/// Returns the headers that do not end at a proxy, of those that `is_passed`.
fn end_to_end(mut headers: HeaderMap, is_passed: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let named = tokens(&headers, header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok());
    let refused = headers.keys().filter(|name| HOP_BY_HOP.contains(name) || !is_passed(name)).cloned();
    for name in named.chain(refused).collect::<Vec<_>>() {
        headers.remove(name);
    }
    headers
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',').map(str::trim)).filter(|token| !token.is_empty())
}

/// Returns whether a client may set a header. A name with `_` would be the same variable as one with `-` in an application.
fn is_of_client(name: &HeaderName) -> bool {
    let name = name.as_str();
    !name.contains('_')
        && !NOT_OF_CLIENTS.contains(&name)
        && !PREFIXES_NOT_OF_CLIENTS.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mount::trust::ClientAddress;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers[name].to_str().unwrap()
    }

    fn known() -> (Origin, RequestId) {
        let address = ClientAddress::new("9.9.9.9".parse().unwrap());
        (Origin { address, is_secure: true }, RequestId::random())
    }

    fn facts((origin, request_id): &(Origin, RequestId)) -> ForwardFacts<'_> {
        ForwardFacts { origin, request_id, prefix: None, host: None, is_upgrade: false }
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn an_upstream_receives_one_address_and_no_header_of_the_connection_or_of_others() {
        let sent = headers(&[
            ("host", "a.example"),
            ("cookie", "mysite=a?b&c=+"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-forwarded-for", "6.6.6.6"),
            ("X-Forwarded-User", "root"),
            ("forwarded", "for=6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("remote-user", "root"),
            ("proxy", "http://evil"),
            ("expect", "100-continue"),
            ("x-request-id", "chosen"),
            ("accept", "*/*"),
        ]);
        let known = known();
        let passed = request_headers(sent.clone(), facts(&known));
        assert_eq!(
            names(&passed),
            [
                "accept",
                "cookie",
                "host",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-request-id"
            ]
        );
        assert_eq!(
            (text(&passed, "x-forwarded-for"), text(&passed, "x-forwarded-proto")),
            ("9.9.9.9", "https")
        );
        assert_eq!(
            (text(&passed, "cookie"), text(&passed, "x-request-id")),
            ("mysite=a?b&c=+", known.1.as_str())
        );
    }

    #[test]
    fn an_upgrade_keeps_its_two_headers_and_the_host_may_be_that_of_the_upstream() {
        let sent = headers(&[
            ("host", "a.example"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "k"),
        ]);
        assert!(asks_for_upgrade(Version::HTTP_11, &sent) && !asks_for_upgrade(Version::HTTP_10, &sent));
        assert!(!asks_for_upgrade(Version::HTTP_11, &headers(&[("upgrade", "websocket")])));
        let own = HeaderValue::from_static("127.0.0.1:3000");
        let known = known();
        let facts =
            ForwardFacts { is_upgrade: true, host: Some(&own), prefix: Some("/shop"), ..facts(&known) };
        let passed = request_headers(sent.clone(), facts);
        assert_eq!((text(&passed, "connection"), text(&passed, "upgrade")), ("upgrade", "websocket"));
        assert_eq!(
            (text(&passed, "host"), text(&passed, "x-forwarded-host")),
            ("127.0.0.1:3000", "a.example")
        );
        assert_eq!((text(&passed, "sec-websocket-key"), text(&passed, "x-forwarded-prefix")), ("k", "/shop"));
        assert!(
            request_headers(sent.clone(), ForwardFacts { is_upgrade: false, ..facts })
                .get("upgrade")
                .is_none()
        );
    }

    #[test]
    fn a_request_without_host_is_for_the_upstream_itself() {
        let passed = request_headers(headers(&[("accept", "*/*")]), facts(&known()));
        assert_eq!((text(&passed, "host"), passed.get("x-forwarded-host")), ("localhost", None));
        let own = HeaderValue::from_static("127.0.0.1:3000");
        let known = known();
        let facts = ForwardFacts { host: Some(&own), ..facts(&known) };
        let passed = request_headers(HeaderMap::new(), facts);
        assert_eq!(text(&passed, "host"), "127.0.0.1:3000");
    }

    #[test]
    fn the_host_is_passed_on_also_if_the_client_names_it_as_a_header_of_the_connection() {
        let passed =
            request_headers(headers(&[("host", "a.example"), ("connection", "host")]), facts(&known()));
        assert_eq!(text(&passed, "host"), "a.example");
    }

    #[test]
    fn only_a_websocket_is_asked_for() {
        let asks = |protocols: &[&str]| {
            let fields: Vec<_> = protocols.iter().map(|protocol| ("upgrade", *protocol)).collect();
            let all = [fields, vec![("connection", "upgrade")]].concat();
            (asks_for_upgrade(Version::HTTP_11, &headers(&all)), becomes_websocket(&headers(&all)))
        };
        assert_eq!(asks(&["WebSocket"]), (true, true));
        assert_eq!(asks(&["h2c, websocket"]), (true, false));
        assert_eq!(asks(&["websocket", "h2c"]), (true, false));
        assert_eq!((asks(&["h2c"]), asks(&[])), ((false, false), (false, false)));
    }

    #[test]
    fn a_client_receives_all_cookies_and_no_header_of_the_upstreams_connection() {
        let sent = headers(&[
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("x-gnrtime", "3"),
        ]);
        let passed = response_headers(sent, false, &RequestId::random());
        assert_eq!(names(&passed), ["set-cookie", "x-gnrtime", "x-request-id"]);
        assert_eq!(passed.get_all("set-cookie").iter().count(), 2);
    }

    proptest! {
        #[test]
        fn no_header_that_upstreams_believe_comes_from_a_client(
            name in "(x-forwarded-|x-pagewire-|x-remote-)[a-z-]{1,8}|[a-z]{1,5}_[a-z]{1,5}", connection in "[a-z, -]{0,20}"
        ) {
            let sent = headers(&[("connection", &connection), (&name, "forged")]);
            let passed = request_headers(sent.clone(), facts(&known()));
            prop_assert!(passed.values().all(|value| value != "forged"));
        }
    }
}
