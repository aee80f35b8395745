//! Measures reloads of an application under requests at equal intervals, which are sent whether or not earlier ones have
//! their responses.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::load::{Address, one};
use super::servers::{ApplicationOptions, write_application};
use crate::cluster::Cluster;
use crate::report::{Goal, Report, Times, progress};
use crate::scratch::{scratch_directory, until};
use crate::server::Node;

/// Requests that failed.
const GOAL: Goal = Goal::AtMost(0.0);
/// Processes of the application.
const PROCESSES: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    application: ApplicationOptions,
    /// Requests per second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Number of reloads, one after the other.
    #[arg(long, default_value_t = 20)]
    reloads: usize,
}

/// What the requests of a measurement have come to.
#[derive(Default)]
struct Outcome {
    each_us: Vec<f64>,
    failures: Vec<String>,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let directory = scratch_directory()?;
    write_application(directory.path())?;
    // an interpreter of a virtualenv is at <virtualenv>/bin/python
    let ApplicationOptions { python, work_us } = &options.application;
    let venv = python.parent().and_then(|bin| bin.parent()).unwrap_or(python);
    let mount = format!(
        "[[mount]]\nwsgi = \"application:application\"\nserver = \"gunicorn\"\nprocesses = {PROCESSES}\n\
         venv = \"{}\"\ndirectory = \"{}\"\nenv = {{ BENCH_WORK_US = \"{}\" }}\n",
        venv.display(),
        directory.path().display(),
        work_us
    );
    let node = Node::with_file(&Cluster::new(None), &mount).await?;
    let mut processes = ready_after(&node, &[]).await?;
    let address = Address::Tcp(node.address);
    let (stop, outcome) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Outcome::default())));
    let reloading = async {
        let mut each_ms = Vec::new();
        for number in 1..=options.reloads {
            progress(&format!("reload {number} of {}", options.reloads));
            let began = Instant::now();
            reload(node.pid)?;
            processes = ready_after(&node, &processes).await?;
            each_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        stop.set(true);
        Ok::<_, io::Error>(each_ms)
    };
    let (each_ms, ()) = futures_util::try_join!(reloading, async {
        send(&address, options.rate, &stop, &outcome).await;
        Ok(())
    })?;
    progress("");
    node.stop().await?;
    Ok(report(&options, &each_ms, &mut outcome.borrow_mut()))
}

/// Asks the node to replace the processes of its mounts.
fn reload(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.ok_or(io::ErrorKind::NotFound)?, Signal::HUP)?)
}

/// Waits until all processes of the application are ready and none of them is in `before`, and returns them.
async fn ready_after(node: &Node, before: &[u64]) -> io::Result<Vec<u64>> {
    let found = RefCell::new(Vec::new());
    until("the application", async || {
        let pools: Value = node.get("/executors").await?;
        let children = pools["pools"][0]["children"].as_array().cloned().unwrap_or_default();
        let are_ready = children.iter().all(|child| child["state"] == "ready");
        let pids: Vec<u64> = children.iter().filter_map(|child| child["pid"].as_u64()).collect();
        let are_new = pids.len() == PROCESSES && pids.iter().all(|pid| !before.contains(pid));
        *found.borrow_mut() = pids;
        Ok(are_ready && are_new)
    })
    .await?;
    Ok(found.into_inner())
}

/// Sends requests at equal intervals until `stop`, and waits for their responses.
async fn send(address: &Address, rate: u64, stop: &Cell<bool>, outcome: &RefCell<Outcome>) {
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX));
    // a late request is sent at once, so that the rate is kept
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = FuturesUnordered::new();
    while !stop.get() || !running.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if !stop.get() => running.push(request(address, outcome)),
            Some(()) = running.next() => {}
        }
    }
}

async fn request(address: &Address, outcome: &RefCell<Outcome>) {
    let began = Instant::now();
    match one(address, "/").await {
        Ok(()) => outcome.borrow_mut().each_us.push(began.elapsed().as_secs_f64() * 1e6),
        Err(error) => outcome.borrow_mut().failures.push(error.to_string()),
    }
}

fn report(options: &Options, each_ms: &[f64], outcome: &mut Outcome) -> Report {
    let mut title = format!("Reloads: {} under {} requests/s", options.reloads, options.rate);
    if let Some(failure) = outcome.failures.first() {
        title.push_str(&format!("; the first failure: {failure}"));
    }
    let mut report = Report::new(title);
    let requests = outcome.each_us.len() + outcome.failures.len();
    let times = Times::of(std::mem::take(&mut outcome.each_us));
    report.row("requests", "", &[requests as f64]);
    report.goal("requests that failed", "", &[outcome.failures.len() as f64], GOAL);
    report.row("a reload", "ms", each_ms);
    report.row("response, p50", "µs", &[times.p50_us]);
    report.row("response, p99", "µs", &[times.p99_us]);
    report
}
