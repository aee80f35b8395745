//! `pagewire rollout start`, `promote`, `pause`, `resume`, `abort` and `switch`.

use clap::Args;
use pagewire_cluster::rollout::{RolloutStep, Weight};
use serde_json::json;

use super::super::CommandFailure;
use super::{ApiClient, ChangeArgs, PublishedRollout, path, read};

#[derive(Args)]
pub(super) struct Start {
    pool: String,
    /// The lane that grows; it need not exist yet.
    #[arg(long)]
    lane: String,
    /// Its weights in percent, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "10,50,100")]
    steps: Vec<Weight>,
    #[command(flatten)]
    change: StepArgs,
}

#[derive(Args)]
pub(super) struct Promote {
    pool: String,
    /// Take the last step at once.
    #[arg(long)]
    whole: bool,
    #[command(flatten)]
    change: StepArgs,
}

#[derive(Args)]
pub(super) struct PauseOrResume {
    pool: String,
    #[command(flatten)]
    change: StepArgs,
}

#[derive(Args)]
pub(super) struct Abort {
    pool: String,
    /// The lane that is taken back; without it, the one that grows by steps.
    #[arg(long)]
    lane: Option<String>,
    #[command(flatten)]
    change: StepArgs,
}

#[derive(Args)]
pub(super) struct Switch {
    pool: String,
    /// The lane that becomes the base. The base before it stays as a lane with weight 0.
    lane: String,
    #[command(flatten)]
    change: StepArgs,
}

/// Options of every step.
#[derive(Args)]
struct StepArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ApiClient,
}

impl Start {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        self.change.take(&self.pool, RolloutStep::Start { lane: self.lane, steps: self.steps }).await
    }
}

impl Promote {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        self.change.take(&self.pool, RolloutStep::Promote { whole: self.whole }).await
    }
}

impl PauseOrResume {
    pub(super) async fn pause(self) -> Result<(), CommandFailure> {
        self.change.take(&self.pool, RolloutStep::Pause).await
    }

    pub(super) async fn resume(self) -> Result<(), CommandFailure> {
        self.change.take(&self.pool, RolloutStep::Resume).await
    }
}

impl Abort {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        self.change.take(&self.pool, RolloutStep::Abort { lane: self.lane }).await
    }
}

impl Switch {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        self.change.take(&self.pool, RolloutStep::Switch { lane: self.lane }).await
    }
}

impl StepArgs {
    /// Takes a step from the revision that is current now, so that of two operators only one takes it.
    async fn take(self, pool: &str, step: RolloutStep) -> Result<(), CommandFailure> {
        let path = path(pool);
        let current: PublishedRollout = read(self.server.get(&path).await?)?;
        self.change.put(&self.server, &path, &current, json!({"step": step})).await
    }
}
