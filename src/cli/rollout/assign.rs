//! `pagewire rollout assign` and `unassign`: users with a lane of their own.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::super::CommandFailure;
use super::super::file_arg::read_file;
use super::{ApiClient, path, report};

/// The users of a command.
#[derive(Args)]
#[group(required = true, multiple = true)]
struct ChosenUsers {
    /// A user; may be repeated.
    #[arg(long = "user", value_name = "USER")]
    users: Vec<String>,
    /// A file with one user per line; `-` for the standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Assign {
    pool: String,
    /// A lane of the pool, which may have weight 0.
    lane: String,
    #[command(flatten)]
    users: ChosenUsers,
    /// Reason for the change, recorded in the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Allow a lane without live workers.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Args)]
pub(super) struct Unassign {
    pool: String,
    #[command(flatten)]
    users: ChosenUsers,
    /// Reason for the change, recorded in the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    #[command(flatten)]
    server: ApiClient,
}

impl Assign {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let users = self.users.read()?;
        let body = json!({"lane": self.lane, "users": users, "comment": self.comment, "force": self.force});
        let status = self.server.post(&format!("{}/users", path(&self.pool)), &body).await?;
        report(&self.server, &status)
    }
}

impl Unassign {
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let body = json!({"lane": null, "users": self.users.read()?, "comment": self.comment});
        let status = self.server.post(&format!("{}/users", path(&self.pool)), &body).await?;
        report(&self.server, &status)
    }
}

impl ChosenUsers {
    /// Returns the users of the arguments and of the lines of the file; an empty line is no user.
    fn read(self) -> Result<Vec<String>, CommandFailure> {
        let Some(file) = self.file else { return Ok(self.users) };
        let text = read_file(&file)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        Ok(self.users.into_iter().chain(lines).collect())
    }
}
