//! `pagewire job`: durable work.

mod list;
mod table;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api_client::{ApiClient, escape};
use super::{CommandFailure, Exit, json_arg, output};

/// Arguments of `job`.
#[derive(Args)]
pub(super) struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Subcommand)]
enum JobCommand {
    /// Submit work. It is durable when this command says so, whether or not there are workers.
    Submit(Submit),
    /// Show a job.
    Get(Id),
    /// Follow a job to its end: 0 when it succeeded, else 1.
    Watch(Id),
    /// Cancel a job; one that runs is asked to stop.
    Cancel(Id),
    /// Run a job again that has failed, was cancelled or is dead.
    Retry(Id),
    /// List jobs, the one that changed last at the bottom.
    List(list::ListArgs),
}

#[derive(Args)]
struct Submit {
    /// The handler's name.
    kind: String,
    /// Its argument, any JSON; - reads it from standard input.
    #[arg(default_value = "null")]
    data: String,
    /// On whose behalf.
    #[arg(long)]
    user: Option<String>,
    /// The page that is told how it goes, by its id.
    #[arg(long, value_name = "ID")]
    page: Option<String>,
    /// Whose workers.
    #[arg(long)]
    pool: Option<String>,
    /// Any worker, or the user's own.
    #[arg(long, value_parser = ["any", "assigned"])]
    exec_mode: Option<String>,
    /// Not before this time, as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    run_at: Option<String>,
    /// How often it is tried again after a failure.
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// The same key again is the same job.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Follow it to its end, as `job watch` does.
    #[arg(long)]
    watch: bool,
    /// Wait so many milliseconds for its end.
    #[arg(long, value_name = "MS", conflicts_with = "watch", value_parser = clap::value_parser!(u64).range(..=30_000))]
    wait: Option<u64>,
}

#[derive(Args)]
struct Id {
    /// The job, by its id.
    id: String,
}

impl JobArgs {
    /// Asks a node.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let server = &self.server;
        match self.command {
            JobCommand::Submit(submit) => submit.run(server).await,
            JobCommand::Get(Id { id }) => {
                print(server, &server.get(&path(&id)).await?, table::job);
                Ok(())
            }
            JobCommand::Watch(Id { id }) => watch::watch(server, &id).await,
            JobCommand::Cancel(Id { id }) => change(server, &id, "cancel").await,
            JobCommand::Retry(Id { id }) => change(server, &id, "retry").await,
            JobCommand::List(list) => list.run(server).await,
        }
    }
}

impl Submit {
    async fn run(self, server: &ApiClient) -> Result<(), CommandFailure> {
        let (watched, wait) = (self.watch, Duration::from_millis(self.wait.unwrap_or(0)));
        let waits = self.wait.is_some();
        let job = server.post_and_wait("/jobs", &self.body()?, wait).await?;
        if watched {
            return watch::watch(server, job["id"].as_str().unwrap_or_default()).await;
        }
        print(server, &job, if waits { table::job } else { table::headline });
        if let Some(reason) = table::waiting(&job) {
            output::print_stderr(&format!("waiting: {reason}"));
        }
        ended(&job).unwrap_or(Ok(()))
    }

    fn body(self) -> Result<Value, CommandFailure> {
        let mut body = json!({"kind": self.kind, "data": json_arg::json(self.data, "the data")?});
        let texts = [
            ("user", self.user),
            ("page", self.page),
            ("pool", self.pool),
            ("exec_mode", self.exec_mode),
            ("run_at", self.run_at),
            ("idempotency_key", self.idempotency_key),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                body[name] = text.into();
            }
        }
        if let Some(retries) = self.retries {
            body["retries"] = retries.into();
        }
        if let Some(wait) = self.wait {
            body["wait_ms"] = wait.into();
        }
        Ok(body)
    }
}

async fn change(server: &ApiClient, id: &str, how: &str) -> Result<(), CommandFailure> {
    let job = server.post(&format!("{}/{how}", path(id)), &json!({})).await?;
    print(server, &job, table::headline);
    Ok(())
}

fn path(id: &str) -> String {
    format!("/jobs/{}", escape(id))
}

fn print(server: &ApiClient, answer: &Value, describe: fn(&Value) -> String) {
    if server.json {
        output::print_json(answer);
    } else {
        output::print(&describe(answer));
    }
}

/// How a job has ended, if it has: only success is good.
fn ended(job: &Value) -> Option<Result<(), CommandFailure>> {
    match job["state"].as_str() {
        Some("succeeded") => Some(Ok(())),
        Some("failed" | "cancelled" | "dead") => Some(Err(Exit::Failed.with_message(table::why(job)))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_a_good_end() {
        let end = |state: &str| ended(&json!({"id": "x", "state": state})).map(|end| end.is_ok());
        assert_eq!(end("succeeded"), Some(true));
        for bad in ["failed", "cancelled", "dead"] {
            assert_eq!(end(bad), Some(false), "{bad}");
        }
        for open in ["scheduled", "queued", "running"] {
            assert_eq!(end(open), None, "{open}");
        }
    }
}
