//! `pagewire rollout start`, `promote`, `pause`, `resume`, `abort` and `switch`.

use clap::Args;
use pagewire_cluster::rollout::{AutoPromotion, OnRegression, RolloutStep, Weight};
use serde_json::json;

use super::super::{CommandFailure, Exit};
use super::{ApiClient, ChangeArgs, PublishedRollout, path, print, read, table};

#[derive(Args)]
pub(super) struct Start {
    pool: String,
    /// The lane that grows; it need not exist yet.
    #[arg(long)]
    lane: String,
    /// Its weights in percent, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "10,50,100")]
    steps: Vec<Weight>,
    /// Take the next step by itself, when the lane is not worse than the base lane.
    #[arg(long)]
    auto: bool,
    /// Seconds that each step is held at least.
    #[arg(long, value_name = "SECONDS", default_value_t = AutoPromotion::default().hold_s, requires = "auto")]
    hold: u64,
    /// By how many percent points more of its users may have a failure.
    #[arg(long, value_name = "PERCENT", default_value_t = AutoPromotion::default().margin, requires = "auto")]
    margin: Weight,
    /// What happens when the lane does worse than the base lane. Without it: abort with --auto, else pause.
    #[arg(long, value_parser = ["pause", "abort"])]
    on_regression: Option<String>,
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
    /// Fail unless the node has applied this revision.
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// Reason for the abort, recorded in the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Has no effect: an abort needs no living workers.
    #[arg(long, hide = true)]
    force: bool,
    #[command(flatten)]
    server: ApiClient,
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
        let Self { lane, steps, hold: hold_s, margin, .. } = self;
        let auto = self.auto.then_some(AutoPromotion { hold_s, margin });
        let on_regression = self.on_regression.map(|policy| match policy.as_str() {
            "abort" => OnRegression::Abort,
            _ => OnRegression::Pause,
        });
        self.change.take(&self.pool, RolloutStep::Start { lane, steps, auto, on_regression }).await
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
        let body = json!({"lane": self.lane, "revision": self.revision, "comment": self.comment});
        let abort = self.server.post(&format!("{}/abort", path(&self.pool)), &body).await?;
        print(&self.server, &abort, table::aborted);
        match abort["applied"] == abort["of"] {
            true => Ok(()),
            false => Err(Exit::Failed.with_message(table::not_aborted(&abort))),
        }
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
