//! Seeded simulation of whole jobs: the parts of workers and nodes as the product runs them, on the faulty engine, in one
//! thread with virtual time.

mod history;
mod observed;
mod outside;
mod plan;
mod process;
mod settle;
mod stops;
mod world;

use std::num::NonZero;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pagewire_cluster::simulation::Simulation;
use pagewire_cluster::timing::Timing;

use self::observed::Observed;
use self::plan::Schedule;
use self::world::World;
use super::breaks::number;

/// The time-outs of the product, except that an idle user is released within a schedule.
const TIMING: Timing = Timing { affinity_ttl: Duration::from_secs(40), ..Timing::PRODUCTION };

/// Number of schedules unless `PAGEWIRE_SIM_RUNS` is set.
const RUNS: u64 = 1000;

/// Number of violations after which no further schedule begins.
const MOST_VIOLATIONS: usize = 3;

/// Time after the faults in which every job ends.
const SETTLED: Duration = Duration::from_secs(300);

/// Time in which a new job ends when nothing is wrong.
const PROMPT: Duration = Duration::from_secs(5);

fn simulate(seed: u64) -> (Observed, Result<(), String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let _simulation = Simulation::begin(seed);
        World::new(seed).await.run().await
    })
}

/// Runs schedules on all processors. Returns the first violation of each, with its schedule.
fn simulate_all(seeds: Range<u64>) -> (u64, Vec<String>) {
    let (next, begun) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let violations = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || violations.lock().unwrap().len() >= MOST_VIOLATIONS {
                return;
            }
            let (observed, outcome) = simulate(seed);
            begun.fetch_add(observed.lock().begun, Ordering::Relaxed);
            if let Err(violation) = outcome {
                violations.lock().unwrap().push(format!("seed {seed}: {violation}\n{}", Schedule::of(seed)));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    (begun.into_inner(), violations.into_inner().unwrap())
}

#[test]
fn whatever_happens_to_workers_and_nodes_every_job_ends_once_and_in_its_turn() {
    let (first, runs) = (number("PAGEWIRE_SIM_SEED", 0), number("PAGEWIRE_SIM_RUNS", RUNS));
    let (begun, violations) = simulate_all(first..first + runs);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert!(begun > runs, "{begun} handlers began");
}
