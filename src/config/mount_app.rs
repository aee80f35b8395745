//! `app` of a mount: handlers and resident pages in the processes of its web application.
//!
//! Owns: the pool under which they are called, and the check of both. Never: how a process runs them (`roles`).

use pagewire_cluster::engine::MAX_WORKERS;

use super::Config;
use super::check::Problems;
use super::mount::MountConfig;
use super::pool::PoolConfig;
use super::sticky::Sticky;

/// The most pools of one process, which may have two workers each.
const MAX_POOLS: usize = MAX_WORKERS / 2;
/// The pool of the handlers of a mount that names none.
const DEFAULT_POOL: &str = "default";

impl MountConfig {
    /// Returns the pool of the handlers that run in the processes of the mount; `None` for a mount without `app`.
    pub fn handler_pool(&self) -> Option<&str> {
        let name = if self.pool.is_empty() { DEFAULT_POOL } else { &self.pool };
        (!self.process.app.is_empty()).then_some(name)
    }

    /// Checks the keys that `app` has an influence on.
    pub(super) fn check_app(&self, found: &mut Problems) {
        let path = &self.path;
        if self.handler_pool().is_none() {
            return;
        }
        if !self.process.command.is_empty() {
            found.add("mount.app", "it is for wsgi and asgi, not for a command");
        }
        if self.process.processes() != 1 && self.sticky != Sticky::Page {
            let problem = "has an app: a request meets the object of its page in one process, or with sticky = \"page\" in one of several";
            found.add("mount.processes", format!("the mount {path:?} {problem}"));
        }
        if !self.lanes.is_empty() {
            let problem = "has an app, and its handlers have one lane: run the other lane at another node";
            found.add("mount.lane", format!("the mount {path:?} {problem}"));
        }
        if !self.release.is_empty() {
            let problem = "has an app, and its handlers have the release of the node: set node.release";
            found.add("mount.release", format!("the mount {path:?} {problem}"));
        }
    }
}

impl Config {
    /// Returns whether the work of this process is that of pools which the configuration names.
    pub fn has_pools(&self) -> bool {
        !self.pool.is_empty() || self.mount.iter().any(|mount| mount.handler_pool().is_some())
    }
}

/// Checks that the handlers of each mount have a pool of their own.
pub(super) fn check(mounts: &[MountConfig], pools: &[PoolConfig], found: &mut Problems) {
    let count = pools.len() + mounts.iter().filter(|mount| mount.handler_pool().is_some()).count();
    if pools.len() <= MAX_POOLS && count > MAX_POOLS {
        let problem =
            format!("one process has at most {MAX_POOLS} pools, with those of the handlers of mounts");
        found.add("mount.app", problem);
    }
    for (index, mount) in mounts.iter().enumerate() {
        let Some(pool) = mount.handler_pool() else { continue };
        let is_of_pool = pools.iter().any(|other| other.name == pool);
        if is_of_pool || mounts[..index].iter().any(|other| other.handler_pool() == Some(pool)) {
            let other = if is_of_pool { "a [[pool]]" } else { "another mount" };
            let problem = format!(
                "the handlers of the mount {:?} would be in the pool {pool:?}, which is that of {other}: name another one",
                mount.path
            );
            found.add("mount.pool", problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;

    const SITE: &str = "[[mount]]\nwsgi = \"site:application\"\napp = \"site:app\"\n";

    #[test]
    fn the_handlers_of_a_mount_have_a_pool_and_one_process() {
        let config = load_text(SITE).unwrap();
        let mount = &config.mount[0];
        assert_eq!((mount.handler_pool(), mount.process.processes()), (Some("default"), 1));
        assert_eq!(mount.rollout_pool(), None);
        assert!(config.has_pools());
        let named = load_text(&format!("{SITE}pool = \"site\"")).unwrap();
        assert_eq!(named.mount[0].handler_pool(), Some("site"));
        let without = load_text("[[mount]]\nwsgi = \"site:application\"\npool = \"site\"").unwrap();
        assert_eq!((without.mount[0].handler_pool(), without.has_pools()), (None, false));
    }

    #[test]
    fn handlers_that_cannot_run_in_a_mount_are_refused_with_their_key() {
        let site = |keys: &str| format!("{SITE}{keys}");
        for (file, key, problem) in [
            ("[[mount]]\nhttp = \"http://a\"\napp = \"a:b\"".to_owned(), "mount.app", "no application"),
            (
                "[[mount]]\nhttp = \"unix:{socket}\"\ncommand = [\"a\"]\napp = \"a:b\"".to_owned(),
                "mount.app",
                "not for a command",
            ),
            ("[[mount]]\nwsgi = \"a:b\"\napp = \"a/b.py\"".to_owned(), "mount.app", "module:callable"),
            (site("processes = 2"), "mount.processes", "sticky = \"page\""),
            (site("processes = 2\nsticky = \"user\""), "mount.processes", "in one process"),
            (site("release = \"1\""), "mount.release", "node.release"),
            (site("[[mount.lane]]\nname = \"canary\""), "mount.lane", "at another node"),
            (site("[[pool]]\nname = \"default\""), "mount.pool", "a [[pool]]"),
            (site("[[mount]]\npath = \"/b\"\nasgi = \"b\"\napp = \"b\""), "mount.pool", "another mount"),
        ] {
            let error = load_text(&file).unwrap_err();
            assert!(error.contains(&format!("{key}: ")) && error.contains(problem), "{file}: {error}");
        }
        load_text(&site("processes = 2\nsticky = \"page\"")).unwrap();
        load_text(&site("pool = \"site\"\n[[pool]]\nname = \"default\"")).unwrap();
    }
}
