//! Measures which users move when workers come and go, and how long their calls have to wait.
//!
//! A node and workers on one NATS server; each worker runs a Python child whose handler names the worker, so every answer
//! shows where a user is. A call of each user in turn, some at the same time, follows the users until all are served.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::POOL;
use crate::children::Program;
use crate::cluster::{Cluster, WorkerProcess};
use crate::nats::Nats;
use crate::report::{Goal, Report, progress};
use crate::scratch::{PATIENCE, scratch_directory};
use crate::server::Node;
use crate::view::user;

/// The application of the workers, written into a file of a scratch directory.
const APPLICATION: &str = r#"
import os
from pagewire import App

app = App(threads=1, slots=64)


@app.handler
def where(ctx):
    return int(os.environ["BENCH_WORKER"])


app.run()
"#;
/// Time-out of a call, after which its caller calls again: a worker that is killed answers no call that it has received.
const CALL_MS: u64 = 1_000;
/// Pause after a round with a call that failed.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
/// Calls at the same time.
const IN_FLIGHT: usize = 32;
/// Milliseconds until all users of a drained worker are served elsewhere.
const DRAIN_GOAL: Goal = Goal::AtMost(200.0);
/// The same after `kill -9`.
const KILL_GOAL: Goal = Goal::AtMost(6_000.0);
/// Users and calls that no change may cost.
const NONE: Goal = Goal::AtMost(0.0);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of users.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    users: u64,
    /// Number of workers before one is added.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=16))]
    workers: u64,
    /// The Python interpreter.
    #[arg(long, default_value = "python3")]
    python: String,
    /// The folder with the package `pagewire`; without it, that of the source of this program.
    #[arg(long)]
    sdk: Option<PathBuf>,
    /// Number of runs.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// Where each user is served.
type Homes = BTreeMap<u64, u64>;

/// What one change of the workers has cost.
#[derive(Default)]
struct Change {
    /// Users who are served by another worker than before.
    moved: f64,
    /// Those of them who were neither at a worker that has gone nor are at a new one.
    needless: f64,
    /// From the change until the last user was served by a worker that stays, in milliseconds.
    served_ms: f64,
    /// The slowest call that succeeded, in milliseconds.
    slowest_ms: f64,
    failed: f64,
}

struct Run {
    added: Change,
    drained: Change,
    killed: Change,
}

struct Fixture {
    node: Node,
    cluster: Cluster,
    program: Program,
    file: PathBuf,
    users: u64,
    /// Number of workers that have been started.
    started: u64,
    workers: BTreeMap<u64, WorkerProcess>,
    _directory: tempfile::TempDir,
    /// Declared last, so that it is dropped after its clients.
    _nats: Nats,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let nats = Nats::start(None).await?;
    let cluster = Cluster::new(Some(&nats));
    // calls that fail are counted here
    let node = Node::with(&cluster, None, &[("PAGEWIRE_LOG", "error")]).await?;
    let directory = scratch_directory()?;
    let file = directory.path().join("where.py");
    std::fs::write(&file, APPLICATION)?;
    let mut bed = Fixture {
        node,
        cluster,
        program: Program::new(&options.python, options.sdk.clone()),
        file,
        users: options.users,
        started: 0,
        workers: BTreeMap::new(),
        _directory: directory,
        _nats: nats,
    };
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        while (bed.workers.len() as u64) < options.workers {
            bed.add().await?;
        }
        runs.push(bed.measure().await?);
    }
    progress("");
    for worker in std::mem::take(&mut bed.workers).into_values() {
        worker.stop().await?;
    }
    bed.node.stop().await?;
    Ok(report(&options, &runs))
}

impl Fixture {
    async fn measure(&mut self) -> io::Result<Run> {
        let before = self.settled().await?;
        let added = self.add().await?;
        let after = self.settled().await?;
        let added = Change::between(&before, &after, |_, home| home == added);
        let (before, gone) = (after, added_worker(&self.workers)?);
        let drained = self.leave(&before, gone, true).await?;
        let before = self.settled().await?;
        let gone = added_worker(&self.workers)?;
        let killed = self.leave(&before, gone, false).await?;
        Ok(Run { added, drained, killed })
    }

    /// Starts a worker and waits until the node knows it. Returns its number.
    async fn add(&mut self) -> io::Result<u64> {
        self.started += 1;
        let number = self.started;
        let mut command =
            self.cluster.pagewire(&["worker", "--pool", POOL, "--children", "1", "--slots", "64"])?;
        command.env("PYTHONPATH", &self.program.sdk).env("BENCH_WORKER", number.to_string());
        let program = [self.program.python.as_str(), &self.file.to_string_lossy()];
        let worker = WorkerProcess::spawn(command, &program, None)?;
        self.workers.insert(number, worker);
        self.node.sees_workers(self.workers.len() as u64).await?;
        Ok(number)
    }

    /// Calls for each user until two rounds agree.
    async fn settled(&self) -> io::Result<Homes> {
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let homes: Homes = self.round(0..self.users).await.into_iter().filter_map(Answer::home).collect();
            if homes.len() as u64 == self.users && last.as_ref() == Some(&homes) {
                return Ok(homes);
            }
            last = Some(homes);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the users do not stay where they are"))
    }

    /// Calls once for each of these users.
    async fn round(&self, users: impl IntoIterator<Item = u64>) -> Vec<Answer> {
        let call = |number| async move {
            let body = json!({
                "method": "where",
                "pool": POOL,
                "exec_mode": "assigned",
                "user": user(number),
                "timeout_ms": CALL_MS,
            });
            let sent = Instant::now();
            let answer = self.node.post::<Value>("/calls", &body).await;
            Answer { number, home: answer.ok().and_then(|home| home.as_u64()), sent, at: Instant::now() }
        };
        stream::iter(users).map(call).buffer_unordered(IN_FLIGHT).collect().await
    }

    /// Drains or kills a worker and follows its users until each is served elsewhere.
    async fn leave(&mut self, before: &Homes, gone: u64, drains: bool) -> io::Result<Change> {
        let Some(mut worker) = self.workers.remove(&gone) else { return Err(io::Error::other("no worker")) };
        worker.count().await?;
        let id = self.id_of(worker.pid).await?;
        let mut waiting: Vec<u64> =
            before.iter().filter(|(_, home)| **home == gone).map(|(user, _)| *user).collect();
        let began = Instant::now();
        if drains {
            self.node.post::<Value>(&format!("/workers/{id}/drain"), &json!({})).await?;
        } else {
            worker.kill().await?;
        }
        let mut change = Change::default();
        while !waiting.is_empty() && began.elapsed() < PATIENCE {
            let answers = self.round(waiting.clone()).await;
            let failed = change.failed;
            for Answer { number, home, sent, at } in answers {
                match home {
                    None => change.failed += 1.0,
                    Some(home) => {
                        change.slowest_ms = change.slowest_ms.max((at - sent).as_secs_f64() * 1e3);
                        if home != gone {
                            change.served_ms = change.served_ms.max((at - began).as_secs_f64() * 1e3);
                            waiting.retain(|other| *other != number);
                        }
                    }
                }
            }
            if change.failed > failed {
                // a refusal comes at once
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
        if !waiting.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "users were not served elsewhere"));
        }
        self.node.sees_workers(self.workers.len() as u64).await?;
        drop(worker);
        let after = self.settled().await?;
        let moves = Change::between(before, &after, |home, _| home == gone);
        Ok(Change { moved: moves.moved, needless: moves.needless, ..change })
    }

    async fn id_of(&self, pid: u32) -> io::Result<String> {
        let list: Value = self.node.get("/workers").await?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let id = items.iter().find(|item| item["process"] == pid).and_then(|item| item["worker"].as_str());
        id.map(str::to_owned).ok_or_else(|| io::Error::other("the node does not know the worker"))
    }
}

/// The response of one call.
struct Answer {
    number: u64,
    home: Option<u64>,
    sent: Instant,
    at: Instant,
}

impl Answer {
    fn home(self) -> Option<(u64, u64)> {
        Some((self.number, self.home?))
    }
}

/// Returns the worker that was started last.
fn added_worker(workers: &BTreeMap<u64, WorkerProcess>) -> io::Result<u64> {
    workers.keys().next_back().copied().ok_or_else(|| io::Error::other("no worker"))
}

impl Change {
    /// Compares where the users were and are. `needed` says whether a user had to move, by both workers.
    fn between(before: &Homes, after: &Homes, needed: impl Fn(u64, u64) -> bool) -> Self {
        let moves = before.iter().filter_map(|(user, home)| Some((*home, *after.get(user)?)));
        let moves: Vec<_> = moves.filter(|(old, new)| old != new).collect();
        let needless = moves.iter().filter(|(old, new)| !needed(*old, *new)).count();
        Self { moved: moves.len() as f64, needless: needless as f64, ..Self::default() }
    }
}

fn report(options: &Options, runs: &[Run]) -> Report {
    let mut report = Report::new(format!(
        "Users and their workers: {} users, {} workers and another one, {IN_FLIGHT} calls at the same time",
        options.users, options.workers
    ));
    let of = |part: &dyn Fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    let ideal = options.users as f64 / (options.workers + 1) as f64;
    report.row("a worker is added: users that move", "users", &of(&|run| run.added.moved));
    report.row("an equal share of the users", "users", &[ideal]);
    report.goal("a worker is added: moves to another one", "users", &of(&|run| run.added.needless), NONE);
    type ChangeOf = fn(&Run) -> &Change;
    let ways: [(&str, ChangeOf, Goal); 2] = [
        ("a worker is drained", |run| &run.drained, DRAIN_GOAL),
        ("a worker is killed", |run| &run.killed, KILL_GOAL),
    ];
    for (name, way, goal) in ways {
        report.row(format!("{name}: users that move"), "users", &of(&|run| way(run).moved));
        report.goal(format!("{name}: moves of others"), "users", &of(&|run| way(run).needless), NONE);
        report.goal(format!("{name}: all are served"), "ms", &of(&|run| way(run).served_ms), goal);
        report.row(format!("{name}: slowest call"), "ms", &of(&|run| way(run).slowest_ms));
    }
    report.goal("a worker is drained: failed calls", "calls", &of(&|run| run.drained.failed), NONE);
    report.row("a worker is killed: failed calls", "calls", &of(&|run| run.killed.failed));
    report
}
