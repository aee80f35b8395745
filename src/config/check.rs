//! Validation of a configuration, with messages for the person who wrote it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use pagewire_cluster::rollout::is_name;

use super::sticky::is_cookie_name;
use super::{
    AuthConfig, Config, InvalidConfig, JobsConfig, Lifetime, LimitsConfig, NatsConfig, NodeConfig, Websocket,
    mount, mount_app, pool,
};

/// The largest message between processes in bytes, which limits every frame.
const MESSAGE: usize = 512 * 1024;
/// Maximum number of open jobs that can be counted for one user.
const MOST_JOBS: usize = 8192;
const HOUR_MS: u64 = 3_600_000;
const YEAR_S: u64 = 365 * 24 * 3600;

impl Config {
    /// Checks the values of a configuration.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] with all values that cannot work, not only the first.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let mut found = Problems::default();
        found.length("cluster", &self.cluster, 1..=64);
        if !self.data_dir.as_os_str().is_empty() && !self.nats.urls.is_empty() {
            found.add("data_dir", "is for the embedded engine only; with nats.urls NATS stores the data");
        }
        self.nats.check(&mut found);
        self.node.check(&mut found);
        self.auth.check(&mut found);
        self.websocket.check(&mut found);
        self.lifetime.check(&mut found);
        self.jobs.check(&mut found);
        self.executors.check(self.nats.urls.is_empty(), &mut found);
        self.limits.check(&mut found);
        self.telemetry.check(&mut found);
        pool::check(&self.pool, &mut found);
        let internal = Some(self.node.internal.as_str()).filter(|_| !self.nats.urls.is_empty());
        mount::check(&self.mount, internal, &mut found);
        mount_app::check(&self.mount, &self.pool, &mut found);
        for path in self.native.iter().filter(|path| !mount::is_path(path)) {
            found.add("native", format!("{path:?} is not a path such as /api/v1"));
        }
        if found.0.is_empty() { Ok(()) } else { Err(InvalidConfig(found.0)) }
    }

    /// Returns warnings about values that work but have consequences, for the log and for `config check`.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let secret = self.auth.hs256_secret.expose().len();
        if (1..32).contains(&secret) {
            warnings.push(format!("auth.hs256_secret has {secret} bytes; use at least 32 random ones"));
        }
        if self.auth.api_keys.iter().any(|key| key.expose().len() < 16) {
            warnings.push("a key in auth.api_keys is shorter than 16 characters".to_owned());
        }
        if self.auth.api_keys.is_empty() && self.listen.ip().is_loopback() {
            warnings.push(
                "auth.api_keys is empty: the server API is open to every program of this machine, and to every client of \
                 a proxy here that adds no header of its own"
                    .to_owned(),
            );
        }
        if self.auth.anonymous && !self.listen.ip().is_loopback() {
            warnings.push(format!("auth.anonymous accepts every client that reaches {}", self.listen));
        }
        if !self.nats.urls.is_empty() && self.node.advertise.is_empty() {
            warnings
                .push(format!("node.advertise is empty: other nodes will use the address {}", self.listen));
        }
        if self.websocket.outbox_bytes < self.websocket.max_frame {
            warnings.push("websocket.outbox_bytes is smaller than one frame of max_frame bytes".to_owned());
        }
        warnings.extend(self.executors.warning().map(str::to_owned));
        warnings
    }
}

impl NatsConfig {
    fn check(&self, found: &mut Problems) {
        for url in &self.urls {
            let server = ["nats://", "tls://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
            if server.is_none_or(str::is_empty) {
                found.add(
                    "nats.urls",
                    format!("{url:?} is not of the form nats://host:port or tls://host:port"),
                );
            }
        }
        if !matches!(self.replicas, 1 | 3 | 5) {
            found.add("nats.replicas", format!("{} is not 1, 3 or 5", self.replicas));
        }
        if self.urls.is_empty() && self.replicas > 1 {
            found.add("nats.replicas", "replicas need servers in nats.urls");
        }
    }
}

impl NodeConfig {
    fn check(&self, found: &mut Problems) {
        found.length("node.name", &self.name, 0..=128);
        found.length("node.lane", &self.lane, 1..=64);
        found.length("node.release", &self.release, 1..=128);
        if !self.advertise.is_empty() && !is_origin(&self.advertise) {
            found.add("node.advertise", format!("{:?} is not of the form http://host:port", self.advertise));
        }
        let has_port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        if !self.internal.is_empty() && !self.internal.rsplit_once(':').is_some_and(has_port) {
            found.add("node.internal", format!("{:?} is not of the form host:port", self.internal));
        }
    }
}

impl AuthConfig {
    fn check(&self, found: &mut Problems) {
        if !self.anonymous && self.hs256_secret.is_empty() {
            found.add(
                "auth.anonymous",
                "without anonymous pages and without auth.hs256_secret no client can connect",
            );
        }
        if self.algorithms.is_empty() && !self.hs256_secret.is_empty() {
            found.add("auth.algorithms", "is empty, so that no token could be accepted");
        }
        found.range("auth.leeway_s", self.leeway_s, 0..=600);
        if !(self.cookie.is_empty() || is_cookie_name(&self.cookie)) {
            found.add("auth.cookie", format!("{:?} is not the name of a cookie", self.cookie));
        }
        for key in &self.api_keys {
            let text = key.expose();
            // an HTTP header carries the key unchanged
            let carried = text.trim() == text && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
            if text.is_empty() || !carried {
                found.add("auth.api_keys", "a key is not empty, printable ASCII, without space around it");
            }
        }
    }
}

impl Websocket {
    fn check(&self, found: &mut Problems) {
        let path = &self.path;
        let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
        if !plain || !path.starts_with('/') || path.len() < 2 {
            found.add("websocket.path", format!("{path:?} is not a path such as /_ws"));
        }
        if ["/api", "/livez", "/readyz", "/metrics", "/pagewire.js", "/_call", "/_work/"]
            .iter()
            .any(|taken| path.starts_with(taken))
        {
            found.add("websocket.path", format!("{path} is taken by the server itself"));
        }
        found.range("websocket.ping_ms", self.ping_ms, 100..=HOUR_MS);
        found.range("websocket.ping_timeout_ms", self.ping_timeout_ms, 100..=HOUR_MS);
        found.range("websocket.max_frame", self.max_frame, 128..=MESSAGE);
        found.range("websocket.outbox_bytes", self.outbox_bytes, 1024..=64 * 1024 * 1024);
        found.range("websocket.replay_bytes", self.replay_bytes, 0..=64 * 1024 * 1024);
        let is_any = self.client_origins == ["*"];
        let client_origins = self.client_origins.iter().filter(|_| !is_any);
        let all = self.origins.iter().map(|origin| ("websocket.origins", origin));
        for (key, origin) in all.chain(client_origins.map(|origin| ("websocket.client_origins", origin))) {
            if !is_origin(origin) {
                found.add(key, format!("{origin:?} is not of the form https://host or https://host:port"));
            }
        }
    }
}

impl Lifetime {
    fn check(&self, found: &mut Problems) {
        found.range("lifetime.resume_ms", self.resume_ms, 0..=HOUR_MS);
        found.range("lifetime.session_timeout_s", self.session_timeout_s, 1..=YEAR_S);
        found.range("lifetime.connection_timeout_s", self.connection_timeout_s, 1..=YEAR_S);
        found.range("lifetime.cleanup_interval_s", self.cleanup_interval_s, 1..=3600);
        found.range("lifetime.unclaimed_job_s", self.unclaimed_job_s, 1..=YEAR_S);
    }
}

impl JobsConfig {
    fn check(&self, found: &mut Problems) {
        // a client that waits for a job reads its end every few seconds
        found.range("jobs.keep_succeeded_s", self.keep_succeeded_s, 60..=YEAR_S);
        found.range("jobs.keep_failed_s", self.keep_failed_s, 60..=YEAR_S);
    }
}

impl LimitsConfig {
    fn check(&self, found: &mut Problems) {
        found.range("limits.connections", self.connections, 1..=10_000_000);
        found.range("limits.connections_per_ip", self.connections_per_ip, 1..=10_000_000);
        found.range("limits.frames_per_second", self.frames_per_second, 1..=1_000_000);
        found.range("limits.pages_per_user", self.pages_per_user, 1..=10_000_000);
        let per_minute = self.anonymous_pages_per_ip_per_minute;
        found.range("limits.anonymous_pages_per_ip_per_minute", per_minute, 1..=10_000_000);
        found.range("limits.calls_per_page", self.calls_per_page, 1..=100_000);
        found.range("limits.calls_per_user", self.calls_per_user, 1..=100_000);
        // the list of a user's jobs is one row
        found.range("limits.jobs_per_page", self.jobs_per_page, 1..=MOST_JOBS);
        found.range("limits.jobs_per_user", self.jobs_per_user, 1..=MOST_JOBS);
        found.range("limits.jobs_per_anonymous", self.jobs_per_anonymous, 1..=MOST_JOBS);
        found.range("limits.anonymous_tree_bytes", self.anonymous_tree_bytes, 2..=256 * 1024);
        found.range("limits.max_header_bytes", self.max_header_bytes, 1024..=1024 * 1024);
        found.range("limits.max_body_bytes", self.max_body_bytes, 1024..=256 * 1024 * 1024);
        found.range("limits.send_buffer_bytes", self.send_buffer_bytes, 4096..=64 * 1024 * 1024);
    }
}

/// Whether `text` is `scheme://host[:port]` without anything after it.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']))
}

#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, key: &str, problem: impl Display) {
        self.0.push(format!("{key}: {problem}"));
    }

    pub(super) fn range<T: PartialOrd + Display>(&mut self, key: &str, value: T, allowed: RangeInclusive<T>) {
        if !allowed.contains(&value) {
            self.add(key, format!("{value} is not between {} and {}", allowed.start(), allowed.end()));
        }
    }

    /// Checks a name of a pool or lane.
    pub(super) fn name(&mut self, key: &str, name: &str) {
        if !is_name(name) {
            self.add(key, format!("{name:?} is not a name of letters, digits, -, _ and ."));
        }
    }

    pub(super) fn length(&mut self, key: &str, text: &str, allowed: RangeInclusive<usize>) {
        if !allowed.contains(&text.len()) {
            let (min, max) = (allowed.start(), allowed.end());
            self.add(key, format!("has {} bytes, allowed are {min} to {max}", text.len()));
        }
    }
}
