//! Measures the cost of durability: writes into a data directory, beside bare appends to a file in the same place.
//!
//! Owns: a directory of its own below the given one, which it removes. The limit is a program that appends the same
//! bytes to one file and syncs the disk after each append.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{BatchOp, Bucket, Engine, Kv, MAX_COMMIT, Memory, Precondition, Put};
use pagewire_cluster::timing::Timing;
use tokio::task::JoinSet;

use crate::report::{Report, progress};

/// Number of rows that each writer writes in turn.
const KEYS: u64 = 100;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Directory to write to; an in-memory file system never waits for a disk.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Bytes of each value.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65536))]
    bytes: u64,
    /// Number of concurrent writers, measured beside a single one.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    writers: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Number of rows in the directory when a start is measured.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Number of runs.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Writes per second of each run.
#[derive(Default)]
struct Rates {
    bare: Vec<f64>,
    alone: Vec<f64>,
    together: Vec<f64>,
    /// Seconds until a start has finished.
    start: Vec<f64>,
}

/// A directory that is removed when this value is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // a directory that cannot be removed remains; its name has the process id
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let scratch = Scratch(options.directory.join(format!("pagewire-bench-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let mut rates = Rates::default();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        measure(&options, &scratch.0.join(number.to_string()), &mut rates).await?;
    }
    progress("");
    Ok(report(&options, &rates))
}

async fn measure(options: &Options, directory: &Path, rates: &mut Rates) -> io::Result<()> {
    let duration = Duration::from_secs(options.seconds);
    fs::create_dir_all(directory)?;
    let (file, value) = (directory.join("bare"), vec![7; options.bytes as usize]);
    let bare = {
        let value = value.clone();
        tokio::task::spawn_blocking(move || append(&file, &value, duration))
            .await
            .map_err(io::Error::other)??
    };
    rates.bare.push(bare);
    let data = directory.join("data");
    let kv = open(&data).await?;
    rates.alone.push(write(&kv, &value, 1, duration).await?);
    rates.together.push(write(&kv, &value, options.writers, duration).await?);
    fill(&kv, &value, options.rows).await?;
    drop(kv);
    let started = Instant::now();
    open(&data).await?;
    rates.start.push(started.elapsed().as_secs_f64());
    fs::remove_dir_all(directory)
}

/// Appends to a file and syncs the disk after each append.
fn append(path: &Path, value: &[u8], duration: Duration) -> io::Result<f64> {
    let mut file = File::create_new(path)?;
    let (started, mut count) = (Instant::now(), 0.0);
    while started.elapsed() < duration {
        file.write_all(value)?;
        file.sync_data()?;
        count += 1.0;
    }
    Ok(count / started.elapsed().as_secs_f64())
}

async fn open(directory: &Path) -> io::Result<Kv> {
    let (memory, _) = Memory::open(directory, &Timing::PRODUCTION).await.map_err(io::Error::other)?;
    Ok(Engine::Memory(memory).kv(Bucket::State))
}

/// Runs concurrent writers; each waits for the reply before it writes again.
async fn write(kv: &Kv, value: &[u8], writers: u64, duration: Duration) -> io::Result<f64> {
    let started = Instant::now();
    let mut writing = JoinSet::new();
    for writer in 0..writers {
        let (kv, value) = (kv.clone(), value.to_vec());
        writing.spawn(async move {
            let mut count = 0.0;
            for number in 0.. {
                if started.elapsed() >= duration {
                    break;
                }
                let key = format!("w{writer}.{}", number % KEYS);
                kv.put(Put::new(key, value.clone(), Precondition::Any)).await.map_err(io::Error::other)?;
                count += 1.0;
            }
            Ok::<f64, io::Error>(count)
        });
    }
    let mut count = 0.0;
    while let Some(written) = writing.join_next().await {
        count += written.map_err(io::Error::other)??;
    }
    Ok(count / started.elapsed().as_secs_f64())
}

async fn fill(kv: &Kv, value: &[u8], rows: u64) -> io::Result<()> {
    let numbers: Vec<_> = (0..rows).collect();
    for numbers in numbers.chunks(MAX_COMMIT) {
        let put = |number| BatchOp::Put(Put::new(format!("row.{number}"), value.to_vec(), Precondition::Any));
        kv.commit(numbers.iter().map(put).collect()).await.map_err(io::Error::other)?;
    }
    Ok(())
}

fn report(options: &Options, rates: &Rates) -> Report {
    let mut report =
        Report::new(format!("Disk: values of {} bytes, each acknowledged when it is on disk", options.bytes));
    let share = |of: &[f64]| -> Vec<f64> {
        of.iter().zip(&rates.bare).map(|(rate, bare)| 100.0 * rate / bare).collect()
    };
    report.row("bare appends, one after the other", "writes/s", &rates.bare);
    report.row("kept, one writer", "writes/s", &rates.alone);
    report.row(format!("kept, {} writers", options.writers), "writes/s", &rates.together);
    report.row("kept, one writer : bare", "%", &share(&rates.alone));
    report.row(format!("kept, {} writers : bare", options.writers), "%", &share(&rates.together));
    report.row(format!("start with {} rows", options.rows), "s", &rates.start);
    report
}
