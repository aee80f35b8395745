//! Decides which web pages may open a socket here, and logs those that may not.
//!
//! A browser lets any web page connect to any server and sends that server's cookies along; only the `Origin` header
//! identifies the page. Programs send none.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

use crate::config::names_this_machine;

/// Result of checking the `Origin` header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OriginCheck {
    /// A web page of this server or of a listed origin.
    Known,
    /// Not a browser: the request carries only credentials that the caller itself knows.
    Program,
    /// Any other web page, or one that hides its origin (`null`).
    Foreign,
    /// The request names a host that this node is not, for example because a web page made the name of its own server
    /// resolve to this machine (DNS rebinding).
    ForeignHost,
}

/// Returns the origin of the web page that sent a request, if it names one.
pub(super) fn only_origin(headers: &HeaderMap) -> Option<&str> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
    origin.to_str().ok()
}

/// The origins that are accepted in addition to a request's own host.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    listed: Vec<String>,
    /// Whether requests must name this machine or a listed host, as on a node that listens on the loopback interface
    /// only.
    loopback: bool,
}

impl Origins {
    /// The listed origins and the node's advertised address. `loopback`: the node listens on the loopback interface
    /// only.
    pub(super) fn new(listed: &[String], advertised: &str, loopback: bool) -> Self {
        let all = listed.iter().map(String::as_str).chain([advertised]);
        let normal = all.map(|origin| origin.trim_end_matches('/').to_ascii_lowercase());
        Self { listed: normal.filter(|origin| !origin.is_empty()).collect(), loopback }
    }

    /// Whether the request names this machine or the host of a listed origin.
    fn is_own_host(&self, host: Option<&str>) -> bool {
        let Some(host) = host else { return false };
        let named = |origin: &String| {
            origin.split_once("://").is_some_and(|(_, listed)| listed.eq_ignore_ascii_case(host))
        };
        names_this_machine(host) || self.listed.iter().any(named)
    }

    /// Checks a request. Origins are compared as a whole, without partial names or wildcards.
    pub(super) fn check(&self, headers: &HeaderMap) -> OriginCheck {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if self.loopback && !self.is_own_host(host) {
            return OriginCheck::ForeignHost;
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return if headers.contains_key(ORIGIN) { OriginCheck::Foreign } else { OriginCheck::Program };
        };
        let Ok(origin) = origin.to_str() else { return OriginCheck::Foreign };
        let own = host.is_some_and(|host| {
            origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        });
        let listed = || self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin));
        if own || listed() { OriginCheck::Known } else { OriginCheck::Foreign }
    }
}

/// Maximum characters of a foreign origin in the log.
const SHOWN: usize = 200;

/// Reports refused web pages of other origins in the log, with the origin and the setting that would allow it: at
/// most one line per `pause`, however many are refused.
pub(super) struct ForeignOriginLog {
    pause: Duration,
    log_limit: Mutex<LogRateLimit>,
}

impl ForeignOriginLog {
    /// A reporter without reports. `pause` is the minimum time between two lines.
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, log_limit: Mutex::default() }
    }

    /// Reports one refused web page.
    pub(super) fn report(&self, headers: &HeaderMap, now: Instant) {
        let mut log_limit = self.log_limit.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unreported) = log_limit.next(now, self.pause) else { return };
        drop(log_limit);
        let origin = headers.get(ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()));
        let origin: String = origin.unwrap_or_default().chars().take(SHOWN).collect();
        tracing::warn!(
            origin,
            unreported,
            "a web page of another origin was refused (4003): if it is yours, list its origin in websocket.origins"
        );
    }
}

/// Decides which of many equal events are logged. Pure.
#[derive(Debug, Default)]
struct LogRateLimit {
    last: Option<Instant>,
    unreported: u64,
}

impl LogRateLimit {
    /// Returns how many events were not logged since the last line. `None`: this event is not logged either.
    fn next(&mut self, now: Instant, pause: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            self.unreported += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_strangers_are_one_line_per_pause_and_all_are_counted() {
        let (mut log_limit, start, pause) =
            (LogRateLimit::default(), Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log_limit.next(at(0), pause), Some(0), "the first one at once");
        assert!((1..10).all(|second| log_limit.next(at(second), pause).is_none()));
        assert_eq!(log_limit.next(at(10), pause), Some(9));
        assert_eq!(log_limit.next(at(11), pause), None);
        assert_eq!(log_limit.next(at(100), pause), Some(1));
    }

    fn check(host: &str, origins: &[&str]) -> OriginCheck {
        check_at(false, host, origins)
    }

    fn check_at(loopback: bool, host: &str, origins: &[&str]) -> OriginCheck {
        let listed = ["https://app.example".to_owned()];
        let known = Origins::new(&listed, "https://node1.example:8443/", loopback);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        known.check(&headers)
    }

    #[test]
    fn only_whole_origins_of_this_server_or_the_list_are_known() {
        let table = [
            ("http://127.0.0.1:8080", OriginCheck::Known),
            ("https://app.example", OriginCheck::Known),
            ("https://APP.example", OriginCheck::Known),
            ("https://node1.example:8443", OriginCheck::Known),
            ("http://127.0.0.1", OriginCheck::Foreign),
            ("http://127.0.0.1:80801", OriginCheck::Foreign),
            ("https://127.0.0.1:8080", OriginCheck::Foreign),
            ("https://app.example.evil", OriginCheck::Foreign),
            ("https://evilapp.example", OriginCheck::Foreign),
            ("http://app.example", OriginCheck::Foreign),
            ("null", OriginCheck::Foreign),
            ("", OriginCheck::Foreign),
        ];
        for (origin, expected) in table {
            assert_eq!(check("127.0.0.1:8080", &[origin]), expected, "{origin}");
        }
    }

    #[test]
    fn a_program_sends_no_origin_and_nobody_sends_two() {
        assert_eq!(check("h", &[]), OriginCheck::Program);
        assert_eq!(check("h", &["http://h", "http://evil"]), OriginCheck::Foreign);
    }

    #[test]
    fn a_node_of_this_machine_alone_is_asked_by_its_own_names_only() {
        let rebound = ["http://evil.example:8080"];
        assert_eq!(check_at(true, "evil.example:8080", &rebound), OriginCheck::ForeignHost);
        assert_eq!(check_at(true, "evil.example:8080", &[]), OriginCheck::ForeignHost, "a program, too");
        assert_eq!(check_at(true, "node1.example", &[]), OriginCheck::ForeignHost, "another port of it");
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.0.9"] {
            let origin = format!("http://{host}");
            assert_eq!(check_at(true, host, &[&origin]), OriginCheck::Known, "{host}");
            assert_eq!(check_at(true, host, &[]), OriginCheck::Program, "{host}");
        }
        assert_eq!(check_at(true, "App.example", &["https://app.example"]), OriginCheck::Known, "listed");
        assert_eq!(check_at(true, "node1.example:8443", &[]), OriginCheck::Program, "advertised");
        assert_eq!(
            check_at(false, "any.example", &["http://any.example"]),
            OriginCheck::Known,
            "open to others"
        );
    }
}
