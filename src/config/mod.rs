//! Configuration: plain data, read once at the start.
//!
//! Owns: every key and its type ([`Config`]), where values come from ([`load`]) and what makes them acceptable
//! ([`Config::check`]). The documented file `config.default.toml` is the defaults, so a default is written
//! once. Never: time-outs between processes (`timing`), or anything that changes while the process runs.

mod address;
mod check;
mod environment;
mod host;
mod layer;
mod load;
mod secret;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use pagewire_cluster::state::Level;
use serde::{Deserialize, Serialize};

pub use host::names_this_machine;
pub use load::{DEFAULTS, FILE, InvalidConfig, Sources, load};
pub use secret::Secret;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Where browsers and programs connect; port 0 lets the system choose.
    #[serde(deserialize_with = "address::deserialize")]
    pub listen: SocketAddr,
    /// The cluster's name.
    pub cluster: String,
    /// Where the embedded engine keeps its data; empty for nowhere.
    pub data_dir: PathBuf,
    /// The distributed engine.
    pub nats: NatsConfig,
    /// This process in the cluster.
    pub node: NodeConfig,
    /// Who may come in.
    pub auth: AuthConfig,
    /// The socket.
    pub websocket: Websocket,
    /// How long things are kept.
    pub lifetime: Lifetime,
    /// State trees.
    pub state: StateConfig,
    /// Topics.
    pub topics: Topics,
    /// What pages may address.
    pub send: SendConfig,
    /// What one client may use.
    pub limits: LimitsConfig,
}

/// `[nats]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsConfig {
    /// Servers; empty for the embedded engine.
    pub urls: Vec<String>,
    /// Copies of streams and buckets.
    pub replicas: usize,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// The wanted number, 0 for the lowest free one.
    pub number: u16,
    /// The node's name, empty for none.
    pub name: String,
    /// The lane of its pages.
    pub lane: String,
    /// Its release.
    pub release: String,
    /// How others reach it; empty: derived from the address it listens on.
    pub advertise: String,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    /// Whether a page needs no token.
    pub anonymous: bool,
    /// The shared secret of tokens, empty for none.
    pub hs256_secret: Secret,
    /// What a token may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// The required `iss`, empty for any.
    pub issuer: String,
    /// The required `aud`, empty for any.
    pub audience: String,
    /// Tolerated difference between clocks, in seconds.
    pub leeway_s: u64,
    /// The cookie that may carry the token, empty for none.
    pub cookie: String,
    /// Keys of the server API.
    pub api_keys: Vec<Secret>,
}

/// A signature algorithm, pinned by configuration and never chosen by a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

/// `[websocket]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Websocket {
    /// Where pages connect.
    pub path: String,
    /// Interval of the server's pings, in milliseconds.
    pub ping_ms: u64,
    /// Tolerated silence beyond `ping_ms`, in milliseconds.
    pub ping_timeout_ms: u64,
    /// Accepted origins beside the node's own.
    pub origins: Vec<String>,
    /// Bytes of a client's frame.
    pub max_frame: usize,
    /// Bytes that may wait for one socket.
    pub outbox_bytes: usize,
    /// Bytes kept per page for a resume.
    pub replay_bytes: usize,
}

/// `[lifetime]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// How long a page without its socket can be resumed, in milliseconds.
    pub resume_ms: u64,
    /// How long a session without a page can be joined, in seconds.
    pub session_timeout_s: u64,
    /// How long a connection without a session can be joined, in seconds.
    pub connection_timeout_s: u64,
    /// How often it is looked for what has been idle for too long, in seconds.
    pub cleanup_interval_s: u64,
    /// How long a job that is due may wait for a worker, in seconds.
    pub unclaimed_job_s: u64,
}

/// `[state]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateConfig {
    /// The levels at which a page may write without a role.
    pub write: Vec<Level>,
}

/// `[topics]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    /// Patterns of those that any page may subscribe to.
    pub open: Vec<String>,
}

/// `[send]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendConfig {
    /// The levels of its own chain that a page may address without a role.
    pub allow: Vec<SendLevel>,
}

/// A level that a page may address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendLevel {
    /// Other pages of its session.
    Page,
    /// Its session.
    Session,
    /// Its connection.
    Connection,
    /// Its user.
    User,
    /// The topics that it has subscribed to.
    Topic,
}

impl SendLevel {
    /// Its name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Session => "session",
            Self::Connection => "connection",
            Self::User => "user",
            Self::Topic => "topic",
        }
    }
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsConfig {
    /// Open connections of the node.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_ip: usize,
    /// Frames per page and second.
    pub frames_per_second: u32,
    /// Pages of one user in the whole cluster.
    pub pages_per_user: usize,
    /// New anonymous pages from one address in a minute.
    pub anonymous_pages_per_ip_per_minute: u32,
    /// Calls of one page in flight.
    pub calls_per_page: usize,
    /// Calls of one user, or of one anonymous browser, in flight at one node.
    pub calls_per_user: usize,
    /// Open jobs of one page.
    pub jobs_per_page: usize,
    /// Open jobs of the pages of one user.
    pub jobs_per_user: usize,
    /// Open jobs of one anonymous browser.
    pub jobs_per_anonymous: usize,
    /// Bytes of a state tree as anonymous pages may write it.
    pub anonymous_tree_bytes: usize,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Bytes that the kernel keeps for a client that does not read.
    pub send_buffer_bytes: usize,
}

impl Config {
    /// How a browser or program on this machine reaches the listener.
    pub fn local_url(&self) -> String {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.listen.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_here() {
        let url = |listen: &str| {
            let mut config = load(&Sources::default()).unwrap();
            config.listen = listen.parse().unwrap();
            config.local_url()
        };
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.0.0.7:80"), "http://10.0.0.7:80");
    }
}
