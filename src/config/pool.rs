//! `[[pool]]`: the pools whose work a node runs by itself.
//!
//! Owns: the keys of a pool, their defaults and their check. Never: how handlers are run (`roles`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use pagewire_cluster::engine::MAX_WORKERS;
use pagewire_worker::runtime::child::options::FreeAffinity;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::check::Problems;
use super::layer::keys;
use super::pool_limits::{PagesConfig, RecycleConfig};
use super::{Secret, http_pool};

/// Slots of a pool that runs handlers of this binary. They share one process, so there are many.
const SLOTS_IN_PROCESS: u32 = 256;
/// Slots of a pool behind HTTP.
const SLOTS_OF_BACKEND: u32 = 16;
/// Slots of one child.
const SLOTS_OF_CHILD: u32 = 8;
const MAX_SLOTS: u32 = 4096;
const MAX_CHILDREN: u32 = 1024;
const START_MS: u64 = 30_000;
/// The longest time that work or a request may take, in milliseconds.
pub(super) const MAX_TIMEOUT_MS: u64 = 24 * 3_600_000;
const DAY_S: u64 = 86_400;

/// One entry of `[[pool]]`. A key that is absent has the default of its runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// The name of the pool.
    pub name: String,
    /// The program of its children with its arguments; empty for handlers of this binary.
    pub command: Vec<String>,
    /// The handlers that it serves; empty for all of them.
    pub methods: Vec<String>,
    /// Children for the work of any caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u32>,
    /// Children for the work of assigned users.
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned: Option<u32>,
    /// Pieces of work at a time, in one child or in this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    /// Which child gets a piece of free work.
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity: Option<FreeAffinity>,
    /// How long a child may take to become ready, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms: Option<u64>,
    /// Environment variables of the children, in addition to those of this process.
    pub env: BTreeMap<String, String>,
    /// The working directory of the children; empty for that of this process.
    pub directory: PathBuf,
    /// When a child is replaced by a new one.
    pub recycle: RecycleConfig,
    /// The limits of the objects of resident pages.
    pub pages: PagesConfig,
    /// Children that take all kinds of work, instead of `free` and `assigned`; only for `pagewire worker … -- PROGRAM`.
    #[serde(skip)]
    pub shared: Option<u32>,
    /// How the number of children follows the work; absent: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleConfig>,
    /// The URL of an HTTP backend that runs the handlers; empty for none.
    pub url: String,
    /// The URLs of the backend by lane; `url` is that of the process's own lane.
    pub lanes: BTreeMap<String, String>,
    /// The key that signs requests to the backend; empty for none.
    pub secret: Secret,
    /// The file that contains the key instead; empty for none.
    pub secret_file: PathBuf,
    /// The URL at which the backend reaches this process; empty for its own.
    pub callback: String,
    /// How long the backend may take for a piece of work, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How the handlers of a pool run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolRuntime {
    /// Handlers of this binary, in this process.
    InProcess,
    /// A program in child processes.
    Child,
    /// The user's own HTTP backend.
    Http,
}

/// `[pool.scale]`: the number of children of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleConfig {
    /// Children that there are always.
    #[serde(default = "one")]
    pub min: u32,
    /// The most children.
    pub max: u32,
    /// Users that are assigned to a child before another one is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_users: Option<u32>,
}

const fn one() -> u32 {
    1
}

impl PoolConfig {
    /// Creates a pool whose children run a program.
    pub fn of_program(name: &str, command: Vec<String>, methods: Vec<String>, slots: Option<u32>) -> Self {
        Self { name: name.to_owned(), command, methods, slots, ..Self::default() }
    }

    /// Sets the number of children for the work of any caller, and for that of assigned users.
    pub const fn set_children(&mut self, free: u32, assigned: u32) {
        self.free = Some(free);
        self.assigned = Some(assigned);
    }

    /// Returns how the handlers of the pool run.
    pub fn runtime(&self) -> PoolRuntime {
        match (self.command.is_empty(), self.url.is_empty()) {
            (false, _) => PoolRuntime::Child,
            (true, false) => PoolRuntime::Http,
            (true, true) => PoolRuntime::InProcess,
        }
    }

    /// Returns the number of children for the work of any caller.
    pub fn free(&self) -> u32 {
        self.free.unwrap_or_else(processors)
    }

    /// Returns the number of children for the work of assigned users.
    pub fn assigned(&self) -> u32 {
        self.assigned.unwrap_or_else(processors)
    }

    /// Returns how many pieces of work run at a time, in one child or in this process.
    pub fn slots(&self) -> u32 {
        self.slots.unwrap_or(match self.runtime() {
            PoolRuntime::InProcess => SLOTS_IN_PROCESS,
            PoolRuntime::Child => SLOTS_OF_CHILD,
            PoolRuntime::Http => SLOTS_OF_BACKEND,
        })
    }

    /// Returns which child gets a piece of free work.
    pub fn affinity(&self) -> FreeAffinity {
        self.affinity.unwrap_or_default()
    }

    /// Returns how long a child may take to become ready, in milliseconds.
    pub fn start_ms(&self) -> u64 {
        self.start_ms.unwrap_or(START_MS)
    }

    fn check(&self, found: &mut Problems) {
        found.name("pool.name", &self.name);
        for method in &self.methods {
            found.length("pool.methods", method, 1..=200);
        }
        if let Some(slots) = self.slots {
            found.range("pool.slots", slots, 1..=MAX_SLOTS);
        }
        found.range("pool.pages.max", self.pages.max, 0..=10_000_000);
        found.range("pool.pages.idle_s", self.pages.idle_s, 0..=366 * DAY_S);
        match self.runtime() {
            PoolRuntime::InProcess => self.check_without_children(found),
            PoolRuntime::Child => self.check_child(found),
            PoolRuntime::Http => {
                self.check_without_children(found);
                self.check_backend(found);
            }
        }
        if self.runtime() != PoolRuntime::Http {
            self.check_without_backend(found);
        }
    }

    fn check_without_children(&self, found: &mut Problems) {
        let set = [
            ("free", self.free.is_some()),
            ("assigned", self.assigned.is_some()),
            ("affinity", self.affinity.is_some()),
            ("start_ms", self.start_ms.is_some()),
            ("env", !self.env.is_empty()),
            ("directory", !self.directory.as_os_str().is_empty()),
            ("recycle", self.recycle != RecycleConfig::default()),
            ("scale", self.scale.is_some()),
            ("pages.max_rss", self.pages.max_rss.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            let name = &self.name;
            found.add(&format!("pool.{key}"), format!("pool {name:?} has no command, so it has no children"));
        }
    }

    fn check_child(&self, found: &mut Problems) {
        if self.command[0].is_empty() {
            found.add("pool.command", "the first item is the program, which is not empty");
        }
        let (free, assigned) = (self.free(), self.assigned());
        found.range("pool.free", free, 0..=MAX_CHILDREN);
        found.range("pool.assigned", assigned, 0..=MAX_CHILDREN);
        if free == 0 && assigned == 0 {
            found.add(
                "pool.free",
                format!("pool {:?} would have no children: free or assigned is 0", self.name),
            );
        }
        if let Some(ScaleConfig { min, max, max_users }) = self.scale {
            found.range("pool.scale.max", max, 1..=MAX_CHILDREN);
            found.range("pool.scale.min", min, 1..=max.max(1));
            found.range("pool.scale.max_users", max_users.unwrap_or(1), 1..=u32::MAX);
        }
        for children in [free, assigned] {
            let most = self.scale.map_or(children, |scale| scale.max);
            found.range("pool.slots", most.saturating_mul(self.slots()), 0..=MAX_CHILDREN * 64);
        }
        found.range("pool.start_ms", self.start_ms(), 100..=600_000);
        if let Some(bytes) = self.pages.max_rss {
            found.range("pool.pages.max_rss", bytes, 1 << 20..=1 << 50);
        }
        let RecycleConfig { max_work, max_rss, max_age_s } = self.recycle;
        if let Some(work) = max_work {
            found.range("pool.recycle.max_work", work, 1..=u64::MAX);
        }
        if let Some(bytes) = max_rss {
            found.range("pool.recycle.max_rss", bytes, 1 << 20..=1 << 50);
        }
        if let Some(seconds) = max_age_s {
            found.range("pool.recycle.max_age_s", seconds, 1..=366 * DAY_S);
        }
        if self.env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
            found.add("pool.env", "the name of a variable is not empty and has no `=`");
        }
    }
}

/// Checks the pools of a node.
pub(super) fn check(pools: &[PoolConfig], found: &mut Problems) {
    // a pool has up to two workers, one for any work and one for that of users
    if pools.len() > MAX_WORKERS / 2 {
        found.add("pool", format!("one process has at most {} pools", MAX_WORKERS / 2));
    }
    for (index, pool) in pools.iter().enumerate() {
        pool.check(found);
        if pools[..index].iter().any(|other| other.name == pool.name) {
            found.add("pool.name", format!("{:?} is configured twice", pool.name));
        }
    }
}

/// Returns the keys of a pool; the defaults have none, because they have no pool.
pub(super) fn known_keys() -> Table {
    let mut table = keys(&[
        "name",
        "command",
        "methods",
        "free",
        "assigned",
        "slots",
        "affinity",
        "start_ms",
        "directory",
    ]);
    table.extend(keys(http_pool::KEYS));
    table.insert("lanes".to_owned(), Value::Table(Table::new()));
    table.insert("env".to_owned(), Value::Table(Table::new()));
    table.insert("recycle".to_owned(), Value::Table(keys(&["max_work", "max_rss", "max_age_s"])));
    table.insert("pages".to_owned(), Value::Table(keys(&["max", "idle_s", "max_rss"])));
    table.insert("scale".to_owned(), Value::Table(keys(&["min", "max", "max_users"])));
    table
}

/// Returns the number of processors that this process may use.
fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text as loaded;
    use super::super::pool_limits::bytes_of;
    use super::*;

    #[test]
    fn a_process_has_a_limited_number_of_pools() {
        let pools = |count: usize| {
            let text: String = (0..count).map(|number| format!("[[pool]]\nname = \"p{number}\"\n")).collect();
            super::super::load::load_text(&text)
        };
        assert!(pools(32).is_ok());
        assert!(pools(33).unwrap_err().contains("at most 32 pools"));
    }

    #[test]
    fn a_pool_has_the_defaults_of_its_runtime() {
        let file = "[[pool]]\nname = \"rust\"\n\n[[pool]]\nname = \"py\"\ncommand = [\"python\", \"app.py\"]\nfree = 0\n\
                    affinity = \"round_robin\"\n[pool.env]\nLANG = \"C\"\n[pool.recycle]\nmax_rss = \"512M\"";
        let pools = loaded(file).unwrap().pool;
        let (rust, python) = (&pools[0], &pools[1]);
        assert_eq!((rust.runtime(), rust.slots()), (PoolRuntime::InProcess, SLOTS_IN_PROCESS));
        assert_eq!((python.runtime(), python.slots()), (PoolRuntime::Child, SLOTS_OF_CHILD));
        assert_eq!((python.free(), python.assigned()), (0, processors()));
        assert_eq!((python.affinity(), python.start_ms()), (FreeAffinity::RoundRobin, START_MS));
        assert_eq!(python.recycle.max_rss, Some(512 << 20));
        assert_eq!(python.env["LANG"], "C");
        assert_eq!(loaded("").unwrap().pool, []);
    }

    #[test]
    fn a_pool_that_cannot_work_is_refused_with_its_key() {
        let child = "[[pool]]\nname = \"a\"\ncommand = [\"x\"]\n";
        for (file, problem) in [
            ("[[pool]]\nslots = 1".to_owned(), "pool.name"),
            ("[[pool]]\nname = \"a b\"".to_owned(), "pool.name"),
            ("[[pool]]\nname = \"a\"\n[[pool]]\nname = \"a\"".to_owned(), "configured twice"),
            ("[[pool]]\nname = \"a\"\nfree = 1".to_owned(), "pool.free"),
            ("[[pool]]\nname = \"a\"\n[pool.recycle]\nmax_work = 1".to_owned(), "pool.recycle"),
            ("[[pool]]\nname = \"a\"\nslots = 0".to_owned(), "pool.slots"),
            (format!("{child}free = 0\nassigned = 0"), "no children"),
            (format!("{child}start_ms = 1"), "pool.start_ms"),
            (format!("{child}affinity = \"no\""), "affinity"),
            (format!("{child}[pool.recycle]\nmax_rss = \"much\""), "max_rss"),
            (format!("{child}[pool.recycle]\nmax_ram = 1"), "the nearest known one is pool.recycle.max_rss"),
            (format!("{child}[pool.scale]\nmin = 2\nmax = 1"), "pool.scale.min"),
            (format!("{child}[pool.scale]\nmin = 2"), "max"),
            (format!("{child}slot = 1"), "the nearest known one is pool.slots"),
            (format!("{child}url = \"http://a\""), "pool.url"),
            ("[[pool]]\nname = \"a\"\ncommand = \"x\"".to_owned(), "sequence"),
        ] {
            let refused = loaded(&file).unwrap_err();
            assert!(refused.contains(problem), "{file}: {refused}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["7", "2K", "3 MiB", "1g", "", "M", "1T", "-1M"].map(bytes_of);
        assert_eq!(sizes, [Some(7), Some(2048), Some(3 << 20), Some(1 << 30), None, None, None, None]);
    }
}
