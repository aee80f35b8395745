//! Rules for Rust files.

use std::collections::BTreeMap;

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

/// The most lines of a function. A longer one has steps that deserve names.
const LONGEST_FUNCTION: usize = 60;

#[test]
fn no_function_sprawls() {
    let sources = rust();
    let lengths: Vec<_> = sources
        .iter()
        .flat_map(|source| functions(source.production()).into_iter().map(|found| (found, &source.path)))
        .collect();
    assert!(lengths.len() > 1000, "the functions are not found");
    let violations: Vec<_> = lengths
        .iter()
        .filter(|((_, length), _)| *length > LONGEST_FUNCTION)
        .map(|((name, length), path)| format!("{path}: {name}: {length} lines"))
        .collect();
    report(&violations, "More than 60 lines: name the steps, and give each a function.");
}

/// Returns the name of each function with a body in a formatted file, and its number of lines.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let function = |begin: usize| {
        let line = lines[begin];
        let indent = &line[..line.len() - line.trim_start().len()];
        let words = ["pub", "const", "async", "fn"];
        let (head, rest) = line.trim_start().split_once("fn ")?;
        let is_head = head
            .split([' ', '(', ')'])
            .all(|word| word.is_empty() || words.contains(&word) || ["crate", "super"].contains(&word));
        let end = format!("{indent}}}");
        let length = lines[begin..].iter().position(|line| *line == end)? + 1;
        let opens = lines[begin..begin + length].iter().position(|line| line.ends_with('{'));
        let declared = lines[begin..begin + length].iter().position(|line| line.ends_with(';'));
        let has_body = opens.is_some_and(|opens| declared.is_none_or(|declared| opens < declared));
        let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
        (is_head && has_body).then_some((name, length))
    };
    (0..lines.len()).filter_map(function).collect()
}

#[test]
fn a_function_is_found_with_its_length() {
    let text = "pub(crate) async fn a<T>(\n    b: T,\n) -> u8 {\n    1\n}\n\ntrait C {\n    fn d(&self);\n    fn e(&self) {\n    }\n}\n";
    assert_eq!(functions(text), [("a".to_owned(), 5), ("e".to_owned(), 2)]);
}

/// The most lines of `impl` of one type, wherever its blocks are. A larger type has more than one responsibility.
const LONGEST_IMPL: usize = 300;

#[test]
fn no_type_sprawls() {
    let mut lines = BTreeMap::<(&str, String), usize>::new();
    let sources = rust();
    for source in &sources {
        let crates = ["cluster/src/", "worker/src/", "src/"];
        let Some(home) = crates.into_iter().find(|home| source.path.starts_with(home)) else { continue };
        for (name, length) in impl_blocks(source.production()) {
            *lines.entry((home, name)).or_default() += length;
        }
    }
    assert!(lines.len() > 200, "the blocks are not found");
    let violations: Vec<_> = lines
        .iter()
        .filter(|(_, length)| **length > LONGEST_IMPL)
        .map(|((home, name), length)| format!("{home}: {name}: {length} lines of `impl`"))
        .collect();
    report(&violations, "More than 300 lines of `impl`, over all files: give each responsibility a type.");
}

/// Returns the type of each `impl` block of a formatted file, and its number of lines.
fn impl_blocks(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = |line: &str| ["impl ", "impl<", "unsafe impl "].iter().any(|start| line.starts_with(start));
    let begins = (0..lines.len()).filter(|at| starts(lines[*at]));
    let block = |begin: usize| {
        let opens = lines[begin..].iter().position(|line| line.contains('{')).unwrap_or(0);
        let head = lines[begin..=begin + opens].join(" ");
        // rustfmt puts the end of a block that starts in the first column there too
        let ends = lines[begin..].iter().position(|line| *line == "}").unwrap_or(0);
        let length = if head.ends_with("{}") { opens } else { ends } + 1;
        (implementing_type(head.split('{').next().unwrap_or_default()), length)
    };
    begins.map(block).collect()
}

/// Returns the name of the type in the head of an `impl` block, without path, parameters and bounds.
fn implementing_type(head: &str) -> String {
    let head = head.trim_start_matches("unsafe ").trim_start_matches("impl");
    let head = head.split(" where ").next().unwrap_or_default();
    let mut depth = 0;
    let mut plain = String::new();
    let mut before = ' ';
    for c in head.chars() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
        before = c;
    }
    let named = plain.rsplit(" for ").next().unwrap_or_default();
    named.trim().rsplit("::").next().unwrap_or_default().to_owned()
}

#[test]
fn the_type_of_a_block_is_found() {
    let text = "impl<'a, F: Fn() -> Vec<u8>> std::fmt::Debug for a::Walk<'a, F>\nwhere\n    F: Send,\n{\n    x\n}\n\n\
                impl Walk<'_> {\n    fn f() {\n        for _ in 0..9 {}\n    }\n}\nimpl Mark for Walk<'_> {}\n";
    let walk = |lines| ("Walk".to_owned(), lines);
    assert_eq!(impl_blocks(text), [walk(6), walk(5), walk(1)]);
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

/// The files outside the engines that commit several keys at once, each with the reason why it does so rarely.
const ATOMIC_BATCHES: &[(&str, &str)] = &[
    ("bench/src/disk.rs", "it fills a data directory, and no NATS server"),
    ("cluster/src/rollout/change.rs", "an operator changes the weights of a pool, with their history"),
];

#[test]
fn no_path_of_many_requests_uses_an_atomic_batch() {
    let domains = rust().into_iter().filter(|source| !source.path.starts_with("cluster/src/engine/"));
    let batches = |line: &str| line.contains("BatchOp") || line.contains(".commit(");
    let found: Vec<String> = domains
        .filter(|source| source.code().any(|(_, line)| batches(line)))
        .map(|source| source.path)
        .collect();
    let named: Vec<&str> = ATOMIC_BATCHES.iter().map(|(path, _)| *path).collect();
    let unused = named.iter().filter(|path| !found.iter().any(|found| found == *path));
    assert_eq!(unused.count(), 0, "remove the files that use no batch any more: {named:?} beside {found:?}");
    let violations: Vec<_> = found.into_iter().filter(|path| !named.contains(&path.as_str())).collect();
    report(
        &violations,
        "A NATS server with file storage creates a store on disk per batch: write single keys.",
    );
}

/// Durations outside `timing.rs` and the configuration, each with the reason why no other process relies on it.
const OWN_DURATIONS: &[(&str, &str)] = &[
    (
        "cluster/src/resident.rs",
        "how long the row of an object without messages is kept, far longer than its page",
    ),
    ("src/roles/resident_pages.rs", "the pause before an event of a page is sent again"),
    ("worker/src/residence/eviction.rs", "bounds of the pause between two looks at all objects"),
    ("cluster/src/engine/faulty/mod.rs", "the bound of a sample, for tests"),
    ("cluster/src/engine/faulty/process.rs", "a fault's length, for tests"),
    ("cluster/src/engine/faulty/watch.rs", "a fault's length, for tests"),
    ("cluster/src/engine/memory/disk/writer.rs", "how often a write to a full disk is repeated"),
    (
        "cluster/src/engine/nats/batch.rs",
        "the smallest TTL of the server, after which it drops a carrier of checks",
    ),
    ("src/api/rollouts/taken_back.rs", "a pause between two looks within Timing::deliver"),
    ("cluster/src/engine/nats/bus.rs", "a pause before a subscription that was left is ended"),
    ("cluster/src/engine/nats/connect.rs", "the reply router's own tick, and where its back-off starts"),
    ("cluster/src/engine/nats/kv.rs", "a pause between two attempts within Timing::operation"),
    ("cluster/src/engine/nats/queue.rs", "a pause between two attempts within Timing::operation"),
    ("cluster/src/engine/nats/streams.rs", "how long the server keeps a deletion's marker"),
    ("cluster/src/simulation.rs", "the times at which a simulation begins"),
    ("cluster/src/state/feed/mod.rs", "a pause before a request to the engine is repeated"),
    ("src/edge/listener.rs", "a pause of the accept loop"),
    ("src/edge/anonymous_limit.rs", "the minute of limits.anonymous_pages_per_ip_per_minute"),
    ("src/edge/heartbeat.rs", "the bounds of a tick, which is derived from websocket.ping_ms"),
    ("worker/src/demo.rs", "the interval of a handler's progress reports"),
    ("src/mount/upstream/socket.rs", "a pause between two attempts within Timing::upstream_connect"),
    ("src/mount/static_files/recent.rs", "how long a file stays in the memory of one process"),
    ("src/mount/static_files/version.rs", "how exact the times of files are"),
    ("src/calls/mod.rs", "the longest timeout that a caller may request"),
    ("src/cli/dev/nats.rs", "how long a tool of developers waits for its server"),
    ("src/cli/dev/process.rs", "how long a tool of developers waits for the end of its processes"),
    ("src/cli/dev/proxy.rs", "a pause of the accept loop"),
    ("src/cli/dev/ready.rs", "a pause between two looks of a tool of developers, and the bound of one"),
    ("src/cli/dev/watch.rs", "changes of files within this time are one change"),
    ("src/sdk/ctx.rs", "the interval of a handler's progress reports"),
    ("src/sdk/jobs.rs", "the pauses between two looks of a program that waits for a job"),
    ("src/sdk/tree.rs", "a pause before a change is tried again"),
    ("src/testing/nats.rs", "how long a test waits for its server"),
    ("src/cli/rollout/watch.rs", "a pause between two looks of a tool of operators"),
    (
        "worker/src/runtime/child/adapter.rs",
        "pauses and waits for a program that only its own guard waits for",
    ),
    ("worker/src/runtime/child/guard.rs", "a pause between two looks at /proc"),
    ("worker/src/runtime/child/handshake.rs", "a pause after an error of the system"),
    ("worker/src/runtime/child/members.rs", "when an idle user may get another child of the same process"),
    ("worker/src/runtime/child/restarts.rs", "the back-off of a process that only its own parent waits for"),
    ("worker/src/runtime/child/scaling.rs", "the wait that adds a child of the same process"),
];

#[test]
fn time_outs_live_in_one_place() {
    let mut violations = Vec::new();
    for source in rust() {
        let homes = ["cluster/src/timing.rs", "src/config/", "bench/", "tests/", "examples/"];
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
