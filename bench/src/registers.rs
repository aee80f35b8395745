//! Measures registers: the items of one request, and a table event for many pages.
//!
//! Owns: two processes' worth of registers in this process, each with a connection of its own. Never: the child wire, which
//! `children` measures.

use std::io;
use std::time::Instant;

use futures_util::future::try_join_all;
use pagewire_cluster::register::{
    Creation, Fields, ItemEdit, ItemKey, ItemLevel, Publication, Register, RegisterError, RegisterName,
    Registers,
};
use pagewire_cluster::timing::Timing;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::baseline_engine;
use crate::cluster::random;
use crate::nats::Nats;
use crate::report::{Goal, Report, Times, progress};

/// Milliseconds for the items of a request.
const READ_GOAL: Goal = Goal::AtMost(1.0);
/// Milliseconds until the last page has the event, of 99 in 100 events.
const EVENT_GOAL: Goal = Goal::AtMost(50.0);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of requests in one run.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Number of pages that follow the table.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pages: u64,
    /// Number of events in one run.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Size of the data of each item, in bytes.
    #[arg(long, default_value_t = 4_000)]
    bytes: usize,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Number of runs.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Milliseconds.
#[derive(Default)]
struct Samples {
    read: Vec<f64>,
    read_late: Vec<f64>,
    write: Vec<f64>,
    event: Vec<f64>,
    event_late: Vec<f64>,
}

pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let nats = Nats::start(options.nats.as_deref()).await?;
    let name = format!("bench-{}", &random()[..8]);
    let open = async || {
        let engine = baseline_engine::engine(&nats.urls, nats.replicas, &name, Timing::PRODUCTION).await?;
        Registers::new(&engine).open(RegisterName::new("bench").map_err(failed)?).await.map_err(failed)
    };
    let (writer, reader) = (open().await?, open().await?);
    let items = fill(&options, &writer).await?;
    let mut samples = Samples::default();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        requests(&options, &reader, &items, &mut samples).await?;
        events(&options, &writer, &reader, &mut samples).await?;
    }
    progress("");
    Ok(report(&options, &samples))
}

fn failed(error: RegisterError) -> io::Error {
    io::Error::other(error)
}

fn key(level: ItemLevel, id: &str) -> io::Result<ItemKey> {
    ItemKey::new(level, id).map_err(failed)
}

fn page(number: u64) -> io::Result<ItemKey> {
    key(ItemLevel::Page, &format!("page-{number}"))
}

/// Writes the items of one request, and the pages that follow the table. Returns the former.
async fn fill(options: &Options, writer: &Register) -> io::Result<Vec<ItemKey>> {
    let items = vec![
        key(ItemLevel::Global, "")?,
        key(ItemLevel::User, "ann")?,
        key(ItemLevel::Connection, "browser")?,
        key(ItemLevel::Page, "page")?,
    ];
    let data = to_raw_value(&"x".repeat(options.bytes))?;
    for item in &items {
        let edit = ItemEdit {
            create: Some(Creation::New),
            data: [("data".to_owned(), data.clone())].into(),
            ..ItemEdit::default()
        };
        writer.write(item, &edit).await.map_err(failed)?;
    }
    for number in 0..options.pages {
        let fields = Fields::from_iter([("connection".to_owned(), json!("browser"))]);
        let tables = [("orders".to_owned(), true)].into();
        let edit = ItemEdit { create: Some(Creation::New), fields, tables, ..ItemEdit::default() };
        writer.write(&page(number)?, &edit).await.map_err(failed)?;
    }
    Ok(items)
}

/// Reads the items of a request, and writes one of them, one request at a time.
async fn requests(
    options: &Options,
    register: &Register,
    items: &[ItemKey],
    samples: &mut Samples,
) -> io::Result<()> {
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for number in 0..options.requests {
        let started = Instant::now();
        try_join_all(items.iter().map(|item| register.read(item))).await.map_err(failed)?;
        reads.push(milliseconds(started));
        let data = [("turn".to_owned(), to_raw_value(&number)?)].into();
        let started = Instant::now();
        register.write(&items[3], &ItemEdit { data, ..ItemEdit::default() }).await.map_err(failed)?;
        writes.push(milliseconds(started));
    }
    let reads = Times::of(reads);
    samples.read.push(reads.p50_us);
    samples.read_late.push(reads.p99_us);
    samples.write.push(Times::of(writes).p50_us);
    Ok(())
}

/// Publishes events in one process, each of which all pages take in the other one.
async fn events(
    options: &Options,
    writer: &Register,
    reader: &Register,
    samples: &mut Samples,
) -> io::Result<()> {
    let pages = (0..options.pages).map(page).collect::<io::Result<Vec<_>>>()?;
    let mut each = Vec::new();
    for number in 0..options.events {
        let to = serde_json::from_value(json!({ "table": "orders" }))?;
        let changes = vec![to_raw_value(&json!({ "pkey": number, "event": "U" }))?];
        let event = Publication { to, changes, origin: None, reason: None };
        let started = Instant::now();
        let (position, _) = writer.publish(&[event]).await.map_err(failed)?;
        reader.reach(position).await;
        let taken = try_join_all(pages.iter().map(|page| reader.take(page, false))).await.map_err(failed)?;
        each.push(milliseconds(started));
        if taken.iter().any(|taken| taken.entries.len() != 1) {
            return Err(io::Error::other("a page has not taken the event once"));
        }
    }
    let each = Times::of(each);
    samples.event.push(each.p50_us);
    samples.event_late.push(each.p99_us);
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn report(options: &Options, samples: &Samples) -> Report {
    let mut report = Report::new(format!(
        "Registers: the four items of a request, {} bytes each; a table event for {} pages of another process",
        options.bytes, options.pages
    ));
    report.goal("items of a request, read at once, p50", "ms", &samples.read, READ_GOAL);
    report.row("  p99", "ms", &samples.read_late);
    report.row("one of them written, p50", "ms", &samples.write);
    report.row("an event, until all pages have taken it, p50", "ms", &samples.event);
    report.goal("  p99", "ms", &samples.event_late, EVENT_GOAL);
    report
}
