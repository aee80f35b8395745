//! Generates failures: their kind, their length and the pause after them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use proptest::prelude::RngExt;
use proptest::test_runner::TestRng;
use tokio::time::sleep;

use crate::environment::{Nats, Wires};

/// The shortest failure.
const SHORTEST: Duration = Duration::from_millis(50);

/// A random sequence of failures, determined by a seed.
pub(super) struct Breaks {
    rng: TestRng,
    longest: Duration,
    counts: BTreeMap<&'static str, usize>,
}

impl Breaks {
    pub(super) fn new(rng: TestRng, longest: Duration) -> Self {
        Self { rng, longest, counts: BTreeMap::new() }
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    /// Causes one failure, then pauses.
    pub(super) async fn next(&mut self, wires: &[Wires], servers: &mut [Nats]) {
        let longest = self.longest.as_millis() as usize - SHORTEST.as_millis() as usize;
        // short failures are as likely as long ones
        let length = SHORTEST + Duration::from_millis((longest >> self.below(6)) as u64);
        let (process, server) = (self.below(wires.len()), self.below(servers.len()));
        let kind = match self.below(10) {
            0..4 => {
                wires[process].cut();
                sleep(length).await;
                "one process cut off"
            }
            4..6 => {
                wires.iter().for_each(Wires::cut);
                sleep(length).await;
                "all processes cut off"
            }
            6 => {
                wires[process].pause();
                sleep(length).await;
                "one process without a sound"
            }
            7 => {
                servers[server].pause();
                sleep(length).await;
                servers[server].resume();
                "a server stopped"
            }
            _ => {
                servers[server].kill();
                sleep(length).await;
                servers[server].restart().await;
                "a server killed"
            }
        };
        wires.iter().for_each(Wires::mend);
        *self.counts.entry(kind).or_default() += 1;
        let pause = 200 + self.below(1200) as u64;
        sleep(Duration::from_millis(pause)).await;
    }
}

impl fmt::Display for Breaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.counts.values().sum();
        write!(f, "{total} breaks: {:?}", self.counts)
    }
}
