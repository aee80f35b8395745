//! `[[mount]]`: what is served beside the server's own paths.
//!
//! Owns: the keys of a mount, their defaults and their check. Never: how a mount serves a request (`mount`).

use std::path::{Path, PathBuf};

use http::uri::Authority;
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

use super::check::Problems;
use super::layer::keys;
use super::mount_lane::{self, MountLaneConfig};
use super::mount_process::{self, MountProcessConfig};
use super::pool::MAX_TIMEOUT_MS;
use super::pool_limits::bytes;
use super::sticky::Sticky;

/// The longest body of a request to an upstream, in bytes.
const MAX_BODY: u64 = 100 << 20;
/// How long an upstream may take until it answers, in seconds.
const TIMEOUT_S: u64 = 60;

/// One entry of `[[mount]]`. Unknown keys are found by `known_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountConfig {
    /// The path below which it serves; `/` for all that has no other mount.
    pub path: String,
    /// The URL of an upstream, or `unix:` and the path of its socket; empty for none.
    pub http: String,
    /// The folder whose files are served, or the folders in which files are looked for before the upstream is asked.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    pub files: Option<StaticConfig>,
    /// The file in the folder that answers for each page of a single-page application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// `Cache-Control` of files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<CacheConfig>,
    /// Whether text is compressed while it is sent.
    pub compress: bool,
    /// Whether the upstream gets its own name as `Host` instead of that of the client.
    pub upstream_host: bool,
    /// How long the upstream may take until it answers, in seconds; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// The longest body of a request, in bytes; written as a number, or with `K`, `M` or `G`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "max_body")]
    pub max_body: Option<u64>,
    /// What the same process of the application serves again and again.
    #[serde(skip_serializing_if = "is_default")]
    pub sticky: Sticky,
    /// The pool of rollouts whose document decides the lane of each request; empty for the name of the path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// The release that its processes run; empty for that of the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// The socket at which a Genropy site that has its own daemon pushes to its pages, in the place of `gnr web async`; empty
    /// for none.
    #[serde(skip_serializing_if = "is_empty")]
    pub async_socket: PathBuf,
    /// The application that runs in processes of this server.
    #[serde(flatten)]
    pub process: MountProcessConfig,
    /// Other releases of the application, each with its own processes.
    #[serde(rename = "lane", skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<MountLaneConfig>,
}

/// The address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// Host and port.
    Tcp(Authority),
    /// The path of a socket.
    Unix(PathBuf),
}

/// `http` of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub address: UpstreamAddress,
    /// The path that replaces that of the mount, without a slash at its end; `None`: the upstream gets paths as they are.
    pub base: Option<String>,
}

/// `static` of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StaticConfig {
    /// The mount is this folder.
    Folder(PathBuf),
    /// These folders come before the upstream.
    Rules(Vec<StaticRule>),
}

/// One entry of `[[mount.static]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticRule {
    /// The path of requests, with that of the mount.
    pub path: String,
    /// The folder.
    pub directory: PathBuf,
}

/// One entry of `[[mount.cache]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// A pattern of names of files.
    pub files: String,
    /// The value of `Cache-Control`.
    pub value: String,
}

impl Default for MountConfig {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            http: String::new(),
            files: None,
            fallback: None,
            cache: Vec::new(),
            compress: true,
            upstream_host: false,
            timeout_s: None,
            max_body: None,
            sticky: Sticky::Nothing,
            pool: String::new(),
            release: String::new(),
            async_socket: PathBuf::new(),
            process: MountProcessConfig::default(),
            lanes: Vec::new(),
        }
    }
}

impl MountConfig {
    /// Returns how long the upstream may take until it answers, in milliseconds; `None` for no limit.
    pub fn timeout_ms(&self) -> Option<u64> {
        // an application may run for minutes inside a request
        let default = if self.process.application().is_some() { 0 } else { TIMEOUT_S };
        Some(self.timeout_s.unwrap_or(default)).filter(|limit| *limit > 0).map(|limit| limit * 1000)
    }

    /// Returns the upstream; `None` without one, for a program of this server, and for one that the check refuses.
    pub fn upstream(&self) -> Option<Upstream> {
        upstream(&self.http)
    }

    /// Returns the socket at which its site pushes to its pages, if it has one.
    pub fn async_socket(&self) -> Option<&Path> {
        Some(self.async_socket.as_path()).filter(|path| !path.as_os_str().is_empty())
    }

    /// Returns the longest body of a request, in bytes.
    pub fn max_body(&self) -> u64 {
        self.max_body.unwrap_or(MAX_BODY)
    }

    fn check(&self, found: &mut Problems) {
        let path = &self.path;
        if !is_path(path) {
            found.add("mount.path", format!("{path:?} is not / or a path such as /shop"));
        }
        self.process.check(path, found);
        self.check_program(found);
        self.check_lanes(found);
        self.check_app(found);
        let is_folder = matches!(self.files, Some(StaticConfig::Folder(_)));
        let has_application = self.process.application().is_some();
        let is_program = !self.process.command.is_empty();
        let has_upstream = !(self.http.is_empty() || is_program);
        match (has_upstream, has_application, is_folder) {
            (false, false, false) => {
                let problem = "has no upstream, no application and no folder: http, wsgi, asgi or static";
                found.add("mount.http", format!("the mount {path:?} {problem}"));
            }
            (true, true, _) => {
                found.add("mount.http", format!("the mount {path:?} has an application, too"));
            }
            (true, _, true) => found.add("mount.static", format!("the mount {path:?} has an upstream, too")),
            (_, true, true) => {
                found.add("mount.static", format!("the mount {path:?} has an application, too"));
            }
            _ => {}
        }
        if has_upstream && self.upstream().is_none() {
            let problem =
                "is not of the form http://host:port, http://host:port/path or unix:/path/of/socket";
            found.add("mount.http", format!("{:?} {problem}", self.http));
        }
        if self.sticky != Sticky::Nothing && !has_application {
            let problem = format!("the mount {path:?} has no processes: it has neither wsgi nor asgi");
            found.add("mount.sticky", problem);
        }
        if self.async_socket().is_some() && (is_folder || self.process.has_genropy_register()) {
            let problem =
                "is for a site with its own daemon: the mount has wsgi or http, and no register but a shadow";
            found.add("mount.async_socket", problem);
        }
        self.check_files(is_folder, found);
        if let Some(limit) = self.timeout_s {
            found.range("mount.timeout_s", limit, 0..=MAX_TIMEOUT_MS / 1000);
        }
    }
}

impl MountConfig {
    fn check_files(&self, is_folder: bool, found: &mut Problems) {
        let rules = match &self.files {
            Some(StaticConfig::Rules(rules)) => rules.as_slice(),
            _ => &[],
        };
        for rule in rules {
            let is_below = self.path == "/"
                || rule.path == self.path
                || rule.path.starts_with(&format!("{}/", self.path));
            if !is_path(&rule.path) || !is_below {
                let problem = format!("{:?} is not a path below {:?}", rule.path, self.path);
                found.add("mount.static.path", problem);
            }
        }
        if let Some(fallback) = &self.fallback
            && !(is_folder && is_path(&format!("/{fallback}")))
        {
            found.add("mount.fallback", format!("{fallback:?} is not a file of a static folder"));
        }
        if self.files.is_none() && !self.cache.is_empty() {
            found.add("mount.cache", format!("the mount {:?} has no static files", self.path));
        }
        for cache in &self.cache {
            if cache.files.is_empty() || http::HeaderValue::from_str(&cache.value).is_err() {
                let problem = format!("{:?} is not a pattern with a header value", cache.files);
                found.add("mount.cache", problem);
            }
        }
    }
}

/// Checks the mounts of a node. `internal` is its address for other nodes, if it has other nodes.
pub(super) fn check(mounts: &[MountConfig], internal: Option<&str>, found: &mut Problems) {
    let mut hopping = mounts.iter().filter_map(|mount| {
        let lanes = mount.rollout_pool().map(|_| (mount, "lanes"));
        (mount.sticky != Sticky::Nothing).then_some((mount, "sticky")).or(lanes)
    });
    if let (Some((mount, why)), Some("")) = (hopping.next(), internal) {
        let problem = format!(
            "is empty: a request of the mount {:?} may have its process at another node ({why}), which needs an address \
             of this one, such as 10.0.0.5:8081 or, on one machine, 127.0.0.1:0",
            mount.path
        );
        found.add("node.internal", problem);
    }
    for (index, mount) in mounts.iter().enumerate() {
        mount.check(found);
        if mounts[..index].iter().any(|other| other.path == mount.path) {
            found.add("mount.path", format!("{:?} is mounted twice", mount.path));
        }
    }
}

/// Whether a text is a path that has no part which a client could write in another way.
pub(crate) fn is_path(text: &str) -> bool {
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b))
    };
    text == "/" || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain))
}

/// Reads `http://host:port`, with a path or without one, or `unix:/path/of/socket`.
pub(super) fn upstream(text: &str) -> Option<Upstream> {
    if let Some(path) = text.strip_prefix("unix:") {
        let address = UpstreamAddress::Unix(path.into());
        return path.starts_with('/').then_some(Upstream { address, base: None });
    }
    let rest = text.strip_prefix("http://")?;
    let (authority, base) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let base = match base.map(|path| path.trim_end_matches('/')) {
        Some("") => Some(String::new()),
        Some(path) => Some(format!("/{path}")),
        None => None,
    };
    let is_plain = base.as_deref().is_none_or(|base| base.is_empty() || is_path(base));
    let authority = authority.parse().ok().filter(|_| is_plain && !authority.contains('@'))?;
    Some(Upstream { address: UpstreamAddress::Tcp(authority), base })
}

/// Returns the keys of a mount; the defaults have none, because they have no mount.
pub(super) fn known_keys() -> Table {
    let mut table =
        keys(&["path", "http", "fallback", "upstream_host", "compress", "timeout_s", "max_body", "sticky"]);
    table.extend(keys(&["pool", "release", "async_socket"]));
    table.extend(mount_process::known_keys());
    table.insert("lane".to_owned(), Value::Table(mount_lane::known_keys()));
    table.insert("static".to_owned(), Value::Table(keys(&["path", "directory"])));
    table.insert("cache".to_owned(), Value::Table(keys(&["files", "value"])));
    table
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn is_default(sticky: &Sticky) -> bool {
    *sticky == Sticky::Nothing
}

fn max_body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    bytes(deserializer, "max_body")
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text as loaded;
    use super::*;

    #[test]
    fn a_mount_has_an_upstream_and_the_limits_of_one() {
        let file = "[[mount]]\nhttp = \"unix:/run/a.sock\"\n[[mount]]\npath = \"/shop\"\n\
                    http = \"http://127.0.0.1:3000\"\nmax_body = \"2M\"\ntimeout_s = 0";
        let mounts = loaded(file).unwrap().mount;
        let (all, shop) = (&mounts[0], &mounts[1]);
        assert_eq!((all.path.as_str(), all.timeout_ms()), ("/", Some(TIMEOUT_S * 1000)));
        assert_eq!((shop.max_body(), shop.timeout_ms(), shop.upstream_host), (2 << 20, None, false));
        assert_eq!(loaded("").unwrap().mount, []);
    }

    #[test]
    fn a_mount_is_a_folder_or_has_folders_before_its_upstream() {
        let file = "[[mount]]\nstatic = \"dist\"\nfallback = \"index.html\"\ncompress = false\n\
                    [[mount.cache]]\nfiles = \"*.png\"\nvalue = \"public, max-age=3600\"\n\
                    [[mount]]\npath = \"/shop\"\nhttp = \"http://a\"\n\
                    [[mount.static]]\npath = \"/shop/img\"\ndirectory = \"img\"";
        let mounts = loaded(file).unwrap().mount;
        assert_eq!(mounts[0].files, Some(StaticConfig::Folder("dist".into())));
        assert_eq!((mounts[0].fallback.as_deref(), mounts[0].compress), (Some("index.html"), false));
        assert_eq!(mounts[0].cache[0].value, "public, max-age=3600");
        let rule = StaticRule { path: "/shop/img".to_owned(), directory: "img".into() };
        assert_eq!((&mounts[1].files, mounts[1].compress), (&Some(StaticConfig::Rules(vec![rule])), true));
    }

    #[test]
    fn a_mount_that_cannot_work_is_refused_with_its_key() {
        for (file, problem) in [
            ("[[mount]]", "no upstream"),
            ("[[mount]]\nhttp = \"http://a\"\nstatic = \"dist\"", "mount.static"),
            ("[[mount]]\nhttp = \"http://a\"\nfallback = \"index.html\"", "mount.fallback"),
            ("[[mount]]\nstatic = \"dist\"\nfallback = \"../x\"", "mount.fallback"),
            (
                "[[mount]]\nhttp = \"http://a\"\n[[mount.cache]]\nfiles = \"*\"\nvalue = \"no-store\"",
                "mount.cache",
            ),
            ("[[mount]]\nstatic = \"a\"\n[[mount.cache]]\nfiles = \"*\"\nvalue = \"a\\n\"", "mount.cache"),
            (
                "[[mount]]\npath = \"/a\"\nhttp = \"http://a\"\n[[mount.static]]\npath = \"/b\"\ndirectory = \"b\"",
                "mount.static.path",
            ),
            (
                "[[mount]]\nhttp = \"http://a\"\n[[mount.static]]\npath = \"/b\"\ndirectry = \"b\"",
                "mount.static.directory",
            ),
            ("[[mount]]\npath = \"a\"\nhttp = \"http://a\"", "mount.path"),
            ("[[mount]]\npath = \"/a/\"\nhttp = \"http://a\"", "mount.path"),
            ("[[mount]]\npath = \"/a/../b\"\nhttp = \"http://a\"", "mount.path"),
            ("[[mount]]\nhttp = \"http://a\"\n[[mount]]\nhttp = \"http://b\"", "mounted twice"),
            ("[[mount]]\nhttp = \"ftp://a\"", "mount.http"),
            ("[[mount]]\nhttp = \"http://u@a\"", "mount.http"),
            ("[[mount]]\nhttp = \"unix:a\"", "mount.http"),
            ("[[mount]]\nhttp = \"http://a\"\nmax_body = \"much\"", "max_body"),
            ("[[mount]]\nstatic = \"a\"\nasync_socket = \"/run/a.sock\"", "mount.async_socket"),
            ("[[mount]]\nhtp = \"http://a\"", "the nearest known one is mount.http"),
        ] {
            let error = loaded(file).unwrap_err();
            assert!(error.contains(problem), "{file}: {error}");
        }
    }

    #[test]
    fn the_paths_of_mounts_have_one_spelling() {
        assert!(["/", "/a", "/a/b.c", "/_rsrc/common"].into_iter().all(is_path));
        assert!(!["", "a", "//", "/a/", "/a//b", "/./a", "/%61", "/a b", "/ä"].into_iter().any(is_path));
    }
}
