//! Formats jobs as text.

use serde_json::Value;

use crate::cli::output::{self, plain};

/// Formats the id, which comes first so that scripts can cut it off, and the state.
pub(super) fn headline(job: &Value) -> String {
    let stopping = if job["cancelling"] == true { ", cancelling" } else { "" };
    format!("{} {}{stopping}", text(&job["id"]), text(&job["state"]))
}

/// Formats all details of a job.
pub(super) fn job(job: &Value) -> String {
    let members = [
        ("kind", &job["kind"]),
        ("user", &job["user"]),
        ("page", &job["page"]),
        ("pool", &job["pool"]),
        ("lane", &job["lane"]),
        ("exec mode", &job["exec_mode"]),
        ("worker", &job["worker"]),
        ("release", &job["release"]),
        ("created", &job["created_at"]),
        ("run at", &job["run_at"]),
        ("started", &job["started_at"]),
        ("ended", &job["ended_at"]),
    ];
    let attempts = match job["retries"].as_u64() {
        Some(1) => format!("{}, 1 retry", job["attempts"]),
        _ => format!("{}, {} retries", job["attempts"], job["retries"]),
    };
    let mut facts = vec![("job", headline(job)), ("attempts", attempts)];
    facts.extend(members.map(|(name, value)| (name, text(value))));
    if is_running(job) && job["progress"].is_object() {
        facts.push(("progress", progress(&job["progress"])));
    }
    if let Some(reason) = waiting(job) {
        facts.push(("waits", reason));
    }
    if job["error"].is_object() {
        facts.push(("error", error(&job["error"])));
    }
    if let Some(result) = job.get("result") {
        facts.push(("result", result.to_string()));
    }
    let shown = facts.into_iter().filter(|(_, value)| value != "-");
    shown.map(|(name, value)| format!("{name:<10} {value}")).collect::<Vec<_>>().join("\n")
}

/// Formats jobs, one per line.
pub(super) fn jobs(list: &Value) -> String {
    let rows: Vec<Vec<String>> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|job| {
            let progress = job["progress"]["progress"].as_f64().filter(|_| is_running(job));
            let percent = progress.map_or_else(|| "-".to_owned(), percent);
            let cells = ["user", "lane", "worker", "created_at"].map(|name| text(&job[name]));
            let first =
                [text(&job["id"]), text(&job["kind"]), text(&job["state"]), percent, text(&job["attempts"])];
            first.into_iter().chain(cells).collect()
        })
        .collect();
    output::table(
        &["JOB", "KIND", "STATE", "PROGRESS", "ATTEMPTS", "USER", "LANE", "WORKER", "CREATED"],
        &rows,
    )
}

/// Returns the reason why a job did not succeed.
pub(super) fn why(job: &Value) -> String {
    let what = format!("job {} is {}", text(&job["id"]), text(&job["state"]));
    match &job["error"] {
        Value::Object(_) => format!("{what}: {}", error(&job["error"])),
        _ => what,
    }
}

/// Returns the reason why a job waits, if the server knows it.
pub(super) fn waiting(job: &Value) -> Option<String> {
    job["waiting"]["message"].as_str().map(plain)
}

/// Returns whether a job is still open: the progress of a finished job no longer changes.
fn is_running(job: &Value) -> bool {
    job["state"] == "running"
}

/// Formats progress: ` 42% half of it is done`.
pub(super) fn progress(progress: &Value) -> String {
    let percent = percent(progress["progress"].as_f64().unwrap_or_default());
    let message = progress["message"].as_str().map(plain).unwrap_or_default();
    format!("{percent:>4} {message}").trim_end().to_owned()
}

fn percent(progress: f64) -> String {
    format!("{:.0}%", (progress * 100.0).floor())
}

fn error(error: &Value) -> String {
    format!("{} ({})", text(&error["message"]), text(&error["code"]))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn running() -> Value {
        json!({
            "id": "1aB", "kind": "hash", "state": "running", "attempts": 2, "retries": 3,
            "progress": {"progress": 0.428, "message": "half\u{1b}[2J"}, "lane": "stable", "pool": "default",
            "exec_mode": "any", "created_at": "2026-01-02T03:04:05Z",
            "error": {"code": "failed", "message": "no", "retryable": true},
        })
    }

    #[test]
    fn a_job_says_what_is_known_of_it_and_controls_no_terminal() {
        assert_eq!(
            job(&running()),
            "job        1aB running\nattempts   2, 3 retries\nkind       hash\npool       default\n\
             lane       stable\nexec mode  any\ncreated    2026-01-02T03:04:05Z\nprogress    42% half [2J\n\
             error      no (failed)"
        );
    }

    #[test]
    fn a_list_has_a_line_for_each_job() {
        assert_eq!(
            jobs(&json!({"items": [running()]})),
            "JOB  KIND  STATE    PROGRESS  ATTEMPTS  USER  LANE    WORKER  CREATED\n\
             1aB  hash  running  42%       2         -     stable  -       2026-01-02T03:04:05Z"
        );
    }

    #[test]
    fn a_bad_end_says_why() {
        let mut dead = running();
        dead["state"] = "dead".into();
        assert_eq!(why(&dead), "job 1aB is dead: no (failed)");
        assert_eq!(why(&json!({"id": "1aB", "state": "cancelled"})), "job 1aB is cancelled");
    }
}
