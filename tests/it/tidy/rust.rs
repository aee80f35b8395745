//! Rules for Rust files.

use super::{report, rust};

/// The most lines of a file. A longer one hides a concept that needs a file of its own.
const LONGEST: usize = 400;

#[test]
fn every_module_says_what_it_owns() {
    let violations: Vec<_> = rust()
        .into_iter()
        .filter(|s| !s.text.starts_with("//! ") && !s.path.ends_with("/tests.rs"))
        .map(|source| source.path)
        .collect();
    report(&violations, "Open the file with `//!`: its responsibility, and the things it never does.");
}

#[test]
fn no_file_sprawls() {
    let violations: Vec<_> = rust()
        .iter()
        .map(|source| (source.text.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    report(&violations, "More than 400 lines: find the missing concept and give it a file.");
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["util", "utils", "helper", "helpers", "common", "manager", "core", "misc"];
    let violations: Vec<_> = rust()
        .into_iter()
        .filter(|source| source.path.trim_end_matches(".rs").split('/').any(|part| drawers.contains(&part)))
        .map(|source| source.path)
        .collect();
    report(&violations, "Name the module after its purpose; a general name collects everything.");
}

/// `(text, files where it is allowed, reason)`: forbidden in all other production code.
const PLACES: [(&str, &[&str], &str); 9] = [
    (".unwrap()", &[], "a node never panics: return the error, or `unwrap_or_else(PoisonError::into_inner)`"),
    (".expect(\"", &[], "a node never panics: return the error"),
    ("panic!(", &[], "a node never panics: return the error"),
    ("#[allow(", &[], "write `#[expect(lint, reason = \"…\")]`, which complains when it is no longer needed"),
    (
        "#![allow(",
        &[],
        "write `#[expect(lint, reason = \"…\")]`, which complains when it is no longer needed",
    ),
    // the NATS adapter names its own streams
    (
        "\"pw.",
        &["cluster/src/subject.rs", "cluster/src/engine/nats/streams.rs"],
        "subjects and keys are made in cluster/src/subject.rs",
    ),
    ("SystemTime::now()", &["cluster/src/clock.rs"], "a process has one wall clock: cluster/src/clock.rs"),
    ("::now_utc()", &[], "a process has one wall clock: cluster/src/clock.rs"),
    ("std::process::exit", &["src/main.rs"], "only main ends the process: return an exit code"),
];

#[test]
fn some_things_have_one_place() {
    let mut violations = Vec::new();
    for source in rust() {
        for (number, line) in source.code() {
            for (text, homes, remedy) in PLACES {
                if line.contains(text) && !homes.contains(&source.path.as_str()) {
                    violations.push(format!("{}:{number}: `{text}`: {remedy}", source.path));
                }
            }
        }
    }
    report(&violations, "Each of these has exactly one place.");
}

#[test]
fn jobs_use_no_atomic_batch() {
    let jobs = rust().into_iter().filter(|source| source.path.starts_with("cluster/src/job/"));
    let batches = jobs.filter(|source| source.code().any(|(_, line)| line.contains("BatchOp")));
    let violations: Vec<_> = batches.map(|source| source.path).collect();
    report(
        &violations,
        "A NATS server with file storage creates a store on disk per batch: write single keys.",
    );
}

/// Durations outside `timing.rs` and the configuration, each with the reason why no other process relies on it.
const OWN_DURATIONS: &[(&str, &str)] = &[
    ("cluster/src/engine/faulty/mod.rs", "a fault's length, for tests"),
    ("cluster/src/engine/faulty/watch.rs", "a fault's length, for tests"),
    ("cluster/src/engine/memory/disk/writer.rs", "how often a write to a full disk is repeated"),
    (
        "cluster/src/engine/nats/batch.rs",
        "the smallest TTL of the server, after which it drops a carrier of checks",
    ),
    ("cluster/src/engine/nats/connect.rs", "the reply router's own tick, and where its back-off starts"),
    ("cluster/src/engine/nats/kv.rs", "a pause between two attempts within Timing::operation"),
    ("cluster/src/engine/nats/queue.rs", "a pause between two attempts within Timing::operation"),
    ("cluster/src/engine/nats/streams.rs", "how long the server keeps a deletion's marker"),
    ("cluster/src/state/feed/mod.rs", "a pause before a request to the engine is repeated"),
    ("src/edge/listener.rs", "a pause of the accept loop"),
    ("src/edge/newcomers.rs", "the minute of limits.anonymous_pages_per_ip_per_minute"),
    ("src/edge/heartbeat.rs", "the bounds of a tick, which is derived from websocket.ping_ms"),
    ("src/calls/handlers.rs", "the interval of a handler's progress reports"),
    ("src/calls/mod.rs", "the longest timeout that a caller may request"),
    ("src/edge/mod.rs", "a pause between two batches of a drain, within Timing::drain"),
];

#[test]
fn time_outs_live_in_one_place() {
    let mut violations = Vec::new();
    for source in rust() {
        let homes = ["cluster/src/timing.rs", "src/config/", "bench/", "tests/"];
        let at_home = homes.iter().any(|home| source.path.starts_with(home));
        if at_home || OWN_DURATIONS.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        for (number, line) in source.code() {
            let literal = line.match_indices("Duration::from_").any(|(at, _)| {
                let argument = line[at..].split_once('(').map_or("", |(_, argument)| argument);
                argument.starts_with(|c: char| c.is_ascii_digit())
            });
            if literal {
                violations.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    let remedy = "Two processes rely on it: into cluster/src/timing.rs, with a short value for tests. \
                  A user chooses it: into the configuration. Neither: into OWN_DURATIONS, with the reason.";
    report(&violations, remedy);
}

#[test]
fn nothing_is_left_for_later() {
    // split, so that this file does not match itself
    let marks = [concat!("FIX", "ME"), concat!("X", "XX"), concat!("TO", "DO"), concat!("todo", "!(")];
    let mut violations = Vec::new();
    for source in super::tree() {
        for (index, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                violations.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    report(&violations, "Finish it, or document the deliberate absence in docs/.");
}
