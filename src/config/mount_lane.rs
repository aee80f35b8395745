//! `[[mount.lane]]`: other releases of the application of a mount, beside the one of the mount itself.
//!
//! Owns: the keys of a lane, what it takes from its mount, and the check of both. Never: which requests a lane gets
//! (`mount`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use pagewire_cluster::rollout::{BASE, is_name};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::check::Problems;
use super::layer::keys;
use super::mount::MountConfig;
use super::mount_process::{MAX_PROCESSES, are_variables};

/// The pool of the mount at `/`, which has no other name in its path.
const ROOT_POOL: &str = "root";
/// Maximum length of the name of a pool, in bytes.
const MAX_POOL: usize = 64;

/// One entry of `[[mount.lane]]`. A key that is absent has the value of the mount. Unknown keys are found by `known_keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountLaneConfig {
    /// The name, as in the rollout of the pool.
    pub name: String,
    /// The release that its processes run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// The working directory of its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The folder of its virtualenv.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub venv: Option<PathBuf>,
    /// The number of its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Environment variables, in addition to those of the mount.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl MountConfig {
    /// Returns the name of the lane that is the mount itself.
    pub const fn own_lane(&self) -> &'static str {
        BASE
    }

    /// Returns the pool of the rollout that decides the lane of each request; `None` for a mount without lanes.
    pub fn rollout_pool(&self) -> Option<String> {
        match self.pool.as_str() {
            "" => (!self.lanes.is_empty()).then(|| pool_of_path(&self.path)),
            pool => Some(pool.to_owned()),
        }
    }

    /// Returns the mount with the processes of one of its lanes.
    pub fn in_lane(&self, lane: &MountLaneConfig) -> Self {
        let mut mount = Self { lanes: Vec::new(), ..self.clone() };
        if !lane.release.is_empty() {
            mount.release.clone_from(&lane.release);
        }
        let process = &mut mount.process;
        if let Some(directory) = &lane.directory {
            process.directory.clone_from(directory);
        }
        if let Some(venv) = &lane.venv {
            process.venv.clone_from(venv);
        }
        process.processes = lane.processes.or(process.processes);
        process.env.extend(lane.env.clone());
        mount
    }

    /// Checks the lanes, and the keys that only a mount with processes has.
    pub(super) fn check_lanes(&self, found: &mut Problems) {
        let path = &self.path;
        if self.process.application().is_none() {
            let keys = [
                ("lane", !self.lanes.is_empty()),
                ("pool", !self.pool.is_empty()),
                ("release", !self.release.is_empty()),
            ];
            for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
                let problem =
                    "has no processes, which a lane is made of: it has neither wsgi nor asgi nor command";
                found.add(&format!("mount.{key}"), format!("the mount {path:?} {problem}"));
            }
            return;
        }
        if !self.pool.is_empty() {
            found.name("mount.pool", &self.pool);
        }
        found.length("mount.release", &self.release, 0..=128);
        for (index, lane) in self.lanes.iter().enumerate() {
            if self.lanes[..index].iter().any(|other| other.name == lane.name) {
                found
                    .add("mount.lane.name", format!("the mount {path:?} has the lane {:?} twice", lane.name));
            }
            self.check_lane(lane, found);
        }
    }

    fn check_lane(&self, lane: &MountLaneConfig, found: &mut Problems) {
        found.name("mount.lane.name", &lane.name);
        if lane.name == self.own_lane() {
            let problem = "is the lane of the mount itself: give the other release another name";
            found.add("mount.lane.name", format!("{:?} {problem}", lane.name));
        }
        found.length("mount.lane.release", &lane.release, 0..=128);
        found.range("mount.lane.processes", lane.processes.unwrap_or(1), 1..=MAX_PROCESSES);
        if !are_variables(&lane.env) {
            found.add("mount.lane.env", "the name of a variable is not empty and has no `=`");
        }
        if lane.venv.is_some() && !self.process.command.is_empty() {
            found.add("mount.lane.venv", "it is for wsgi and asgi, not for a command");
        }
    }
}

/// Returns the name of the pool of a mount at a path: `/shop/admin` has `shop.admin`.
fn pool_of_path(path: &str) -> String {
    let legible =
        |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let name: String =
        path.trim_start_matches('/').replace('/', ".").chars().map(legible).take(MAX_POOL).collect();
    if is_name(&name) { name } else { ROOT_POOL.to_owned() }
}

/// Returns the keys of a lane.
pub(super) fn known_keys() -> Table {
    let mut table = keys(&["name", "release", "directory", "venv", "processes"]);
    table.insert("env".to_owned(), Value::Table(Table::new()));
    table
}

#[cfg(test)]
mod tests {
    use super::super::load::load_text;
    use super::*;

    fn loaded(keys: &str) -> Result<MountConfig, String> {
        load_text(&format!("[[mount]]\n{keys}")).map(|mut config| config.mount.remove(0))
    }

    const SHOP: &str = "path = \"/shop\"\nwsgi = \"shop\"\ndirectory = \"/srv/1\"\nvenv = \"/srv/1/venv\"\n\
                        processes = 3\nrelease = \"1.0\"\nenv = { A = \"1\", B = \"1\" }\n";

    #[test]
    fn a_lane_has_what_it_says_and_the_rest_of_its_mount() {
        let lane = "[[mount.lane]]\nname = \"canary\"\nrelease = \"2.0\"\ndirectory = \"/srv/2\"\n\
                    env = { B = \"2\", C = \"2\" }\n[[mount.lane]]\nname = \"next\"\nprocesses = 1\nvenv = \"/v\"";
        let mount = loaded(&format!("{SHOP}{lane}")).unwrap();
        assert_eq!((mount.own_lane(), mount.release.as_str()), ("stable", "1.0"));
        assert_eq!(mount.rollout_pool().as_deref(), Some("shop"));
        let canary = mount.in_lane(&mount.lanes[0]);
        assert_eq!((canary.release.as_str(), canary.lanes.len()), ("2.0", 0));
        let process = &canary.process;
        assert_eq!((&process.directory, &process.venv), (&"/srv/2".into(), &"/srv/1/venv".into()));
        assert_eq!((process.processes(), process.wsgi.as_str()), (3, "shop"));
        let env: Vec<_> = process.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["A=1", "B=2", "C=2"]);
        let next = mount.in_lane(&mount.lanes[1]);
        assert_eq!((next.process.processes(), next.release.as_str()), (1, "1.0"));
        assert_eq!((&next.process.directory, &next.process.venv), (&"/srv/1".into(), &"/v".into()));
    }

    #[test]
    fn a_mount_has_a_pool_if_it_names_one_or_has_lanes() {
        assert_eq!(loaded(SHOP).unwrap().rollout_pool(), None);
        let named = loaded(&format!("{SHOP}pool = \"web\"")).unwrap();
        assert_eq!(named.rollout_pool().as_deref(), Some("web"));
        for (path, pool) in
            [("/", "root"), ("/shop/admin", "shop.admin"), ("/a@b", "a-b"), ("/_rsrc", "_rsrc")]
        {
            assert_eq!(pool_of_path(path), pool);
        }
        assert!(is_name(&pool_of_path(&format!("/{}", "a".repeat(100)))));
    }

    #[test]
    fn lanes_that_cannot_work_are_refused_with_their_key_and_the_reason() {
        let lane = |keys: &str| format!("{SHOP}[[mount.lane]]\n{keys}");
        let of_other = |keys: &str| format!("{keys}\n[[mount.lane]]\nname = \"canary\"");
        for (keys, key, problem) in [
            (lane("name = \"a\"\n[[mount.lane]]\nname = \"a\""), "mount.lane.name", "the lane \"a\" twice"),
            (lane("name = \"stable\""), "mount.lane.name", "is the lane of the mount itself"),
            (lane("release = \"2\""), "mount.lane.name", "is not a name"),
            (lane("name = \"a b\""), "mount.lane.name", "is not a name"),
            (lane("name = \"a\"\nprocesses = 0"), "mount.lane.processes", "0"),
            (lane("name = \"a\"\nenv = { \"A=\" = \"\" }"), "mount.lane.env", "no `=`"),
            (lane("name = \"a\"\nweight = 10"), "mount.lane.weight", "unknown key"),
            (lane(&format!("name = \"a\"\nrelease = \"{}\"", "2".repeat(129))), "mount.lane.release", "128"),
            (of_other("static = \"dist\""), "mount.lane", "has no processes"),
            (of_other("http = \"http://a\""), "mount.lane", "has no processes"),
            ("http = \"http://a\"\npool = \"a\"".to_owned(), "mount.pool", "has no processes"),
            ("http = \"http://a\"\nrelease = \"1\"".to_owned(), "mount.release", "has no processes"),
            (format!("{SHOP}pool = \"a/b\""), "mount.pool", "is not a name"),
            (
                of_other("http = \"unix:{socket}\"\ncommand = [\"a\"]") + "\nvenv = \"/v\"",
                "mount.lane.venv",
                "not for a command",
            ),
        ] {
            let error = loaded(&keys).unwrap_err();
            assert!(error.contains(key) && error.contains(problem), "{keys}: {error}");
        }
    }

    #[test]
    fn lanes_on_several_nodes_need_an_address_for_the_other_nodes() {
        let file = |internal: &str| {
            format!(
                "[nats]\nurls = [\"nats://a\"]\n{internal}\n[[mount]]\n{SHOP}[[mount.lane]]\nname = \"canary\""
            )
        };
        let error = load_text(&file("")).unwrap_err();
        assert!(error.contains("node.internal") && error.contains("/shop"), "{error}");
        load_text(&file("[node]\ninternal = \"127.0.0.1:0\"")).unwrap();
    }
}
