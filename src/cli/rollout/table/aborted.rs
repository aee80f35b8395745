//! Formats aborts as text.

use serde_json::Value;

use super::{items, text};
use crate::cli::output;

/// Formats what an abort has done.
pub(in crate::cli::rollout) fn aborted(abort: &Value) -> String {
    let count = |kind: &str| {
        let of: Vec<_> =
            items(&abort["processes"]).iter().filter(|process| process["kind"] == kind).collect();
        (of.iter().filter(|process| !process["took_ms"].is_null()).count(), of.len())
    };
    let ((nodes, of_nodes), (workers, of_workers)) = (count("node"), count("workers"));
    let workers = match of_workers {
        0 => String::new(),
        of => format!(" and {workers}/{of} worker processes"),
    };
    let took = abort["took_ms"].as_f64().map(|ms| format!(" in {} ms", ms.ceil())).unwrap_or_default();
    let written = match abort["written"].as_u64() {
        Some(revision) => format!("written as revision {revision}"),
        None => {
            "not written yet, because the cluster stores nothing: the nodes write it when it does".to_owned()
        }
    };
    let said = format!(
        "pool {}: lane {} of revision {} is aborted, applied by {nodes}/{of_nodes} nodes{workers}{took}\n{written}",
        text(&abort["pool"]),
        text(&abort["lane"]),
        abort["revision"],
    );
    [Some(said), taken_back(&abort["taken_back"])].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Formats the processes that have not applied an abort.
pub(in crate::cli::rollout) fn not_aborted(abort: &Value) -> String {
    let late = items(&abort["processes"]).iter().filter(|process| process["took_ms"].is_null());
    let late: Vec<_> = late.map(|process| text(&process["process"])).collect();
    format!("not applied yet by {}", late.join(", "))
}

/// Formats what an abort has taken back:
/// `taken back from canary: 37 users with open pages; 12 jobs, 4 of them tried before; 2 jobs that run will end there; 0 left`.
pub(in crate::cli::rollout) fn taken_back(taken: &Value) -> Option<String> {
    let lane = taken["lane"].as_str()?;
    let users = output::count(taken["users"].as_u64().unwrap_or_default(), "user");
    let Some(jobs) = taken["jobs"].as_u64() else {
        return Some(format!("taken back from {lane}: {users} with open pages; its jobs were not counted"));
    };
    let number = |name: &str| taken[name].as_u64().unwrap_or_default();
    Some(format!(
        "taken back from {lane}: {users} with open pages; {}, {} of them tried before; {} end there; {} left",
        output::count(jobs, "waiting job"),
        number("tried"),
        match number("running") {
            1 => "1 job that runs will".to_owned(),
            running => format!("{running} jobs that run will"),
        },
        number("left"),
    ))
}
