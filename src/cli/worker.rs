//! `pagewire worker`: a process that runs handlers for the nodes of a cluster.

use std::net::SocketAddr;

use clap::Args;
use pagewire_cluster::rollout::is_name;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::WorkerType;
use pagewire_worker::demo::{demo_handlers, failing_handlers};
use pagewire_worker::handlers::Handlers;
use pagewire_worker::slots::SlotOptions;

use super::config::ConfigFile;
use super::serve::until_signalled;
use super::{CommandFailure, Exit, Program};
use crate::calls::DEFAULT_POOL;
use crate::config::{Config, PoolConfig, parse_address};
use crate::roles::{self, OwnHandlers};
use crate::telemetry;

/// The default number of slots.
const SLOTS: u32 = 16;
/// If set to 1, every demo handler fails, to try out the effect of a bad release.
const DEMO_FAIL: &str = "PAGEWIRE_DEMO_FAIL";

/// Arguments of `worker`. Those that a node's configuration has too can also be set there and in the environment.
#[derive(Args)]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// NATS servers, separated by commas.
    #[arg(long, value_name = "URLS")]
    nats: Option<String>,
    /// Name of the cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Pool whose work it runs.
    #[arg(long, default_value = DEFAULT_POOL, value_parser = name)]
    pool: String,
    /// Lane of the pool.
    #[arg(long)]
    lane: Option<String>,
    /// Release that it runs.
    #[arg(long)]
    release: Option<String>,
    /// The most calls and jobs that it runs at the same time, in each child of a program. Default: 16, or 8 in each child.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    slots: Option<u32>,
    /// Child processes of a program. Default: one for each processor.
    #[arg(long, requires = "program", value_parser = clap::value_parser!(u32).range(1..=1024))]
    children: Option<u32>,
    /// How many percent of the slots jobs cannot take, so that calls are served beside long jobs.
    #[arg(long, value_name = "PERCENT", default_value_t = SlotOptions::CALL_RESERVE_PERCENT,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    call_reserve: u8,
    /// Address of its probes and metrics (/livez, /readyz, /metrics); with port 0 the system chooses a port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = parse_address)]
    listen: SocketAddr,
    /// Name of the worker, for `[[executors.worker]]` and the list of workers. Default: host name and process id.
    #[arg(long)]
    name: Option<String>,
    /// The work that it takes: free (work for any worker), assigned (work of the users that are assigned to it) or both.
    #[arg(long = "type", value_name = "TYPE", default_value_t = WorkerType::Both, value_parser = worker_type)]
    kind: WorkerType,
    /// Serve only these of its handlers, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Option<Vec<String>>,
    /// Register the demo handlers: echo, sum, time, sleep, fail, hash and remember.
    #[arg(long, conflicts_with = "program")]
    demo: bool,
    /// Program whose handlers run in child processes of the worker, with its arguments. Without one, the pools of the
    /// configuration file run.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

fn name(text: &str) -> Result<String, &'static str> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("a name has letters, digits, -, _ and .") }
}

fn worker_type(text: &str) -> Result<WorkerType, String> {
    let types = [WorkerType::Free, WorkerType::Assigned, WorkerType::Both];
    types
        .into_iter()
        .find(|kind| kind.text() == text)
        .ok_or_else(|| "a type is free, assigned or both".to_owned())
}

impl WorkerArgs {
    /// Runs until a signal stops it. The first signal lets running work finish, a second one stops at once.
    pub(super) fn run(self, program: &Program) -> Result<(), CommandFailure> {
        let mut config = self.config.load_of(program, self.flags())?;
        // dropped at the end, when the spans of the drain are complete
        let _export = telemetry::init(&config, "worker").map_err(|error| Exit::Usage.with_message(error))?;
        if config.nats.urls.is_empty() {
            let message = "a worker needs the NATS servers of its cluster: --nats, PAGEWIRE_NATS__URLS or \
                           [nats] urls. A node without NATS runs handlers itself";
            return Err(Exit::Usage.with_message(message));
        }
        if !is_name(&config.node.lane) {
            return Err(Exit::Usage.with_message("the name of a lane has letters, digits, -, _ and ."));
        }
        if !self.program.is_empty() {
            config.pool = vec![self.pool_of_program()];
        }
        let handlers = self.handlers(&config, &program.own.handlers)?;
        let slots =
            SlotOptions { count: self.slots.unwrap_or(SLOTS), call_reserve_percent: self.call_reserve };
        let own = OwnHandlers { pool: self.pool, slots, kind: self.kind, handlers };
        let listen = self.listen;
        until_signalled(|stop| roles::run_worker(config, own, listen, Timing::from_environment(), stop))
    }

    fn pool_of_program(&self) -> PoolConfig {
        let methods = self.methods.clone().unwrap_or_default();
        let mut pool = PoolConfig::of_program(&self.pool, self.program.clone(), methods, self.slots);
        let children = self.children.unwrap_or_else(|| pool.free());
        match self.kind {
            WorkerType::Both => pool.shared = Some(children),
            WorkerType::Free => pool.set_children(children, 0),
            WorkerType::Assigned => pool.set_children(0, children),
        }
        pool
    }

    /// Returns the handlers of this binary that the worker serves.
    fn handlers(&self, config: &Config, own: &Handlers) -> Result<Handlers, CommandFailure> {
        let handlers = demo(config.demo).with(own);
        if !config.pool.is_empty() {
            return Ok(handlers);
        }
        if handlers.is_empty() {
            let message = "this worker has no handlers: name a program after --, or [[pool]] in the configuration file; \
                           --demo, PAGEWIRE_DEMO=true or demo = true registers the demo handlers";
            return Err(Exit::Usage.with_message(message));
        }
        match &self.methods {
            Some(methods) => handlers.only(methods).map_err(|unknown| {
                let known: Vec<&str> = handlers.names().collect();
                let message = format!("this worker has no handler {unknown}; it has {}", known.join(", "));
                Exit::Usage.with_message(message)
            }),
            None => Ok(handlers),
        }
    }

    fn flags(&self) -> Vec<(&'static str, String)> {
        let flags = [
            ("nats.urls", self.nats.clone()),
            ("cluster", self.cluster.clone()),
            ("node.lane", self.lane.clone()),
            ("node.release", self.release.clone()),
            ("node.name", self.name.clone()),
            ("demo", self.demo.then(|| "true".to_owned())),
        ];
        flags.into_iter().filter_map(|(key, text)| Some((key, text?))).collect()
    }
}

fn demo(demo: bool) -> Handlers {
    let failing = std::env::var(DEMO_FAIL).is_ok_and(|value| value == "1");
    match (demo, failing) {
        (false, _) => Handlers::default(),
        (true, false) => demo_handlers(),
        (true, true) => {
            tracing::warn!("{DEMO_FAIL} is set: every demo handler fails");
            failing_handlers()
        }
    }
}
