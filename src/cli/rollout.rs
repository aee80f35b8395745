//! `pagewire rollout`: canary releases by weight.

mod assign;
mod limits;
mod step;
mod table;
mod target;
mod watch;

use clap::{Args, Subcommand};
use pagewire_cluster::rollout::{LaneSpec, LimitsByLane, TargetRule, Weight, set_weights};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_client::{ApiClient, escape};
use super::{CommandFailure, Exit, output};

/// Arguments of `rollout`.
#[derive(Args)]
pub(super) struct RolloutArgs {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Subcommand)]
enum RolloutCommand {
    /// Send a share of the users to a lane; the base lane takes the remainder.
    SetWeight(SetWeight),
    /// Begin a canary that grows by steps.
    Start(step::Start),
    /// Take the next step of a canary.
    Promote(step::Promote),
    /// Take no step until it is resumed.
    Pause(step::PauseOrResume),
    /// Let a canary go on.
    Resume(step::PauseOrResume),
    /// Take a lane back: its users and its waiting work go to the base lane.
    Abort(step::Abort),
    /// Make another lane the base (blue/green); the base before stays ready for the way back.
    Switch(step::Switch),
    /// Show the split of a pool, which nodes and workers have applied it and what it has assigned; without a pool, all pools.
    Status(StatusQuery),
    /// Explain which lane serves a user, and why.
    Explain(Explain),
    /// Limit how many processes run the work of a lane, and how many users have it.
    Limits(limits::Limits),
    /// Give users a lane of their own, which does not depend on the weights.
    Assign(assign::Assign),
    /// Take the lane of their own from users.
    Unassign(assign::Unassign),
    /// Send the users that meet a condition to a lane, whatever their buckets are.
    Target(target::AddRule),
    /// Remove the rule with this condition.
    Untarget(target::RemoveRule),
    /// Print the weights as a subject mapping for the configuration of NATS servers, for clients that publish to NATS
    /// themselves.
    ExportNatsMappings(NatsMappings),
    /// Show the history of changes.
    History(History),
    /// Undo the last change of a pool's rollout, or return to another revision.
    Undo(Undo),
}

#[derive(Args)]
struct SetWeight {
    pool: String,
    /// Weight of each lane in percent. Lanes that are not named keep their weight; if the base lane is named, the
    /// arguments must describe the whole split.
    #[arg(required = true, value_name = "LANE=PERCENT", value_parser = lane)]
    weights: Vec<LaneSpec>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ApiClient,
}

/// Options of every change.
#[derive(Args)]
struct ChangeArgs {
    /// Fail unless the rollout is at this revision.
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// Reason for the change, recorded in the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Where work is sent when its lane has no live workers: none rejects it, base sends it to the base lane.
    #[arg(long, value_parser = ["none", "base"])]
    fallback: Option<String>,
    /// Whether users follow their buckets (hash), or stay in a lane that they are in until its rollout ends (latched).
    #[arg(long, value_parser = ["hash", "latched"])]
    enrolment: Option<String>,
    /// Whether a page may choose the lane of its user.
    #[arg(long, value_name = "BOOL")]
    self_service: Option<bool>,
    /// Allow a change that sends users to a lane without live workers.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
struct StatusQuery {
    pool: Option<String>,
    /// Show the pool again whenever something changes, until Ctrl-C.
    #[arg(long, requires = "pool")]
    watch: bool,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Args)]
struct Explain {
    pool: String,
    /// The user.
    #[arg(required_unless_present_any = ["connection", "page"], conflicts_with_all = ["connection", "page"])]
    user: Option<String>,
    /// ID of an anonymous user's connection.
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// ID of a page: explain the lane of its calls, and show the lane that it keeps.
    #[arg(long, value_name = "ID", conflicts_with = "connection")]
    page: Option<String>,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Args)]
struct NatsMappings {
    pool: String,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Args)]
struct History {
    pool: String,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Args)]
struct Undo {
    pool: String,
    /// Revision to return to.
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ApiClient,
}

/// The part of a rollout document that changing it requires.
#[derive(Deserialize)]
struct PublishedRollout {
    revision: u64,
    base: String,
    lanes: Vec<LaneSpec>,
    #[serde(default)]
    limits: LimitsByLane,
    split: Vec<PublishedShare>,
    #[serde(default)]
    targeting: Vec<TargetRule>,
}

/// The users of a lane.
#[derive(Deserialize)]
struct PublishedShare {
    lane: String,
    overrides: u64,
    #[serde(default)]
    rules: u64,
}

impl RolloutArgs {
    /// Sends the request to a node and prints the response.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        match self.command {
            RolloutCommand::SetWeight(command) => command.run().await,
            RolloutCommand::Start(command) => command.run().await,
            RolloutCommand::Promote(command) => command.run().await,
            RolloutCommand::Pause(command) => command.pause().await,
            RolloutCommand::Resume(command) => command.resume().await,
            RolloutCommand::Abort(command) => command.run().await,
            RolloutCommand::Switch(command) => command.run().await,
            RolloutCommand::Status(command) => command.run().await,
            RolloutCommand::Explain(command) => command.run().await,
            RolloutCommand::Limits(command) => command.run().await,
            RolloutCommand::Assign(command) => command.run().await,
            RolloutCommand::Unassign(command) => command.run().await,
            RolloutCommand::Target(command) => command.run().await,
            RolloutCommand::Untarget(command) => command.run().await,
            RolloutCommand::ExportNatsMappings(command) => command.run().await,
            RolloutCommand::History(command) => command.run().await,
            RolloutCommand::Undo(command) => command.run().await,
        }
    }
}

impl SetWeight {
    async fn run(self) -> Result<(), CommandFailure> {
        let path = path(&self.pool);
        let current: PublishedRollout = read(self.server.get(&path).await?)?;
        let is_used = |lane: &str| {
            current.split.iter().any(|share| share.lane == lane && share.overrides + share.rules > 0)
        };
        let lanes = set_weights(&current.base, &current.lanes, &self.weights, is_used);
        let lanes = lanes.map_err(|error| Exit::Usage.with_message(error))?;
        self.change.put(&self.server, &path, &current, json!({"lanes": lanes})).await
    }
}

impl ChangeArgs {
    /// Writes the changed document. The server rejects it if it has changed since it was read.
    async fn put(
        self,
        server: &ApiClient,
        path: &str,
        current: &PublishedRollout,
        mut body: Value,
    ) -> Result<(), CommandFailure> {
        body["comment"] = self.comment.into();
        if let Some(fallback) = self.fallback {
            body["fallback"] = fallback.into();
        }
        if let Some(enrolment) = self.enrolment {
            body["enrolment"] = enrolment.into();
        }
        if let Some(self_service) = self.self_service {
            body["self_service"] = self_service.into();
        }
        if self.force {
            body["force"] = true.into();
        }
        let status = server.put(path, &body, self.revision.unwrap_or(current.revision)).await?;
        report(server, &status)
    }
}

/// Prints the result of a change.
///
/// # Errors
/// When a node or worker has not applied it.
fn report(server: &ApiClient, status: &Value) -> Result<(), CommandFailure> {
    print(server, status, table::changed);
    warn(status);
    match table::is_applied(status) {
        true => Ok(()),
        false => Err(Exit::Failed.with_message(table::missing(status))),
    }
}

impl StatusQuery {
    async fn run(self) -> Result<(), CommandFailure> {
        match &self.pool {
            Some(pool) if self.watch => watch::watch(&self.server, &path(pool)).await?,
            Some(pool) => {
                let status = self.server.get(&path(pool)).await?;
                print(&self.server, &status, table::status);
                warn(&status);
            }
            None => print(&self.server, &self.server.get("/rollouts").await?, table::pools),
        }
        Ok(())
    }
}

impl Explain {
    async fn run(self) -> Result<(), CommandFailure> {
        let targets = [("user", self.user), ("connection", self.connection), ("page", self.page)];
        let target =
            targets.iter().filter_map(|(name, id)| Some(format!("{name}={}", escape(id.as_deref()?))));
        let target = target.collect::<Vec<_>>().join("&");
        let explained = self.server.get(&format!("{}/explain?{target}", path(&self.pool))).await?;
        print(&self.server, &explained, table::explained);
        Ok(())
    }
}

impl NatsMappings {
    async fn run(self) -> Result<(), CommandFailure> {
        let mapping = self.server.get(&format!("{}/nats-mapping", path(&self.pool))).await?;
        print(&self.server, &mapping, table::nats_mapping);
        Ok(())
    }
}

impl History {
    async fn run(self) -> Result<(), CommandFailure> {
        let past = self.server.get(&format!("{}/history", path(&self.pool))).await?;
        print(&self.server, &past, table::history);
        Ok(())
    }
}

impl Undo {
    async fn run(self) -> Result<(), CommandFailure> {
        let path = path(&self.pool);
        let current: PublishedRollout = read(self.server.get(&path).await?)?;
        let past = self.server.get(&format!("{path}/history")).await?;
        // a pool has no document before its first change
        let past =
            past["items"].as_array().into_iter().flatten().filter_map(|past| past["revision"].as_u64());
        let wanted = |revision: &u64| self.to.map_or(*revision < current.revision, |to| *revision == to);
        let Some(revision) = past.chain([0]).find(wanted) else {
            return Err(Exit::Failed.with_message("there is no such revision to go back to"));
        };
        let comment = format!("back to revision {revision}");
        let comment = if self.change.comment.is_empty() { comment } else { self.change.comment };
        // the way back is never refused; a lane without workers is a warning
        ChangeArgs { comment, force: true, ..self.change }
            .put(&self.server, &path, &current, json!({"restore": revision}))
            .await
    }
}

fn path(pool: &str) -> String {
    format!("/rollouts/{}", escape(pool))
}

fn read(response: Value) -> Result<PublishedRollout, CommandFailure> {
    serde_json::from_value(response)
        .map_err(|_| Exit::Failed.with_message("the server's response is not a rollout"))
}

fn print(server: &ApiClient, response: &Value, describe: impl Fn(&Value) -> String) {
    if server.json {
        output::print_json(response);
    } else {
        output::print(&describe(response));
    }
}

/// Prints the warnings in a response.
fn warn(status: &Value) {
    for warning in status["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::print_stderr(&format!("warning: {}", output::plain(warning)));
    }
}

fn lane(text: &str) -> Result<LaneSpec, String> {
    let (name, weight) = text.split_once('=').ok_or("must be LANE=PERCENT, for example canary=10")?;
    let weight: Weight =
        weight.parse().map_err(|error: pagewire_cluster::rollout::InvalidWeight| error.to_string())?;
    Ok(LaneSpec::new(name, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_written_as_a_lane_and_percent() {
        assert_eq!(
            lane("canary=12.5%").map(|lane| (lane.name, lane.weight.buckets())),
            Ok(("canary".into(), 1250))
        );
        for wrong in ["canary", "canary=", "canary=101", "canary=0.001", "canary=ten"] {
            assert!(lane(wrong).is_err(), "{wrong}");
        }
    }
}
