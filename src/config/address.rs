//! The listen address: an IP address, or a host name that resolves to one.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Deserializer};

/// Reads `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    read(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Parses an address.
///
/// # Errors
///
/// A text that is neither an IP address nor a known host name with a port.
pub fn read(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let named = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(':'));
    if named.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(format!("{text:?} is not a socket address: write 127.0.0.1:8080 or localhost:8080"));
    }
    let found = text.to_socket_addrs().map_err(|error| format!("{text:?} has no address: {error}"))?;
    choose(found).ok_or_else(|| format!("{text:?} has no address"))
}

/// Prefers the first IPv4 address, because clients that connect to a name may support IPv4 only; `localhost` has
/// both.
fn choose(found: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let found: Vec<_> = found.collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_name() {
        for (text, address) in
            [("127.0.0.1:1", "127.0.0.1:1"), ("[::1]:2", "[::1]:2"), ("localhost:3", "127.0.0.1:3")]
        {
            assert_eq!(read(text), Ok(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_an_example() {
        for text in
            ["", "8080", ":8080", "localhost", "localhost:", "localhost:http", "localhost:70000", "::1:80"]
        {
            let error = read(text).unwrap_err();
            assert!(error.contains("is not a socket address: write"), "{error}");
        }
        let error = read("no-such-host.invalid:80").unwrap_err();
        assert!(error.contains("has no address"), "{error}");
    }

    #[test]
    fn of_several_addresses_the_first_one_of_ipv4_is_taken() {
        let choose = |all: &[&str]| choose(all.iter().map(|address| address.parse().unwrap()));
        assert_eq!(choose(&["[::1]:1", "10.0.0.1:1", "10.0.0.2:1"]), "10.0.0.1:1".parse().ok());
        assert_eq!(choose(&["[::1]:1", "[::2]:1"]), "[::1]:1".parse().ok());
        assert_eq!(choose(&[]), None);
    }
}
