//! Seeded simulation of whole jobs: the parts of workers and nodes as the product runs them, on the faulty engine, in one
//! thread with virtual time.

mod history;
mod observed;
mod plan;
mod process;
mod world;

use std::time::Duration;

use pagewire_cluster::simulation::Simulation;
use pagewire_cluster::timing::Timing;

use self::observed::Observed;
use self::plan::Schedule;
use self::world::World;
use super::breaks::number;

/// The time-outs of the product, except that an idle user is released within a schedule.
const TIMING: Timing = Timing { affinity_ttl: Duration::from_secs(40), ..Timing::PRODUCTION };

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

#[test]
fn whatever_happens_to_workers_and_nodes_every_job_ends_once_and_in_its_turn() {
    let (first, runs) = (number("PAGEWIRE_SIM_SEED", 0), number("PAGEWIRE_SIM_RUNS", 200));
    for seed in first..first + runs {
        let (_, outcome) = simulate(seed);
        if let Err(violation) = outcome {
            panic!("seed {seed}: {violation}\n{}", Schedule::of(seed));
        }
    }
}
