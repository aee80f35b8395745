//! `[proxy]`: the proxies in front of this node.
//!
//! Owns: their addresses. Never: the headers that they send (`mount`).

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyConfig {
    /// Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted: Vec<TrustedNet>,
}

/// The addresses of one or more proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustedNet(IpNet);

impl TrustedNet {
    /// Returns whether an address is one of these. An IPv4 address may be written as one of IPv6.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl TryFrom<String> for TrustedNet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let net =
            text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        net.map(Self).ok_or_else(|| format!("{text:?} is not an address or a network such as 10.0.0.0/8"))
    }
}

impl From<TrustedNet> for String {
    fn from(net: TrustedNet) -> Self {
        net.0.to_string()
    }
}
