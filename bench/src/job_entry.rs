//! Measures durable jobs from their entry on, with `pagewire serve` and `pagewire worker` on one NATS server: those of
//! pages beside those of a program through the server API, in turns; and the time until a job of the API starts, at a
//! fixed rate.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{Bucket, Engine};
use pagewire_cluster::job::{JobState, Record, lane_routes};
use pagewire_cluster::subject::job_key;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::WorkerGroup;

use crate::clients::Clients;
use crate::cluster::{Cluster, WorkerProcess};
use crate::helper_protocol::{HelperRequest, Manner};
use crate::measure::cpu;
use crate::nats::Nats;
use crate::report::{Goal, Report, progress, quantile};
use crate::scratch::{until, until_acknowledged};
use crate::server::Node;
use crate::{LANE, POOL, baseline_engine, payload};

/// Number of jobs of each variant before the first measurement.
const WARM_UP: u64 = 500;
/// Jobs per second while the time until the start is measured.
const RATE: u64 = 500;
/// CPU time of a job of a page, in that of a job of the API.
const COST_GOAL: Goal = Goal::AtMost(1.3);
/// Milliseconds until half of the jobs have started.
const P50_GOAL: Goal = Goal::AtMost(3.0);
/// Milliseconds until 99 percent of the jobs have started.
const P99_GOAL: Goal = Goal::AtMost(20.0);
/// The measured processes, in the order of their CPU times.
const PROCESSES: [&str; 4] = ["node", "worker", "nats-server", "clients"];
/// The modes of the jobs at a fixed rate.
const MODES: [&str; 2] = ["any", "assigned"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of jobs of each variant in one run.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Number of concurrent jobs of all pages, of connections to the API, and of the worker's slots.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// Number of submitting pages, each of a user of its own. The API submits for the same users.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pages: u64,
    /// Number of jobs of each mode in one run at 500 per second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    paced: u64,
    /// Number of users that the jobs at 500 per second belong to, in turn.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Bytes of the argument, which is also the result.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=60_000))]
    bytes: u64,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// The processes of the measurement.
struct Fixture {
    node: Node,
    worker: WorkerProcess,
    clients: Clients,
    /// Reads the queue and, at the end, the records.
    engine: Engine,
    payload: String,
    /// Declared last, so that it is dropped after its clients.
    nats: Nats,
}

/// Jobs per second, and the CPU time of each process per job, in microseconds.
struct Sample {
    rate: f64,
    cpu: [f64; PROCESSES.len()],
}

impl Sample {
    /// Returns the CPU time of all processes.
    fn cost(&self) -> f64 {
        self.cpu.iter().sum()
    }

    /// Returns the CPU time of all processes of the server side.
    fn server_cost(&self) -> f64 {
        self.cpu[..PROCESSES.len() - 1].iter().sum()
    }
}

/// The samples of one run.
struct Run {
    api: Sample,
    pages: Sample,
    /// Accepted jobs per second of each mode at the fixed rate.
    accepted: [f64; MODES.len()],
}

/// The milliseconds from creation to start of jobs, by their arguments: each run and mode has an argument of its own.
type Waits = HashMap<String, Vec<f64>>;

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let mut bed = Fixture::make(&options).await?;
    let (warm_up, paced) = (WARM_UP.min(options.jobs), WARM_UP.min(options.paced));
    bed.measure(&options, 0, [warm_up, paced]).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(bed.measure(&options, number, [options.jobs, options.paced]).await?);
    }
    progress("");
    let each = warm_up + paced + (options.jobs + options.paced) * options.runs as u64;
    // through the API and by pages; any and assigned
    let waits = bed.waits(2 * each).await?;
    bed.worker.stop().await?;
    bed.node.stop().await?;
    Ok(report(&options, &bed.payload, &runs, &waits))
}

impl Fixture {
    async fn make(options: &Options) -> io::Result<Self> {
        let nats = Nats::start(None).await?;
        let cluster = Cluster::new(Some(&nats));
        let node = Node::join(&cluster, None).await?;
        let worker = WorkerProcess::start(&cluster, POOL, options.in_flight, None)?;
        node.sees_workers(1).await?;
        let tokens = node.tokens(0..options.pages)?;
        let clients = Clients::open(node.address, tokens, Manner::Prompt, None).await?;
        let engine =
            baseline_engine::engine(&nats.urls, nats.replicas, &cluster.name, Timing::PRODUCTION).await?;
        Ok(Self { node, worker, clients, engine, payload: payload(options.bytes), nats })
    }

    async fn measure(
        &mut self,
        options: &Options,
        number: usize,
        [jobs, paced]: [u64; 2],
    ) -> io::Result<Run> {
        let api = self.api(options, jobs).await?;
        let pages = self.pages(options, number, jobs).await?;
        let mut accepted = [0.0; MODES.len()];
        for (rate, mode) in accepted.iter_mut().zip(MODES) {
            let argument = argument(&self.payload, mode, number);
            let request = self.post(mode, &argument, paced, options.users, Some(RATE));
            self.clients.connect(self.node.address, options.in_flight).await?;
            *rate = paced as f64 / self.clients.post(&request).await?.0;
            self.any_ended().await?;
            self.assigned_ended().await?;
        }
        Ok(Run { api, pages, accepted })
    }

    /// Measures jobs through the API, from the first request until the last job has ended.
    async fn api(&mut self, options: &Options, jobs: u64) -> io::Result<Sample> {
        let request = self.post("any", &self.payload, jobs, options.pages, None);
        self.clients.connect(self.node.address, options.in_flight).await?;
        let (before, started) = (self.used()?, Instant::now());
        self.clients.post(&request).await?;
        self.any_ended().await?;
        self.sample(jobs, started, before)
    }

    /// Measures jobs of pages, from the first frame until each page has its results and the last job has ended.
    async fn pages(&mut self, options: &Options, number: usize, jobs: u64) -> io::Result<Sample> {
        let frame = format!(
            r#"{{"type":"job","id":"{number}-{{id}}","kind":"echo","pool":"{POOL}","exec_mode":"any","data":{}}}"#,
            self.payload
        );
        let (before, started) = (self.used()?, Instant::now());
        self.clients.send_requests(frame, jobs, options.in_flight).await?;
        self.any_ended().await?;
        self.sample(jobs, started, before)
    }

    fn post(&self, mode: &str, data: &str, times: u64, users: u64, rate: Option<u64>) -> HelperRequest {
        let body = format!(
            r#"{{"kind":"echo","pool":"{POOL}","exec_mode":"{mode}","user":"{{user}}","data":{data}}}"#
        );
        HelperRequest::Post {
            path: "/api/v1/jobs".to_owned(),
            body,
            api_key: self.node.api_key.clone(),
            times,
            users,
            rate,
        }
    }

    /// Waits until no work item waits for its acknowledgement, which follows the end of its job. A poll costs the
    /// measured processes least: it begins after the last submission, and no process pays for each job.
    async fn any_ended(&self) -> io::Result<()> {
        until_acknowledged(&self.engine, &lane_routes(&WorkerGroup::new(POOL, LANE))).await
    }

    /// Waits until no row of an assigned job is left.
    async fn assigned_ended(&self) -> io::Result<()> {
        let (rows, open) = (self.engine.kv(Bucket::Jobs), job_key::open(POOL));
        until("the end of the assigned jobs", async || {
            Ok(rows.list(&open).await.map_err(io::Error::other)?.is_empty())
        })
        .await
    }

    /// Returns the CPU time that each process has used so far.
    fn used(&self) -> io::Result<[Duration; PROCESSES.len()]> {
        let nats = self.nats.cpu()?.unwrap_or_default();
        Ok([cpu(self.node.pid)?, cpu(self.worker.pid)?, nats, cpu(self.clients.pid())?])
    }

    fn sample(&self, jobs: u64, started: Instant, before: [Duration; PROCESSES.len()]) -> io::Result<Sample> {
        let (seconds, mut cpu) = (started.elapsed().as_secs_f64(), [0.0; PROCESSES.len()]);
        for (part, (before, after)) in cpu.iter_mut().zip(before.into_iter().zip(self.used()?)) {
            *part = after.saturating_sub(before).as_secs_f64() * 1e6 / jobs as f64;
        }
        Ok(Sample { rate: jobs as f64 / seconds, cpu })
    }

    /// Reads all records and returns how long their jobs waited for their start.
    ///
    /// # Errors
    /// If a job has not succeeded at its first attempt.
    async fn waits(&self, jobs: u64) -> io::Result<Waits> {
        let records = self.engine.kv(Bucket::Jobs).list(job_key::JOBS).await.map_err(io::Error::other)?;
        let records: Vec<_> = records.iter().filter_map(|entry| Record::decode(&entry.value)).collect();
        let done = |record: &&Record| record.state == JobState::Succeeded && record.attempts == 1;
        let done = records.iter().filter(done).count() as u64;
        if done != jobs {
            return Err(io::Error::other(format!("{done} of {jobs} jobs were done at the first attempt")));
        }
        let mut waits = Waits::new();
        for record in records {
            let wait = record.started.unwrap_or(record.created).saturating_sub(record.created);
            waits.entry(record.data.get().to_owned()).or_default().push(wait as f64);
        }
        Ok(waits)
    }
}

/// Returns the argument of the jobs of one mode and run.
fn argument(payload: &str, mode: &str, number: usize) -> String {
    let rest = payload.strip_prefix('{').unwrap_or(payload);
    format!(r#"{{"run":"{mode} {number}",{rest}"#)
}

/// Selects the sample of one variant.
type Part = fn(&Run) -> &Sample;

fn report(options: &Options, payload: &str, runs: &[Run], waits: &Waits) -> Report {
    let mut report = Report::new(format!(
        "Jobs from their entry on: {} of {} users with arguments of {} bytes, {} at the same time; then {} of {} users \
         at {RATE}/s; on one NATS server",
        options.jobs, options.pages, options.bytes, options.in_flight, options.paced, options.users
    ));
    let of = |part: &dyn Fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    let ways: [(&str, Part); 2] = [("API", |run| &run.api), ("page", |run| &run.pages)];
    for (name, way) in ways {
        report.row(name, "jobs/s", &of(&|run| way(run).rate));
        for (part, process) in PROCESSES.iter().enumerate() {
            report.row(format!("{name}, CPU of {process}"), "µs/job", &of(&|run| way(run).cpu[part]));
        }
        report.row(format!("{name}, CPU of all processes"), "µs/job", &of(&|run| way(run).cost()));
    }
    let cost = of(&|run| run.pages.cost() / run.api.cost());
    report.goal("page : API, CPU of all processes", "times", &cost, COST_GOAL);
    let cost = of(&|run| run.pages.server_cost() / run.api.server_cost());
    report.row("page : API, CPU without the clients", "times", &cost);
    report.row("page : API, rate", "times", &of(&|run| run.pages.rate / run.api.rate));
    for (index, mode) in MODES.into_iter().enumerate() {
        report.row(format!("{mode}, at {RATE}/s, accepted"), "jobs/s", &of(&|run| run.accepted[index]));
        let waits = |percent| {
            let of_run = |number| waits.get(&argument(payload, mode, number)).cloned();
            let each = (1..=runs.len()).filter_map(of_run);
            each.map(|mut waits| quantile(&mut waits, percent)).collect::<Vec<_>>()
        };
        report.goal(format!("{mode}, at {RATE}/s, until it starts, p50"), "ms", &waits(50), P50_GOAL);
        report.goal(format!("{mode}, at {RATE}/s, until it starts, p99"), "ms", &waits(99), P99_GOAL);
    }
    report
}
