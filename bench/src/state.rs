//! Measures sets of one state tree and of many through a headless node, and their notifications on another node, in
//! turns with bare writes on the same server; and one tree that many pages watch.
//!
//! The writing and the following node run in this process without listeners, like the bare writers beside them, so that
//! all have the same threads. The node of the pages and their clients are separate processes.

use std::io;

use pagewire_cluster::id::Entity;

use crate::cluster::Cluster;
use crate::nats::Nats;
use crate::report::{Goal, Report, Times, progress};
use crate::state_options::{StateOptions, WARM_UP};
use crate::state_pages::Pages;
use crate::state_sets::{Run, Sample, Sets, set};
use crate::state_updates::{Beside, UpdateMeasure};
use crate::view::user;

/// Multiple of the sequential bare rate.
const ONE: Goal = Goal::AtLeast(10.0);
/// Percent of the bare rate of as many keys.
const MANY: Goal = Goal::AtLeast(70.0);
/// Multiple of the time of a bare put and one delivery.
const UPDATE_GOAL: Goal = Goal::AtMost(2.0);
pub(crate) async fn run(options: StateOptions) -> io::Result<Report> {
    let nats = Nats::start(options.nats.as_deref()).await?;
    let cluster = Cluster::new(Some(&nats));
    let sets = Sets::make(&options, &nats, &cluster).await?;
    let (mut runs, mut beside, mut each, mut costs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    sets.measure(&options, (options.sets / WARM_UP).max(1)).await?;
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(sets.measure(&options, options.sets).await?);
    }
    let mut updates = UpdateMeasure::join(&sets, &nats, &cluster).await?;
    updates.measure(&options, (options.updates / WARM_UP).max(1)).await?;
    for number in 1..=options.runs {
        progress(&format!("beside a second node, run {number} of {}", options.runs));
        beside.push(updates.measure(&options, options.updates).await?);
    }
    progress("opening pages");
    let owner = Entity::User(user(0).into());
    let mut pages = Pages::open(&cluster, options.pages).await?;
    for number in 0..=options.runs {
        progress(&format!("pages, run {number} of {}", options.runs));
        let write = || set(&sets.writer.context, owner.clone(), options.bytes);
        let (times, cost) = pages.measure(options.watched, write).await?;
        // the first run warms up
        if number > 0 {
            each.push(times.p50_us / 1e3);
            costs.push(cost);
        }
    }
    progress("");
    pages.stop().await?;
    let mut report = report(&options, sets.stored, &runs, &beside);
    let name = format!("one tree, {} pages", options.pages);
    report.row(format!("{name}: last page has it, p50"), "ms", &each);
    report.row(format!("{name}: CPU of their node"), "µs/page", &costs);
    // the nodes release their numbers
    updates.end().await;
    sets.writer.stop().await;
    Ok(report)
}

/// Selects the part of a run that a row shows.
type Part<R, T> = fn(&R) -> &T;

fn report(options: &StateOptions, stored: usize, runs: &[Run], shared: &[Beside]) -> Report {
    let mut report = Report::new(format!(
        "State: {} sets of {} bytes, {} at the same time on one tree, or {} trees; {stored} bytes in the store; \
         on one NATS server",
        options.sets, options.bytes, options.in_flight, options.trees
    ));
    let of = |part: &dyn Fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    let trees = format!("{} trees", options.trees);
    let (plain, engine) =
        (format!("bare puts, {} keys", options.trees), format!("puts of the engine, {} keys", options.trees));
    let ways: [(&str, &str, Part<Run, Sample>); 5] = [
        ("bare puts of one key", "puts/s", |run| &run.one_put),
        ("one tree", "sets/s", |run| &run.one_tree),
        (&plain, "puts/s", |run| &run.plain),
        (&engine, "puts/s", |run| &run.engine),
        (&trees, "sets/s", |run| &run.trees),
    ];
    for (name, unit, way) in ways {
        rows(&mut report, name, unit, runs.iter().map(way));
    }
    let second = format!("{trees}, beside a second node");
    rows(&mut report, &second, "sets/s", shared.iter().map(|run| &run.trees));
    report.goal("one tree : bare, rate", "times", &of(&|run| run.one_tree.rate / run.one_put.rate), ONE);
    report.goal("many trees : bare, rate", "%", &of(&|run| 100.0 * run.trees.rate / run.plain.rate), MANY);
    report.row("many trees : engine, rate", "%", &of(&|run| 100.0 * run.trees.rate / run.engine.rate));
    let per_cpu = of(&|run| 100.0 * run.plain.cost() / run.trees.cost());
    report.row("many trees : bare, per CPU second", "%", &per_cpu);
    let updates: [(&str, Part<Beside, Times>); 2] =
        [("bare put and delivery", |run| &run.delivery), ("update on another node", |run| &run.update)];
    for (name, times) in updates {
        let each = |part: fn(&Times) -> f64| shared.iter().map(|run| part(times(run))).collect::<Vec<_>>();
        report.row(format!("{name}, p50"), "µs", &each(|times| times.p50_us));
        report.row(format!("{name}, p99"), "µs", &each(|times| times.p99_us));
    }
    let updates: Vec<_> = shared.iter().map(|run| run.update.p50_us / run.delivery.p50_us).collect();
    report.goal("update : bare, p50", "times", &updates, UPDATE_GOAL);
    report
}

/// Adds the rate and the CPU time of each variant to the report.
fn rows<'a>(report: &mut Report, name: &str, unit: &'static str, ways: impl Iterator<Item = &'a Sample>) {
    let ways: Vec<_> = ways.collect();
    let of = |part: fn(&Sample) -> f64| ways.iter().map(|way| part(way)).collect::<Vec<_>>();
    report.row(name, unit, &of(|way| way.rate));
    report.row(format!("{name}, CPU of this process"), "µs each", &of(|way| way.own));
    let nats: Vec<_> = ways.iter().filter_map(|way| way.nats).collect();
    report.row(format!("{name}, CPU of nats-server"), "µs each", &nats);
}
