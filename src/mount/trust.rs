//! The address and scheme of a client, behind the proxies that are trusted. Pure.
//!
//! Owns: what is believed of a request's headers about them. Never: other headers (`forward`).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::TrustedNet;

/// Addresses of a client and of the proxies before this one; Pagewire passes on one.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Scheme of a client.
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The address of a client, and its text, which each request of a connection is passed on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// An IPv4 address is one also if the socket has it as IPv6.
    pub(crate) ip: IpAddr,
    pub(crate) text: HeaderValue,
}

impl ClientAddress {
    pub(crate) fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        // never the other text: an address is a header value
        let text = HeaderValue::from_str(&ip.to_string());
        Self { ip, text: text.unwrap_or(HeaderValue::from_static("unknown")) }
    }
}

/// The client of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Address of the client.
    pub(crate) address: ClientAddress,
    /// Whether the client uses HTTPS.
    pub(crate) is_secure: bool,
}

/// Returns the client of a request that came from `peer`. Each trusted proxy has appended the address that it saw to
/// `X-Forwarded-For`, so the client is the last address of a peer that is not trusted; what is before it may be invented.
pub(crate) fn origin(peer: &ClientAddress, headers: &HeaderMap, trusted: &[TrustedNet]) -> Origin {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(peer.ip) {
        return Origin { address: peer.clone(), is_secure: false };
    }
    let mut address = peer.ip;
    for text in values(headers, &FORWARDED_FOR).rev() {
        let Ok(next) = text.parse::<IpAddr>() else { break };
        address = next.to_canonical();
        if !is_trusted(address) {
            break;
        }
    }
    let is_secure = values(headers, &FORWARDED_PROTO).next_back() == Some("https");
    Origin { address: ClientAddress::new(address), is_secure }
}

/// Iterates over the items of a list header, over all its lines.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a str> {
    // a line that is not text has no address
    let lines: Vec<&str> =
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    lines.into_iter().flat_map(|line| line.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_trusted_proxies_are_believed_from_the_right() {
        let trusted: Vec<TrustedNet> =
            ["10.0.0.0/8", "::1"].map(|net| net.to_owned().try_into().unwrap()).to_vec();
        for (peer, lines, address, is_secure) in [
            (
                "1.2.3.4",
                &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "https")][..],
                "1.2.3.4",
                false,
            ),
            ("10.0.0.1", &[], "10.0.0.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-proto", "https")], "9.9.9.9", true),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 9.9.9.9")], "9.9.9.9", false),
            ("10.0.0.1", &[("x-forwarded-for", "9.9.9.9, 10.0.0.2")], "9.9.9.9", false),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "9.9.9.9")], "9.9.9.9", false),
            ("10.0.0.1", &[("x-forwarded-for", "9.9.9.9, unknown")], "10.0.0.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "9.9.9.9, evil, 10.0.0.2")], "10.0.0.2", false),
            ("::1", &[("x-forwarded-for", "::ffff:9.9.9.9")], "9.9.9.9", false),
            ("::ffff:10.0.0.1", &[("x-forwarded-for", "2001:db8::1")], "2001:db8::1", false),
            ("10.0.0.1", &[("x-forwarded-proto", "https, http")], "10.0.0.1", false),
        ] {
            let address = ClientAddress::new(address.parse().unwrap());
            let expected = Origin { address, is_secure };
            assert_eq!(
                origin(&ClientAddress::new(peer.parse().unwrap()), &headers(lines), &trusted),
                expected,
                "{peer} {lines:?}"
            );
        }
    }
}
