//! `pagewire rollout limits`: how many processes run the work of a lane, and how many users have it.

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
    /// The most users who have the lane by their buckets; without it there is no maximum. Needs `--enrolment latched`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_users: Option<u32>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ApiClient,
}

impl Limits {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let path = path(&self.pool);
        let mut current: PublishedRollout = read(self.server.get(&path).await?)?;
        let Self { min_processes, max_processes, max_users, .. } = self;
        current.limits.insert(self.lane, LaneLimits { min_processes, max_processes, max_users });
        let body = json!({"limits": current.limits});
        self.change.put(&self.server, &path, &current, body).await
    }
}
