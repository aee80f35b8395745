//! The child runtime alone, in this process: a pool with one child of the Python SDK.
//!
//! Owns: the pool and its calls. Never: nodes, HTTP or NATS. This process is also the guard of the child (`main`).

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::WorkerType;
use pagewire_worker::handlers::{HandlerInput, Handlers};
use pagewire_worker::runtime::child::options::{ChildOptions, FreeAffinity, RecycleLimits, ScaleLimits};
use pagewire_worker::runtime::child::pool::ChildPool;
use serde_json::value::RawValue;
use tempfile::TempDir;

use super::{Program, Style};
use crate::scratch::{PATIENCE, scratch_directory};

/// The application of each style, written into a file of a scratch directory.
const APPLICATION: &str = include_str!("sdk.py");

/// An application in a file.
pub(super) struct Application {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// Its environment.
    pub(super) env: BTreeMap<String, String>,
    _directory: TempDir,
}

/// A pool with a child that is ready.
pub(super) struct Supervised {
    pub(super) pid: u32,
    /// From the start of the pool until its child was ready.
    pub(super) started: Duration,
    handlers: Handlers,
    pool: ChildPool,
    _application: Application,
}

impl Application {
    /// Writes the application of a style.
    pub(super) fn write(program: &Program, style: Style) -> io::Result<Self> {
        let directory = scratch_directory()?;
        let file = directory.path().join("sdk.py");
        std::fs::write(&file, APPLICATION)?;
        let command = vec![program.python.clone(), file.display().to_string(), style.name().to_owned()];
        let env = BTreeMap::from([("PYTHONPATH".to_owned(), program.sdk.display().to_string())]);
        Ok(Self { command, env, _directory: directory })
    }
}

impl Supervised {
    /// Starts a pool with one child and waits until it is ready.
    pub(super) async fn start(program: &Program, style: Style, slots: u32) -> io::Result<Self> {
        let application = Application::write(program, style)?;
        let options = ChildOptions {
            pool: crate::POOL.to_owned(),
            lane: crate::LANE.to_owned(),
            release: String::new(),
            worker: String::new(),
            command: application.command.clone(),
            env: application.env.clone(),
            directory: None,
            children: vec![(WorkerType::Both, ScaleLimits::fixed(1))],
            slots,
            start: PATIENCE,
            recycle: RecycleLimits::default(),
            affinity: FreeAffinity::default(),
            methods: Vec::new(),
            http: None,
            program: None,
            needs: Vec::new(),
            applications: None,
        };
        let since = Instant::now();
        let pool = ChildPool::start(options, Timing::PRODUCTION)?;
        pool.settled().await;
        let (started, handlers) = (since.elapsed(), pool.handlers().borrow().clone());
        let status = pool.status();
        let (Some(handlers), Some(child)) = (handlers, status.children.first()) else {
            let reason = status.last_error.unwrap_or_default();
            return Err(io::Error::other(format!("the child is not ready: {reason}")));
        };
        Ok(Self { pid: child.pid, started, handlers, pool, _application: application })
    }

    /// Runs the handler `echo`.
    pub(super) async fn call(&self, params: &RawValue) -> io::Result<Box<RawValue>> {
        let result = self.handlers.run("echo", HandlerInput::call(params.to_owned())).await;
        result.map_err(|failure| io::Error::other(format!("{failure:?}")))
    }

    /// Ends the child.
    pub(super) async fn stop(&self) {
        self.pool.stop().await;
    }
}
