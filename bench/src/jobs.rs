//! Measures durable jobs from a headless node to a worker, for any worker and assigned to users, beside a bare work
//! queue with and without three conditional puts, in turns on the same servers.

use std::io;
use std::time::Instant;

use pagewire_cluster::engine::{Bucket, Engine, Watch, WatchEvent, WatchMode};
use pagewire_cluster::job::{JobState, Record, lane_routes};
use pagewire_cluster::subject::{job_key, route};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::WorkerGroup;

use crate::cluster::{Cluster, WorkerProcess};
use crate::helper_process::HelperProcess;
use crate::helper_protocol::HelperRequest;
use crate::measure::cpu;
use crate::nats::Nats;
use crate::plan::Plan;
use crate::report::{Goal, Report, progress};
use crate::scratch::{PATIENCE, until_acknowledged};
use crate::{LANE, POOL, baseline_engine, payload};

/// Number of jobs of each variant before the first measurement.
const WARM_UP: u64 = 500;
/// Percent of the rate of a bare queue with three puts.
const GOAL: Goal = Goal::AtLeast(70.0);
/// Percent of the rate of jobs for any worker.
const ASSIGNED_GOAL: Goal = Goal::AtLeast(70.0);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of jobs in one run.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Number of concurrent submissions, and of the worker's slots.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// Number of users that the assigned jobs belong to, in turn.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Bytes of the argument, which is also the result.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(16..=60_000))]
    bytes: u64,
    /// Number of replicas: 1 on one NATS server, 3 on three.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3))]
    replicas: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long, conflicts_with = "replicas")]
    nats: Option<String>,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// One variant: its submitting process, its worker, and an engine that watches the queue between them.
struct Side {
    submitting: HelperProcess,
    working: u32,
    engine: Engine,
    route: String,
}

/// The processes of the measurement.
struct Fixture {
    jobs: Side,
    /// The rows of assigned jobs that have not ended.
    open: Watch,
    worker: WorkerProcess,
    bare: Side,
    _bare_worker: HelperProcess,
    payload: String,
    /// Declared last, so that it is dropped after its clients.
    nats: Nats,
}

/// Jobs per second, and the CPU time of each process.
struct Sample {
    rate: f64,
    submitting: f64,
    working: f64,
    nats: Option<f64>,
}

impl Sample {
    /// Returns the CPU time of all processes.
    fn cost(&self) -> f64 {
        self.submitting + self.working + self.nats.unwrap_or_default()
    }
}

/// The samples of one run.
struct Run {
    queue: Sample,
    puts: Sample,
    jobs: Sample,
    assigned: Sample,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let mut bed = Fixture::make(&options).await?;
    bed.measure(&options, WARM_UP.min(options.jobs)).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(bed.measure(&options, options.jobs).await?);
    }
    progress("");
    let jobs = WARM_UP.min(options.jobs) + options.jobs * options.runs as u64;
    // those for any worker and the assigned ones
    bed.check(2 * jobs).await?;
    bed.worker.stop().await?;
    Ok(report(&options, &runs))
}

impl Fixture {
    async fn make(options: &Options) -> io::Result<Self> {
        let nats = match options.replicas {
            1 => Nats::start(options.nats.as_deref()).await?,
            _ => Nats::cluster().await?,
        };
        let engine = async |cluster: &Cluster| {
            baseline_engine::engine(&nats.urls, nats.replicas, &cluster.name, Timing::PRODUCTION).await
        };
        let cluster = Cluster::new(Some(&nats));
        let mut submitting = HelperProcess::of(&cluster, "headless-node", None).await?;
        let worker = WorkerProcess::start(&cluster, POOL, options.in_flight, None)?;
        submitting.done(&HelperRequest::Meet { pages: 0, worker: true }).await?;
        let jobs = Side {
            submitting,
            working: worker.pid,
            engine: engine(&cluster).await?,
            route: lane_routes(&WorkerGroup::new(POOL, LANE)),
        };
        let cluster = Cluster::new(Some(&nats));
        let (submitting, working) =
            HelperProcess::pair(&cluster, "baseline-engine", options.in_flight, [None; 2]).await?;
        let bare = Side {
            submitting,
            working: working.pid(),
            engine: engine(&cluster).await?,
            route: route(POOL, baseline_engine::LANE),
        };
        let payload = payload(options.bytes);
        let open = job_key::open(POOL);
        let mut open =
            jobs.engine.kv(Bucket::Jobs).watch(&open, WatchMode::Meta).await.map_err(io::Error::other)?;
        while !matches!(open.next().await, None | Some(WatchEvent::Live)) {}
        Ok(Self { nats, jobs, open, worker, bare, _bare_worker: working, payload })
    }

    async fn measure(&mut self, options: &Options, jobs: u64) -> io::Result<Run> {
        let plan = Plan::together(jobs, options.in_flight);
        let submit = |users| HelperRequest::Submit { payload: self.payload.clone(), users, plan };
        Ok(Run {
            queue: self.bare.measure(&self.nats, &HelperRequest::WorkItem { plan }, jobs, None).await?,
            puts: self.bare.measure(&self.nats, &submit(0), jobs, None).await?,
            jobs: self.jobs.measure(&self.nats, &submit(0), jobs, None).await?,
            assigned: {
                let open = Some(&mut self.open);
                self.jobs.measure(&self.nats, &submit(options.users), jobs, open).await?
            },
        })
    }

    /// Checks that every record shows one execution of its job.
    async fn check(&self, jobs: u64) -> io::Result<()> {
        let records =
            self.jobs.engine.kv(Bucket::Jobs).list(job_key::JOBS).await.map_err(io::Error::other)?;
        let done = |record: &Record| record.state == JobState::Succeeded && record.attempts == 1;
        let done =
            records.iter().filter(|entry| Record::decode(&entry.value).is_some_and(|record| done(&record)));
        match done.count() as u64 {
            done if done == jobs => Ok(()),
            done => Err(io::Error::other(format!("{done} of {jobs} jobs were done at the first attempt"))),
        }
    }
}

impl Side {
    /// Measures from the first submission until the last work item is acknowledged or, with `open`, the last row of an
    /// assigned job is deleted.
    async fn measure(
        &mut self,
        nats: &Nats,
        request: &HelperRequest,
        jobs: u64,
        open: Option<&mut Watch>,
    ) -> io::Result<Sample> {
        let pids = [self.submitting.pid(), self.working];
        let used = || Ok::<_, io::Error>([Some(cpu(pids[0])?), Some(cpu(pids[1])?), nats.cpu()?]);
        let (before, started) = (used()?, Instant::now());
        self.submitting.took(request).await?;
        match open {
            Some(open) => deleted(open, jobs).await?,
            None => until_acknowledged(&self.engine, &self.route).await?,
        }
        let (seconds, after) = (started.elapsed().as_secs_f64(), used()?);
        let per_job = |part: usize| {
            let (before, after) = before[part].zip(after[part])?;
            Some(after.saturating_sub(before).as_secs_f64() * 1e6 / jobs as f64)
        };
        let [submitting, working] = [0, 1].map(|part| per_job(part).unwrap_or_default());
        Ok(Sample { rate: jobs as f64 / seconds, submitting, working, nats: per_job(2) })
    }
}

/// Waits until that many rows are deleted.
async fn deleted(open: &mut Watch, rows: u64) -> io::Result<()> {
    let mut left = rows;
    while left > 0 {
        let event = tokio::time::timeout(PATIENCE, open.next()).await.map_err(io::Error::other)?;
        match event {
            Some(WatchEvent::Delete { .. }) => left -= 1,
            Some(_) => {}
            None => return Err(io::Error::other("the watch of open jobs has ended")),
        }
    }
    Ok(())
}

/// Selects the sample of one variant.
type Part = fn(&Run) -> &Sample;

fn report(options: &Options, runs: &[Run]) -> Report {
    let servers = if options.replicas == 1 { "one NATS server" } else { "three NATS servers, replicas 3" };
    let mut report = Report::new(format!(
        "Jobs: {} with arguments of {} bytes, {} at the same time, on {servers}; assigned ones of {} users",
        options.jobs, options.bytes, options.in_flight, options.users
    ));
    let ways: [(&str, Part); 4] = [
        ("bare queue", |run| &run.queue),
        ("bare queue with three puts", |run| &run.puts),
        ("jobs", |run| &run.jobs),
        ("assigned jobs", |run| &run.assigned),
    ];
    for (name, way) in ways {
        let of = |part: fn(&Sample) -> f64| runs.iter().map(|run| part(way(run))).collect::<Vec<_>>();
        report.row(name, "jobs/s", &of(|way| way.rate));
        report.row(format!("{name}, CPU of the submitter"), "µs/job", &of(|way| way.submitting));
        report.row(format!("{name}, CPU of the worker"), "µs/job", &of(|way| way.working));
        let nats: Vec<_> = runs.iter().filter_map(|run| way(run).nats).collect();
        report.row(format!("{name}, CPU of NATS"), "µs/job", &nats);
    }
    let ratio = |part: fn(&Run) -> f64| runs.iter().map(|run| 100.0 * part(run)).collect::<Vec<_>>();
    let (rate, cost) =
        (ratio(|run| run.jobs.rate / run.puts.rate), ratio(|run| run.puts.cost() / run.jobs.cost()));
    report.goal("jobs : bare queue with three puts, rate", "%", &rate, GOAL);
    report.row("jobs : bare queue with three puts, per CPU second", "%", &cost);
    report.row("jobs : bare queue, rate", "%", &ratio(|run| run.jobs.rate / run.queue.rate));
    let assigned = ratio(|run| run.assigned.rate / run.jobs.rate);
    report.goal("assigned jobs : jobs, rate", "%", &assigned, ASSIGNED_GOAL);
    report.row(
        "assigned jobs : jobs, per CPU second",
        "%",
        &ratio(|run| run.jobs.cost() / run.assigned.cost()),
    );
    report
}
