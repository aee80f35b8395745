//! The processes of mounts whose application runs here.
//!
//! Owns: how such a process is started. Never: which requests it gets (`mount`), or its supervision
//! (`pagewire_worker::runtime::child`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::WorkerType;
use pagewire_worker::effects::application::Applications;
use pagewire_worker::runtime::child::options::{
    ChildOptions, FreeAffinity, HttpProgram, HttpQueueLimits, ProgramListens, RecycleLimits, ScaleLimits,
};
use pagewire_worker::runtime::child::pool::ChildPool;
use pagewire_worker::slots::SlotOptions;

use super::StartError;
use super::genropy_package;
use super::pools::{PoolPart, PoolServices};
use super::python_package::PythonPackage;
use super::worker::WorkProcesses;
use crate::config::{Config, MountApplication, MountConfig, MountLaneConfig};
use crate::mount::{LanePool, MountPool, MountPools};

/// The processes of all mounts.
#[derive(Default)]
pub(super) struct MountProcesses {
    pools: MountPools,
    /// What they import; it stays until they have ended.
    _package: Option<PythonPackage>,
    /// What their applications may request; it ends with the node.
    _applications: Option<Arc<Applications>>,
}

impl MountProcesses {
    /// Starts the processes of the mounts that have an application.
    ///
    /// # Errors
    /// [`StartError::Pool`] when the system has no room for them.
    pub(super) fn start(services: &PoolServices) -> Result<Self, StartError> {
        let PoolServices { config, jobs, applications, .. } = services;
        let timing = jobs.timing;
        let mounts: Vec<_> =
            config.mount.iter().filter(|mount| mount.process.application().is_some()).collect();
        if mounts.is_empty() {
            return Ok(Self::default());
        }
        let refused = |pool: &str, error: std::io::Error| StartError::Pool {
            pool: pool.to_owned(),
            problem: error.to_string(),
        };
        let is_python =
            |mount: &&MountConfig| !matches!(mount.process.application(), Some(MountApplication::Program(_)));
        let package = match mounts.iter().any(is_python) {
            true => Some(PythonPackage::unpack().map_err(|error| refused("mount", error))?),
            false => None,
        };
        if let Some(package) = &package
            && mounts.iter().any(|mount| loads_genropy_package(mount))
        {
            genropy_package::unpack(package.path()).map_err(|error| refused("mount", error))?;
        }
        let path = package.as_ref().map_or(Path::new(""), PythonPackage::path);
        let mut pools = MountPools::new();
        for mount in mounts {
            let start = |mount: &MountConfig, lane: Option<&str>| {
                let options = ChildOptions {
                    applications: applications.as_ref().map(Arc::downgrade),
                    ..options(config, mount, lane, path, timing)
                };
                let (name, release) = (options.pool.clone(), options.release.as_str().into());
                let children = ChildPool::start(options, timing).map_err(|error| refused(&name, error))?;
                Ok::<_, StartError>(LanePool { name, release, children })
            };
            let lane = |lane: &MountLaneConfig| {
                Ok::<_, StartError>((lane.name.clone(), start(&mount.in_lane(lane), Some(&lane.name))?))
            };
            let pool = MountPool {
                own: start(mount, None)?,
                others: mount.lanes.iter().map(lane).collect::<Result<_, _>>()?,
                rollout: mount.rollout_pool(),
                own_lane: mount.own_lane(),
            };
            pools.insert(mount.path.clone(), pool);
        }
        Ok(Self { pools, _package: package, _applications: applications.clone() })
    }

    /// Returns the workers of the mounts that have handlers.
    pub(super) fn parts(&self, config: &Config) -> Vec<PoolPart> {
        let part = |mount: &MountConfig| {
            let (pool, children) = (mount.handler_pool()?, &self.pools.get(&mount.path)?.own.children);
            let threads = mount.process.threads();
            Some(PoolPart {
                pool: pool.to_owned(),
                lane: Some(lane_of(config, mount)),
                kind: WorkerType::Both,
                slots: SlotOptions::new(threads.saturating_mul(mount.process.processes())),
                handlers: children.handlers(),
                processes: WorkProcesses::Children(children.clone(), threads),
            })
        };
        config.mount.iter().filter_map(part).collect()
    }

    /// Returns the pools by the path of their mount.
    pub(super) const fn pools(&self) -> &MountPools {
        &self.pools
    }
}

/// Returns the name of the child processes of a mount, or of one of its other lanes: that of the pool of its handlers, if
/// it has some.
fn pool_name(mount: &MountConfig, lane: Option<&str>) -> String {
    let path = &mount.path;
    match (mount.handler_pool(), lane) {
        (Some(pool), _) => pool.to_owned(),
        (None, None) => format!("mount {path}"),
        (None, Some(lane)) => format!("mount {path} {lane}"),
    }
}

/// Returns the lane of the processes of the mount itself.
fn lane_of(config: &Config, mount: &MountConfig) -> String {
    let lane = if mount.rollout_pool().is_some() { mount.own_lane() } else { &config.node.lane };
    lane.to_owned()
}

fn options(
    config: &Config,
    mount: &MountConfig,
    lane: Option<&str>,
    package: &Path,
    timing: Timing,
) -> ChildOptions {
    let process = &mount.process;
    let timeout = mount.timeout_ms().map(Duration::from_millis);
    let release = if mount.release.is_empty() { &config.node.release } else { &mount.release };
    ChildOptions {
        pool: pool_name(mount, lane),
        lane: lane.map_or_else(|| lane_of(config, mount), str::to_owned),
        release: release.clone(),
        worker: config.node.name.clone(),
        command: command(mount),
        env: environment(mount, package),
        directory: Some(process.directory.clone()).filter(|directory| *directory != PathBuf::new()),
        children: vec![(WorkerType::Both, ScaleLimits::fixed(process.processes() as usize))],
        slots: process.threads(),
        start: Duration::from_millis(process.start_ms()),
        recycle: RecycleLimits {
            max_work: process.max_requests,
            max_rss: process.max_rss,
            max_age: process.max_age_s.map(Duration::from_secs),
            objects_rss: None,
        },
        affinity: FreeAffinity::LeastLoaded,
        methods: Vec::new(),
        http: Some(HttpQueueLimits {
            queue: process.queue() as usize,
            wait: Duration::from_millis(process.queue_ms()),
            drain: timeout.unwrap_or(timing.request_drain).max(timing.drain),
        }),
        program: program(mount),
        needs: process.needs().collect(),
        applications: None,
    }
}

/// Returns how a program serves HTTP that does not speak the child wire.
fn program(mount: &MountConfig) -> Option<HttpProgram> {
    let listens = match mount.program()?.host {
        Some(host) => ProgramListens::Port(host),
        None => ProgramListens::Socket,
    };
    let health = Some(mount.process.health.clone()).filter(|path| !path.is_empty());
    Some(HttpProgram { listens, health })
}

fn command(mount: &MountConfig) -> Vec<String> {
    let process = &mount.process;
    let (module, target) = match process.application() {
        Some(MountApplication::Program(command)) => return command.to_vec(),
        Some(MountApplication::Asgi(target)) => ("pagewire.asgi", target),
        Some(MountApplication::Wsgi(target)) => ("pagewire.wsgi", target),
        None => ("pagewire.wsgi", ""),
    };
    let python = match folder(&process.venv) {
        Some(venv) => venv.join("bin/python").to_string_lossy().into_owned(),
        None => "python3".to_owned(),
    };
    let threads = process.threads().to_string();
    let mut command = vec![python, "-m".to_owned(), module.to_owned(), target.to_owned()];
    command.extend(["--threads".to_owned(), threads]);
    if !process.app.is_empty() {
        command.extend(["--app".to_owned(), process.app.clone()]);
    }
    if !process.server.is_empty() {
        command.extend(["--server".to_owned(), process.server.clone()]);
    }
    command
}

/// Whether the processes of a mount load the register of Genropy sites.
fn loads_genropy_package(mount: &MountConfig) -> bool {
    mount.process.has_genropy_register() || mount.process.has_genropy_shadow()
}

/// Returns the folder of a virtualenv, if it is set. Its path does not depend on the working directory of a process.
fn folder(venv: &Path) -> Option<PathBuf> {
    let is_set = !venv.as_os_str().is_empty();
    is_set.then(|| std::path::absolute(venv).unwrap_or_else(|_| venv.to_owned()))
}

/// Returns the environment of the processes: that of the mount and, for an application in Python, the virtualenv and the
/// package before other modules.
fn environment(mount: &MountConfig, package: &Path) -> BTreeMap<String, String> {
    let process = &mount.process;
    let mut env = process.env.clone();
    if matches!(process.application(), Some(MountApplication::Program(_))) {
        return env;
    }
    let mut put_first = |name: &str, folder: &Path| {
        let rest = env.get(name).map(OsString::from).or_else(|| std::env::var_os(name));
        let rest = rest.filter(|rest| !rest.is_empty());
        let mut value = OsString::from(folder);
        if let Some(rest) = rest {
            value.push(":");
            value.push(rest);
        }
        env.insert(name.to_owned(), value.to_string_lossy().into_owned());
    };
    put_first("PYTHONPATH", package);
    if loads_genropy_package(mount) {
        put_first("PYTHONPATH", &genropy_package::folder(package));
    }
    if let Some(venv) = folder(&process.venv) {
        put_first("PATH", &venv.join("bin"));
        env.entry("VIRTUAL_ENV".to_owned()).or_insert_with(|| venv.to_string_lossy().into_owned());
    }
    if let Some(venv) = folder(&process.server_venv) {
        env.insert("PAGEWIRE_SERVER_VENV".to_owned(), venv.to_string_lossy().into_owned());
    }
    if process.has_genropy_shadow() {
        env.insert("PAGEWIRE_REGISTER".to_owned(), process.register.clone());
    }
    if mount.path != "/" {
        env.insert("PAGEWIRE_SCRIPT_NAME".to_owned(), mount.path.clone());
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_started_with_the_python_of_its_virtualenv_and_its_mount_point() {
        let mut mount = MountConfig { path: "/shop".to_owned(), ..MountConfig::default() };
        mount.process.wsgi = "shop.wsgi:application".to_owned();
        mount.process.venv = "/srv/venv".into();
        mount.process.app = "shop.pages:app".to_owned();
        mount.process.server = "granian".to_owned();
        mount.process.server_venv = "/opt/granian".into();
        mount.process.env.insert("PYTHONPATH".to_owned(), "/srv/lib".to_owned());
        let expected =
            ["/srv/venv/bin/python", "-m", "pagewire.wsgi", "shop.wsgi:application", "--threads", "8"];
        assert_eq!(
            command(&mount),
            [&expected[..], &["--app", "shop.pages:app", "--server", "granian"]].concat()
        );
        let env = environment(&mount, Path::new("/run/package"));
        assert_eq!(env["PYTHONPATH"], "/run/package:/srv/lib");
        assert_eq!(
            (env["VIRTUAL_ENV"].as_str(), env["PAGEWIRE_SCRIPT_NAME"].as_str()),
            ("/srv/venv", "/shop")
        );
        assert!(env["PATH"].starts_with("/srv/venv/bin"));
        mount.process.register = "genropy".to_owned();
        let env = environment(&mount, Path::new("/run/package"));
        assert_eq!(env["PYTHONPATH"], "/run/package/for-genropy:/run/package:/srv/lib");
        assert!(!env.contains_key("PAGEWIRE_REGISTER"));
        assert_eq!(env["PAGEWIRE_SERVER_VENV"], "/opt/granian");
        mount.process.register = "shadow:genropy".to_owned();
        let env = environment(&mount, Path::new("/run/package"));
        assert_eq!(env["PYTHONPATH"], "/run/package/for-genropy:/run/package:/srv/lib");
        assert_eq!(env["PAGEWIRE_REGISTER"], "shadow:genropy");
        assert!(!mount.process.has_genropy_register(), "sockets get no news of a shadow");
    }

    #[test]
    fn without_a_virtualenv_the_python_in_path_is_started() {
        let mut mount = MountConfig::default();
        mount.process.asgi = "api:app".to_owned();
        assert_eq!(command(&mount), ["python3", "-m", "pagewire.asgi", "api:app", "--threads", "256"]);
        assert!(!environment(&mount, Path::new("/p")).contains_key("PAGEWIRE_SCRIPT_NAME"));
    }
}
