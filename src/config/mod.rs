//! Configuration: plain data, read once at the start.
//!
//! Owns: every key and its type ([`Config`]), the sources of values ([`load()`]) and their validation
//! ([`Config::check`]). The documented file `config.default.toml` contains the defaults, so each default is written
//! only once. Never: time-outs between processes (`timing`), or anything that changes while the process runs.

mod address;
mod check;
mod environment;
mod executors;
mod host;
mod http_pool;
mod layer;
mod load;
mod mount;
mod mount_app;
mod mount_lane;
mod mount_process;
mod mount_program;
mod pool;
mod pool_limits;
mod proxy;
mod secret;
mod sticky;
mod telemetry;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use pagewire_cluster::id::Level;
use serde::{Deserialize, Serialize};

pub use address::read as parse_address;
pub use executors::{DiscoveryMode, ExecutorsConfig, Preference};
pub use host::names_this_machine;
pub use load::{DEFAULTS, FILE, InvalidConfig, Sources, load};
pub(crate) use mount::is_path as is_mount_path;
pub use mount::{CacheConfig, MountConfig, StaticConfig, StaticRule, Upstream, UpstreamAddress};
pub use mount_lane::MountLaneConfig;
pub use mount_process::{MountApplication, MountProcessConfig};
pub use mount_program::ProgramUpstream;
pub use pool::{PoolConfig, PoolRuntime, ScaleConfig};
pub use pool_limits::{PagesConfig, RecycleConfig};
pub use proxy::{ProxyConfig, TrustedNet};
pub use secret::Secret;
pub use sticky::{Sticky, UnknownSticky};
pub use telemetry::{OtlpProtocol, SampleShare, TelemetryConfig};

/// The complete configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The address where browsers and programs connect; with port 0 the system chooses a port.
    #[serde(deserialize_with = "address::deserialize")]
    pub listen: SocketAddr,
    /// The cluster's name.
    pub cluster: String,
    /// The data directory of the embedded engine; empty: data is not kept.
    pub data_dir: PathBuf,
    /// Whether the server shows the welcome page.
    pub welcome: bool,
    /// Whether the demo handlers are registered.
    pub demo: bool,
    /// The connection to NATS.
    pub nats: NatsConfig,
    /// This process in the cluster.
    pub node: NodeConfig,
    /// Authentication of pages and programs.
    pub auth: AuthConfig,
    /// WebSocket connections.
    pub websocket: Websocket,
    /// How long pages, sessions, connections and waiting jobs are kept.
    pub lifetime: Lifetime,
    /// How long ended jobs are kept.
    pub jobs: JobsConfig,
    /// The executors that are asked, and the workers that may work.
    pub executors: ExecutorsConfig,
    /// The pools of this node.
    pub pool: Vec<PoolConfig>,
    /// What is served beside the server's own paths.
    pub mount: Vec<MountConfig>,
    /// The server's own paths, which no mount takes.
    pub native: Vec<String>,
    /// The proxies in front of this node.
    pub proxy: ProxyConfig,
    /// State trees.
    pub state: StateConfig,
    /// Topics.
    pub topics: Topics,
    /// The targets that pages may send to.
    pub send: SendConfig,
    /// Limits per node, client and user.
    pub limits: LimitsConfig,
    /// Where traces are sent.
    pub telemetry: TelemetryConfig,
    /// What is done for clients of older deployments.
    pub compat: CompatConfig,
}

/// `[compat]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompatConfig {
    /// Whether new pages, sessions and connections get the ids of an older deployment that their clients name.
    pub adopt_ids: bool,
}

/// `[nats]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsConfig {
    /// Servers; empty for the embedded engine.
    pub urls: Vec<String>,
    /// Number of copies of streams and buckets.
    pub replicas: usize,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// The requested node number, 0 for the lowest free one.
    pub number: u16,
    /// The node's name, empty for none.
    pub name: String,
    /// The lane of the node's pages.
    pub lane: String,
    /// The release of the node.
    pub release: String,
    /// The URL at which others reach this node; empty: derived from the listen address.
    pub advertise: String,
    /// The address at which other nodes send requests for the processes of this node, as `host:port`; empty for none.
    pub internal: String,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    /// Whether pages and programs without a token are accepted.
    pub anonymous: bool,
    /// The shared secret of tokens, empty for none.
    pub hs256_secret: Secret,
    /// The accepted signature algorithms of tokens.
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

/// A signature algorithm, fixed by the configuration and never chosen by a token.
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
    /// The path at which pages connect.
    pub path: String,
    /// Interval of the server's pings, in milliseconds.
    pub ping_ms: u64,
    /// Tolerated silence in addition to `ping_ms`, in milliseconds.
    pub ping_timeout_ms: u64,
    /// Accepted origins in addition to the node's own.
    pub origins: Vec<String>,
    /// Origins of web pages that may import the browser client from this node; `*` for all.
    pub client_origins: Vec<String>,
    /// Maximum bytes of a client's frame.
    pub max_frame: usize,
    /// Maximum bytes that may wait for one socket.
    pub outbox_bytes: usize,
    /// Bytes kept per page for a resume.
    pub replay_bytes: usize,
}

/// `[lifetime]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// How long a page without a socket can be resumed, in milliseconds.
    pub resume_ms: u64,
    /// How long a session without a page can be joined, in seconds.
    pub session_timeout_s: u64,
    /// How long a connection without a session can be joined, in seconds.
    pub connection_timeout_s: u64,
    /// Interval of the search for expired sessions and connections, in seconds.
    pub cleanup_interval_s: u64,
    /// How long a due job may wait for a worker, in seconds.
    pub unclaimed_job_s: u64,
}

/// `[jobs]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsConfig {
    /// How long a job that has succeeded is kept, in seconds.
    pub keep_succeeded_s: u64,
    /// How long a job that has failed, was cancelled or is dead is kept, in seconds.
    pub keep_failed_s: u64,
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
    /// Patterns of the topics that any page may subscribe to.
    pub open: Vec<String>,
}

/// `[send]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendConfig {
    /// The levels of the page's own session, connection, user and topics that it may send to without a role.
    pub allow: Vec<SendLevel>,
}

/// A level that a page may send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendLevel {
    /// Other pages of the page's session.
    Page,
    /// The page's session.
    Session,
    /// The page's connection.
    Connection,
    /// The page's user.
    User,
    /// The topics that the page has subscribed to.
    Topic,
}

impl SendLevel {
    /// The name of the level in the configuration.
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
    /// New anonymous pages from one address per minute.
    pub anonymous_pages_per_ip_per_minute: u32,
    /// Calls of one page in progress.
    pub calls_per_page: usize,
    /// Calls of one user, or of one anonymous browser, in progress at one node.
    pub calls_per_user: usize,
    /// Open jobs of one page.
    pub jobs_per_page: usize,
    /// Open jobs of the pages of one user.
    pub jobs_per_user: usize,
    /// Open jobs of one anonymous browser.
    pub jobs_per_anonymous: usize,
    /// Bytes of a state tree that anonymous pages write.
    pub anonymous_tree_bytes: usize,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Bytes that the kernel keeps for a client that does not read.
    pub send_buffer_bytes: usize,
}

impl Config {
    /// The URL at which a browser or program on this machine reaches the listener.
    pub fn local_url(&self) -> String {
        local_url(self.listen)
    }
}

/// The URL at which a program on this machine reaches a listener.
pub fn local_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
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
