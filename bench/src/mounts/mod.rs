//! Measures an application through a mount of a node, in turns with the application alone and with nginx in front of the
//! same socket.
//!
//! The application is a WSGI callable that computes for a while, served by gunicorn from a virtualenv at a Unix socket.
//! nginx is measured if it is in PATH.

pub(crate) mod connections;
pub(crate) mod files;
mod load;
pub(crate) mod reloads;
mod servers;

use std::io;
use std::time::Duration;

use self::load::{Address, Load, Measured, run as load};
use self::servers::{ApplicationOptions, Gunicorn, Nginx};
use crate::cluster::Cluster;
use crate::measure::cpu;
use crate::report::{Goal, Report, progress};
use crate::scratch::scratch_directory;
use crate::server::Node;

/// Microseconds that a mount may add to a request.
const ADDED_GOAL: Goal = Goal::AtMost(150.0);
/// Percent of the requests per second of the application alone.
const RATE_GOAL: Goal = Goal::AtLeast(90.0);
/// Percent of what nginx adds and uses.
const NGINX_GOAL: Goal = Goal::AtMost(120.0);
/// The path of the application's page.
const PATH: &str = "/page?id=1";
/// Requests before the first measurement.
const WARM_UP: u64 = 200;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    application: ApplicationOptions,
    /// Number of requests in one run.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Number of connections when requests are concurrent.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    connections: u64,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// One way to the application.
struct Way {
    name: &'static str,
    address: Address,
    /// The first process of the proxy; `None` without one.
    proxy: Option<u32>,
    alone: Vec<f64>,
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let directory = scratch_directory()?;
    let socket = directory.path().join("application.sock");
    let ApplicationOptions { python, work_us } = &options.application;
    let application = Gunicorn::start(python, *work_us, directory.path(), &socket).await?;
    let mount = format!("[[mount]]\nhttp = \"unix:{}\"\n", socket.display());
    let node = Node::with_file(&Cluster::new(None), &mount).await?;
    let nginx = Nginx::start(directory.path(), &socket).await?;
    let mut ways = vec![
        Way::new("application alone", Address::Unix(socket.clone()), None),
        Way::new("mount", Address::Tcp(node.address), Some(node.pid)),
    ];
    ways.extend(nginx.as_ref().map(|nginx| Way::new("nginx", Address::Tcp(nginx.address), Some(nginx.pid))));
    for way in &ways {
        load(&way.address, Load { requests: WARM_UP, connections: options.connections, path: PATH }).await?;
    }
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        for way in &mut ways {
            way.measure(&options).await?;
        }
    }
    progress("");
    drop((application, nginx));
    node.stop().await?;
    Ok(report(&options, &ways))
}

impl Way {
    fn new(name: &'static str, address: Address, proxy: Option<u32>) -> Self {
        Self { name, address, proxy, alone: Vec::new(), rate: Vec::new(), cpu: Vec::new() }
    }

    async fn measure(&mut self, options: &Options) -> io::Result<()> {
        let alone =
            load(&self.address, Load { requests: options.requests / 4, connections: 1, path: PATH }).await?;
        self.alone.push(alone.p50_us);
        let before = self.used()?;
        let together = Load { requests: options.requests, connections: options.connections, path: PATH };
        let Measured { rate, .. } = load(&self.address, together).await?;
        self.rate.push(rate);
        let used = self.used()?.saturating_sub(before);
        self.cpu.push(used.as_secs_f64() * 1e6 / options.requests as f64);
        Ok(())
    }

    fn used(&self) -> io::Result<Duration> {
        self.proxy.map_or(Ok(Duration::ZERO), cpu)
    }
}

/// Returns `of` for each pair of runs.
fn pairs(left: &[f64], right: &[f64], of: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    left.iter().zip(right).map(|(left, right)| of(*left, *right)).collect()
}

fn report(options: &Options, ways: &[Way]) -> Report {
    let title = format!(
        "Mounts: an application that computes {} µs, {} requests, {} at a time",
        options.application.work_us, options.requests, options.connections
    );
    let mut report = Report::new(title);
    let Some((direct, proxies)) = ways.split_first() else { return report };
    let percent = |left: f64, right: f64| 100.0 * left / right;
    let added = |way: &Way| pairs(&way.alone, &direct.alone, |through, alone| through - alone);
    report.row(format!("{}, p50 of one at a time", direct.name), "µs", &direct.alone);
    report.row(format!("{}, rate", direct.name), "requests/s", &direct.rate);
    for way in proxies {
        let is_ours = way.name == "mount";
        let rate = pairs(&way.rate, &direct.rate, percent);
        match is_ours {
            true => report.goal("mount, added to p50", "µs", &added(way), ADDED_GOAL),
            false => report.row(format!("{}, added to p50", way.name), "µs", &added(way)),
        }
        report.row(format!("{}, rate", way.name), "requests/s", &way.rate);
        match is_ours {
            true => report.goal("mount : application alone, rate", "%", &rate, RATE_GOAL),
            false => report.row(format!("{} : application alone, rate", way.name), "%", &rate),
        }
        report.row(format!("{}, CPU of the proxy", way.name), "µs/request", &way.cpu);
    }
    if let [mount, nginx, ..] = proxies {
        let latency = pairs(&added(mount), &added(nginx), percent);
        report.goal("mount : nginx, added latency", "%", &latency, NGINX_GOAL);
        report.goal("mount : nginx, CPU", "%", &pairs(&mount.cpu, &nginx.cpu, percent), NGINX_GOAL);
    }
    report
}
