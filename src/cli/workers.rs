//! `pagewire workers`: lists and drains workers, and shows and lifts the quarantine of kinds of work.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CommandFailure;
use super::api_client::{ApiClient, escape};
use super::output;
use super::users::rows;
use crate::calls::DEFAULT_POOL;

/// Arguments of `workers`.
#[derive(Args)]
pub(super) struct WorkersArgs {
    #[command(subcommand)]
    command: Option<WorkersCommand>,
    #[command(flatten)]
    server: ApiClient,
}

#[derive(Subcommand)]
enum WorkersCommand {
    /// List the live workers (the default).
    List,
    /// Drain a worker: it takes no new work, finishes its running work and exits.
    Drain {
        /// ID of the worker.
        id: String,
    },
    /// List the kinds of work whose executors died.
    Quarantine,
    /// Let a kind of work run again whose executors died.
    Lift {
        /// Name of the kind.
        kind: String,
        /// Pool of the workers.
        #[arg(long, default_value = DEFAULT_POOL)]
        pool: String,
    },
}

impl WorkersArgs {
    /// Sends the request to a node and prints the response.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let server = &self.server;
        let (response, words) = match self.command {
            None | Some(WorkersCommand::List) => {
                let list = server.get("/workers").await?;
                let words = table(&list);
                (list, words)
            }
            Some(WorkersCommand::Quarantine) => {
                let list = server.get("/quarantine").await?;
                let words = quarantine_table(&list);
                (list, words)
            }
            Some(WorkersCommand::Lift { kind, pool }) => {
                let path = format!("/quarantine/{}/{}", escape(&pool), escape(&kind));
                (server.remove(&path).await?, format!("{kind} runs again in the pool {pool}"))
            }
            Some(WorkersCommand::Drain { id }) => {
                let response = server.post(&format!("/workers/{}/drain", escape(&id)), &json!({})).await?;
                (
                    response,
                    format!("worker {id} accepts no new work and exits when its running work has ended"),
                )
            }
        };
        if server.json {
            output::print_json(&response);
        } else {
            output::print(&words);
        }
        Ok(())
    }
}

fn quarantine_table(list: &Value) -> String {
    let columns = ["pool", "kind", "quarantined", "deaths", "release", "died_at", "log"];
    let titles = ["POOL", "KIND", "QUARANTINED", "DEATHS", "RELEASE", "DIED", "LOG"];
    output::table(&titles, &rows(list, &columns))
}

fn table(list: &Value) -> String {
    let columns = [
        "worker",
        "name",
        "pool",
        "lane",
        "release",
        "type",
        "slots",
        "state",
        "host",
        "process",
        "node",
        "offset_ms",
        "started_at",
    ];
    let titles = [
        "WORKER",
        "NAME",
        "POOL",
        "LANE",
        "RELEASE",
        "TYPE",
        "SLOTS",
        "STATE",
        "HOST",
        "PROCESS",
        "NODE",
        "OFFSET_MS",
        "STARTED",
    ];
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    output::table(&titles, &rows(list, &columns)) + &output::clock_warnings(items, "worker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suspected_kind_has_its_line() {
        let kind = json!({
            "pool": "default", "kind": "resize", "quarantined": true, "deaths": 3, "log": "out of memory",
            "release": "r2", "died_at": "2026-01-02T03:04:05Z"
        });
        assert_eq!(
            quarantine_table(&json!({"items": [kind]})),
            "POOL     KIND    QUARANTINED  DEATHS  RELEASE  DIED                  LOG\n\
             default  resize  true         3       r2       2026-01-02T03:04:05Z  out of memory"
        );
    }

    #[test]
    fn each_worker_has_its_line() {
        let worker = json!({
            "worker": "1aB", "name": "gpu", "pool": "default", "lane": "canary", "release": "r2", "type": "both",
            "slots": 16, "state": "unlisted", "gets": [], "draining": false,
            "methods": ["echo"], "host": "h", "process": 7, "node": "p01", "offset_ms": -300_000, "started_at": "2026-01-02T03:04:05Z"
        });
        assert_eq!(
            table(&json!({"items": [worker]})),
            "WORKER  NAME  POOL     LANE    RELEASE  TYPE  SLOTS  STATE     HOST  PROCESS  NODE  OFFSET_MS  STARTED\n\
             1aB     gpu   default  canary  r2       both  16     unlisted  h     7        p01   -300000    2026-01-02T03:04:05Z\n\
             warning: the clock of worker 1aB is 300.0 s behind the clock of the cluster"
        );
    }
}
