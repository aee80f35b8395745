//! The size of the measurement of state trees.

/// Divisor of the number of operations: each variant runs that part of them before the first measurement.
pub(crate) const WARM_UP: u64 = 10;

/// Arguments of `state`.
#[derive(clap::Args)]
pub(crate) struct StateOptions {
    /// Number of sets in one run, on one tree and on many.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sets: u64,
    /// Number of concurrent sets of the one tree.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) in_flight: u64,
    /// Number of trees that are set concurrently; the sets of one tree are sequential.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) trees: u64,
    /// Bytes of the value.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(usize))]
    pub(crate) bytes: usize,
    /// Number of sets in one run whose notification a follower on another node receives, one at a time.
    #[arg(long = "told", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) updates: u64,
    /// Number of pages on another node that all watch one tree.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) pages: u64,
    /// Number of sets of that tree in one run, one at a time.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) watched: u64,
    /// URL of a NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    pub(crate) nats: Option<String>,
    /// Number of runs; the variants take turns.
    #[arg(long, default_value_t = 5)]
    pub(crate) runs: usize,
}
