//! Measures files of a folder through a mount of a node, in turns with nginx in front of the same folder.

use std::io;
use std::path::Path;

use super::load::{Address, Load, Measured, run as load};
use super::pairs;
use super::servers::Nginx;
use crate::cluster::Cluster;
use crate::measure::cpu_with_ended_threads;
use crate::report::{Goal, Report, progress};
use crate::scratch::scratch_directory;
use crate::server::Node;

/// The sizes of the files, how many requests of each size one run has per thousand of the option, and the goal: percent
/// of the requests per CPU second of nginx.
const SIZES: [Size; 2] = [
    Size { name: "4 KB", path: "/small.bin", bytes: 4 * 1024, share: 1_000, goal: Goal::AtLeast(70.0) },
    Size { name: "1 MB", path: "/large.bin", bytes: 1024 * 1024, share: 50, goal: Goal::AtLeast(50.0) },
];

struct Size {
    name: &'static str,
    path: &'static str,
    bytes: usize,
    share: u64,
    goal: Goal,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of requests for the small file in one run; a twentieth of it for the large one.
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u64).range(20..))]
    requests: u64,
    /// Number of connections.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    connections: u64,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 7)]
    runs: usize,
}

/// One server of the folder.
struct Way {
    name: &'static str,
    address: Address,
    pid: u32,
    /// Per size, the requests per CPU second of each run.
    per_cpu: [Vec<f64>; SIZES.len()],
    rate: [Vec<f64>; SIZES.len()],
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let directory = scratch_directory()?;
    let folder = directory.path().join("files");
    write_files(&folder)?;
    let mount = format!("[[mount]]\nstatic = \"{}\"\n", folder.display());
    let node = Node::with_file(&Cluster::new(None), &mount).await?;
    let nginx = Nginx::with_folder(directory.path(), &folder).await?;
    let mut ways = vec![Way::new("mount", Address::Tcp(node.address), node.pid)];
    ways.extend(nginx.as_ref().map(|nginx| Way::new("nginx", Address::Tcp(nginx.address), nginx.pid)));
    for number in 0..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        for index in 0..SIZES.len() {
            for way in &mut ways {
                way.measure(index, &options).await?;
            }
        }
        if number == 0 {
            // the first run warms up
            ways.iter_mut().for_each(Way::forget);
        }
    }
    progress("");
    drop(nginx);
    node.stop().await?;
    Ok(report(&options, &ways))
}

/// Writes one file of each size. Its bytes are not text, so neither server compresses them.
fn write_files(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for size in &SIZES {
        let content: Vec<u8> = (0..size.bytes).map(|n| (n % 251) as u8).collect();
        std::fs::write(folder.join(size.path.trim_start_matches('/')), content)?;
    }
    Ok(())
}

impl Way {
    fn new(name: &'static str, address: Address, pid: u32) -> Self {
        Self { name, address, pid, per_cpu: Default::default(), rate: Default::default() }
    }

    async fn measure(&mut self, index: usize, options: &Options) -> io::Result<()> {
        let size = &SIZES[index];
        let requests = (options.requests * size.share / 1_000).max(1);
        let before = cpu_with_ended_threads(self.pid)?;
        let all = Load { requests, connections: options.connections, path: size.path };
        let Measured { rate, .. } = load(&self.address, all).await?;
        let used = cpu_with_ended_threads(self.pid)?.saturating_sub(before);
        self.rate[index].push(rate);
        // at least one tick
        self.per_cpu[index].push(requests as f64 / used.as_secs_f64().max(0.01));
        Ok(())
    }

    fn forget(&mut self) {
        self.rate = Default::default();
        self.per_cpu = Default::default();
    }
}

fn report(options: &Options, ways: &[Way]) -> Report {
    let title = format!("Files: {} requests, {} at a time", options.requests, options.connections);
    let mut report = Report::new(title);
    for (index, size) in SIZES.iter().enumerate() {
        for way in ways {
            report.row(format!("{}, {}", size.name, way.name), "requests/CPU second", &way.per_cpu[index]);
            report.row(format!("{}, {}, rate", size.name, way.name), "requests/s", &way.rate[index]);
        }
        if let [mount, nginx] = ways {
            let ratio =
                pairs(&mount.per_cpu[index], &nginx.per_cpu[index], |mount, nginx| 100.0 * mount / nginx);
            report.goal(format!("{}, mount : nginx", size.name), "%", &ratio, size.goal);
        }
    }
    report
}
