//! Writes that lose their reply together with the reads that would resolve the outcome.
//!
//! Owns: which writes are affected, whether they happen, and how many reads fail after them. Pure.

use crate::engine::{Bucket, Unavailable};
use crate::simulation::FaultRng;

/// Maximum number of reads that fail after such a write.
const MOST_READS: u64 = 2;

/// The blind writes of one bucket.
#[derive(Debug)]
pub(super) struct Blind {
    bucket: Option<(Bucket, u16)>,
    rng: FaultRng,
    reads: u64,
}

impl Blind {
    pub(super) fn new(bucket: Option<(Bucket, u16)>, seed: u64) -> Self {
        Self { bucket, rng: FaultRng::new(!seed), reads: 0 }
    }

    /// Changes which writes are affected. Reads succeed again.
    pub(super) fn set(&mut self, bucket: Option<(Bucket, u16)>) {
        (self.bucket, self.reads) = (bucket, 0);
    }

    /// Decides about a write: `None` when it is not affected, else whether it happens.
    pub(super) fn write(&mut self, bucket: Bucket) -> Option<bool> {
        let (_, per_mille) = self.bucket.filter(|(of, _)| *of == bucket)?;
        if !self.rng.hits(per_mille) {
            return None;
        }
        self.reads = 1 + self.rng.below(MOST_READS);
        Some(self.rng.below(4) > 0)
    }

    /// Decides about a read: it fails while an affected write is not resolved.
    pub(super) fn read(&mut self, bucket: Bucket) -> Result<(), Unavailable> {
        if self.reads == 0 || self.bucket.is_none_or(|(of, _)| of != bucket) {
            return Ok(());
        }
        self.reads -= 1;
        Err(Unavailable)
    }
}
