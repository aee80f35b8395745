//! `pagewire rollout limits`: how many processes run the work of a lane.

use clap::Args;
use pagewire_cluster::rollout::LaneLimits;
use serde_json::json;

use super::{ApiClient, ChangeArgs, CommandFailure, PublishedRollout, path, read};

/// Arguments of `rollout limits`.
#[derive(Args)]
pub(super) struct Limits {
    pool: String,
    lane: String,
    /// Processes that there are always; without it there is no minimum.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    min_processes: Option<u32>,
    /// The most processes; without it there is no maximum.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_processes: Option<u32>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ApiClient,
}

impl Limits {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let path = path(&self.pool);
        let mut current: PublishedRollout = read(self.server.get(&path).await?)?;
        let limits = LaneLimits { min_processes: self.min_processes, max_processes: self.max_processes };
        current.limits.insert(self.lane, limits);
        let body = json!({"limits": current.limits});
        self.change.put(&self.server, &path, &current, body).await
    }
}
