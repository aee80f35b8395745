//! `pagewire job`: submits and manages durable jobs.

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
    /// Submit a job. It is durable when this command reports it, whether or not there are workers.
    Submit(Submit),
    /// Show a job.
    Get(Id),
    /// Follow a job until it ends; exits with 0 if it succeeded, otherwise with 1.
    Watch(Id),
    /// Cancel a job; the worker of a running job gets the request to stop.
    Cancel(Id),
    /// Run a job again that failed, was cancelled or is dead.
    Retry(Retry),
    /// List jobs; the job that changed last comes last.
    List(list::ListArgs),
}

#[derive(Args)]
struct Submit {
    /// Name of the handler.
    kind: String,
    /// Argument of the handler, as JSON; - reads it from standard input.
    #[arg(default_value = "null")]
    data: String,
    /// User on whose behalf the job runs.
    #[arg(long)]
    user: Option<String>,
    /// ID of the page that receives progress and the result.
    #[arg(long, value_name = "ID")]
    page: Option<String>,
    /// Pool whose workers run the job.
    #[arg(long)]
    pool: Option<String>,
    /// Run it on any worker, or on the worker assigned to the user.
    #[arg(long, value_parser = ["any", "assigned"])]
    exec_mode: Option<String>,
    /// Earliest time to run it, e.g. 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    run_at: Option<String>,
    /// How many times it is retried after a failure.
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// Idempotency key: submitting the same key again returns the same job.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Follow the job until it ends, like `job watch`.
    #[arg(long)]
    watch: bool,
    /// Wait for the job to end, at most this many milliseconds.
    #[arg(long, value_name = "MS", conflicts_with = "watch", value_parser = clap::value_parser!(u64).range(..=30_000))]
    wait: Option<u64>,
}

#[derive(Args)]
struct Id {
    /// ID of the job.
    id: String,
}

#[derive(Args)]
struct Retry {
    /// ID of the job.
    id: String,
    /// Lane whose workers run it, until the rollout changes; the rollout decides if absent. Not for assigned jobs.
    #[arg(long)]
    lane: Option<String>,
}

impl JobArgs {
    /// Sends the request to a node and prints the response.
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
            JobCommand::Retry(Retry { id, lane }) => {
                let query = lane.map(|lane| format!("?lane={}", escape(&lane)));
                change(server, &id, &format!("retry{}", query.unwrap_or_default())).await
            }
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
        explain(&job);
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

/// Prints why a job waits to standard error.
fn explain(job: &Value) {
    if let Some(reason) = table::waiting(job) {
        output::print_stderr(&format!("waiting: {reason}"));
    }
}

async fn change(server: &ApiClient, id: &str, how: &str) -> Result<(), CommandFailure> {
    let job = server.post(&format!("{}/{how}", path(id)), &json!({})).await?;
    print(server, &job, table::headline);
    explain(&job);
    Ok(())
}

fn path(id: &str) -> String {
    format!("/jobs/{}", escape(id))
}

fn print(server: &ApiClient, response: &Value, describe: fn(&Value) -> String) {
    if server.json {
        output::print_json(response);
    } else {
        output::print(&describe(response));
    }
}

/// Returns the outcome of a job if it has ended. Every end except success is a failure.
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
