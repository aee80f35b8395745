//! Host names. Pure.

use std::net::IpAddr;

/// Whether a `Host` header names the loopback interface. A web page from elsewhere cannot make a browser send such a
/// header, even if its own host name resolves to this machine.
pub fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_and_addresses_name_this_machine() {
        for host in ["localhost", "LocalHost:1", "127.0.0.1:8080", "127.3.2.1", "[::1]:8080", "[::1]"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in
            ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:1", "[::1", "10.0.0.1"]
        {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
