//! Which redirects of a backend are followed.
//!
//! Owns: the rules for the target of a redirect, and the check of the addresses that a name resolves to. Never: the
//! configured URL, which is trusted with every address of its host.
//!
//! A response decides where its request goes next, so without rules it could direct this process to addresses that only
//! this process reaches: a database, or the metadata service of a cloud.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{StatusCode, Url};

use super::private_address::is_private;

/// Redirects of one request.
const MAX_REDIRECTS: usize = 3;

/// Why a redirect is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedRedirect(String);

impl fmt::Display for RefusedRedirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for RefusedRedirect {}

/// Returns the policy for redirects of a backend.
pub(super) fn policy(configured: Url) -> Policy {
    Policy::custom(move |attempt: Attempt<'_>| {
        // all others turn a POST into a GET, which no backend can run work for
        if !keeps_body(attempt.status()) {
            return attempt.stop();
        }
        match check(&configured, attempt.previous(), attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(problem) => attempt.error(problem),
        }
    })
}

/// Returns whether a redirect keeps the method and the body of its request.
pub(super) fn keeps_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

/// Checks the next URL of a request that has visited `previous`, the last one last.
///
/// # Errors
///
/// Why the redirect is refused. A name passes here, because its addresses are checked when it is resolved.
fn check(configured: &Url, previous: &[Url], next: &Url) -> Result<(), RefusedRedirect> {
    let refused = |problem: String| Err(RefusedRedirect(problem));
    if previous.len() > MAX_REDIRECTS {
        return refused(format!("more than {MAX_REDIRECTS} redirects"));
    }
    let scheme = previous.last().unwrap_or(configured).scheme();
    if next.scheme() != scheme && next.scheme() != "https" {
        return refused(format!("a redirect from {scheme} to {}", next.scheme()));
    }
    if next.host_str() == configured.host_str() {
        return Ok(());
    }
    match address_of(next) {
        Some(address) if is_private(address) => refused("a redirect to a private address".to_owned()),
        _ => Ok(()),
    }
}

/// Returns the address of a URL that names no host but an address.
fn address_of(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Resolves names, and refuses those that lead to a private address, except the configured one. A connection goes to one
/// of the addresses that were checked, so that a name cannot change between the check and the connection.
pub(super) struct CheckedResolver {
    trusted: Option<String>,
}

impl CheckedResolver {
    /// Creates a resolver that trusts the host of a URL.
    pub(super) fn new(configured: &Url) -> Self {
        Self { trusted: configured.host_str().map(str::to_owned) }
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let trusted = self.trusted.as_deref() == Some(host.as_str());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if !trusted && found.iter().any(|address| is_private(address.ip())) {
                // only a redirect leads to another host
                return Err(RefusedRedirect("a redirect to a private address".to_owned()).into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_redirect_leads_to_a_public_address_or_to_the_configured_host() {
        let public = url("https://backend.example/run");
        let to = |next: &str| check(&public, std::slice::from_ref(&public), &url(next));
        for good in ["https://backend.example/other", "https://1.1.1.1/", "https://other.example:8443/"] {
            assert_eq!(to(good), Ok(()), "{good}");
        }
        for bad in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]:8443/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.0.0.1/",
            "https://[::ffff:10.0.0.1]/",
            "http://backend.example/",
            "http://1.1.1.1/",
            "ftp://1.1.1.1/",
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
        let private = url("http://10.0.0.7:5000/run");
        let from_private = |next: &str| check(&private, std::slice::from_ref(&private), &url(next));
        assert_eq!(from_private("http://10.0.0.7:5000/other"), Ok(()));
        assert_eq!(from_private("https://10.0.0.7/other"), Ok(()));
        assert!(from_private("http://10.0.0.8:5000/run").is_err(), "another host");
    }

    #[test]
    fn a_request_has_a_limited_number_of_redirects() {
        let first = url("https://a.example/");
        let visited = |count: usize| vec![first.clone(); count];
        assert_eq!(check(&first, &visited(MAX_REDIRECTS), &first), Ok(()));
        assert!(check(&first, &visited(MAX_REDIRECTS + 1), &first).is_err());
    }

    #[tokio::test]
    async fn a_name_with_a_private_address_is_resolved_only_if_it_is_configured() {
        let resolve = async |configured: &str| {
            let resolver = CheckedResolver::new(&url(configured));
            resolver.resolve("localhost".parse().unwrap()).await.map(Iterator::count)
        };
        assert!(resolve("http://localhost:5000/").await.unwrap() > 0);
        let refused = resolve("https://backend.example/").await.unwrap_err();
        assert!(refused.to_string().contains("private"), "{refused}");
    }
}
