//! What a simulation replaces in the processes that it runs: the clocks, and the source of random ids.
//!
//! Owns: the state of the simulation on this thread. Never: faults (`engine::faulty`), or anything in the product, which is
//! built without it.
//!
//! All processes of a simulation run on one thread, in a runtime with paused time. While a [`Simulation`] lives, the boot
//! clock and the wall clock of this thread follow the time of the runtime, and ids depend on the seed alone.

mod rng;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

pub use rng::FaultRng;

/// The time since boot when a simulation begins.
const BOOT: Duration = Duration::from_secs(100_000);

/// The time since the Unix epoch when a simulation begins: a time of day at which no shard changes for 50 minutes.
const UNIX: Duration = Duration::from_secs(1_800_000_600);

struct SimulationState {
    zero: Instant,
    ids: FaultRng,
}

thread_local! {
    static STATE: RefCell<Option<SimulationState>> = const { RefCell::new(None) };
}

/// A simulation on this thread. Dropping it ends the simulation.
pub struct Simulation {
    /// It must be dropped on its thread.
    thread: PhantomData<Rc<()>>,
}

impl Simulation {
    /// Begins a simulation at the current time of the runtime.
    pub fn begin(seed: u64) -> Self {
        STATE.set(Some(SimulationState { zero: Instant::now(), ids: FaultRng::new(seed) }));
        Self { thread: PhantomData }
    }

    /// Returns the time since the simulation began.
    pub fn elapsed(&self) -> Duration {
        elapsed().unwrap_or_default()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        STATE.set(None);
    }
}

fn elapsed() -> Option<Duration> {
    STATE.with_borrow(|state| state.as_ref().map(|state| state.zero.elapsed()))
}

/// Returns the simulated boot clock, in a simulation.
pub(crate) fn boot() -> Option<Duration> {
    elapsed().map(|elapsed| BOOT + elapsed)
}

/// Returns the simulated wall clock as a duration since the Unix epoch, in a simulation.
pub(crate) fn unix() -> Option<Duration> {
    elapsed().map(|elapsed| UNIX + elapsed)
}

/// Returns 128 random bits of the seed, in a simulation.
pub(crate) fn id_bits() -> Option<[u64; 2]> {
    STATE.with_borrow_mut(|state| {
        let ids = &mut state.as_mut()?.ids;
        Some([ids.next_bits(), ids.next_bits()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::id::Key;

    #[tokio::test(start_paused = true)]
    async fn the_clocks_follow_the_runtime_and_ids_follow_the_seed() {
        let run = async || {
            let _simulation = Simulation::begin(7);
            let (boot, wall) = (clock::boot(), clock::unix());
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert_eq!(
                (clock::boot() - boot, clock::unix() - wall),
                (Duration::from_secs(3600), clock::boot() - boot)
            );
            Key::random()
        };
        assert_eq!(run().await, run().await);
        assert!(clock::unix() < UNIX && Key::random() != Key::random(), "the simulation has ended");
    }
}
