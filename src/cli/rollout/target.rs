//! `pagewire rollout target` and `untarget`: rules that send users to a lane by what is known of them.

use clap::Args;
use pagewire_cluster::rollout::{NamedValue, TargetMatch, TargetRule, with_rule, without};
use serde_json::json;

use super::super::{CommandFailure, Exit};
use super::{ApiClient, ChangeArgs, PublishedRollout, path, read};

/// The condition of a rule.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Condition {
    /// A user; may be repeated.
    #[arg(long = "user", value_name = "USER")]
    users: Vec<String>,
    /// A claim of the token of a page, or a list of values that contains this one.
    #[arg(long, value_name = "NAME=VALUE", value_parser = named)]
    claim: Option<NamedValue>,
    /// A header of the request that opens the socket of a page.
    #[arg(long, value_name = "NAME=VALUE", value_parser = named)]
    header: Option<NamedValue>,
    /// A range of addresses of clients.
    #[arg(long, value_name = "CIDR")]
    address: Option<String>,
}

#[derive(Args)]
pub(super) struct AddRule {
    pool: String,
    /// A lane of the pool, which may be the base or have weight 0.
    lane: String,
    #[command(flatten)]
    condition: Condition,
    /// Put the rule before the others; otherwise it is the last one.
    #[arg(long)]
    first: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Args)]
pub(super) struct RemoveRule {
    pool: String,
    #[command(flatten)]
    condition: Condition,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ApiClient,
}

impl AddRule {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let path = path(&self.pool);
        let current: PublishedRollout = read(self.server.get(&path).await?)?;
        let rule = TargetRule { who: self.condition.read()?, lane: self.lane };
        let rules = match self.first {
            true => [rule.clone()].into_iter().chain(without(&current.targeting, &rule.who)).collect(),
            false => with_rule(&current.targeting, rule),
        };
        self.change.put(&self.server, &path, &current, json!({"targeting": rules})).await
    }
}

impl RemoveRule {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let path = path(&self.pool);
        let current: PublishedRollout = read(self.server.get(&path).await?)?;
        let rules = without(&current.targeting, &self.condition.read()?);
        if rules == current.targeting {
            return Err(Exit::Failed.with_message("the pool has no such rule"));
        }
        self.change.put(&self.server, &path, &current, json!({"targeting": rules})).await
    }
}

impl Condition {
    fn read(self) -> Result<TargetMatch, CommandFailure> {
        let Self { users, claim, header, address } = self;
        let condition = claim
            .map(TargetMatch::Claim)
            .or(header.map(TargetMatch::Header))
            .or(address.map(TargetMatch::Address))
            .or((!users.is_empty()).then(|| TargetMatch::Users(users.into_iter().collect())));
        condition.ok_or_else(|| Exit::Usage.with_message("a rule needs a condition"))
    }
}

fn named(text: &str) -> Result<NamedValue, String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE, for example plan=beta")?;
    Ok(NamedValue { name: name.to_owned(), value: value.to_owned() })
}
