//! Checks which module may import which other one.
//!
//! `main → sdk → cli → roles → {edge → mount, api} → command → {calls, pages} → protocol`, all of them → `cluster`;
//! inside `cluster`: domains → engine and leaves.

use super::{Source, report, rust};

/// A module of the service, and the modules that it may use.
const SERVICE: [(&str, &[&str]); 17] = [
    ("lib", &[]),
    ("main", &["sdk"]),
    ("testing", &["sdk", "config"]),
    ("sdk", &["cli", "roles", "mount", "config"]),
    ("cli", &["roles", "command", "calls", "pages", "edge", "protocol", "telemetry", "auth", "config"]),
    (
        "roles",
        &["edge", "mount", "api", "command", "calls", "pages", "protocol", "telemetry", "auth", "config"],
    ),
    ("edge", &["mount", "command", "calls", "pages", "protocol", "telemetry", "auth", "config"]),
    ("mount", &["telemetry", "config"]),
    ("api", &["command", "calls", "pages", "protocol", "telemetry", "auth", "config"]),
    ("command", &["calls", "pages", "protocol", "telemetry", "auth", "config"]),
    ("calls", &["protocol", "telemetry", "auth", "config", "similar_name"]),
    ("pages", &["protocol", "telemetry", "auth", "config"]),
    ("telemetry", &["protocol", "config"]),
    ("auth", &["config"]),
    ("config", &["similar_name"]),
    ("protocol", &[]),
    ("similar_name", &[]),
];

/// The same inside `cluster`, where leaves use only leaves.
const CLUSTER: [(&str, &[&str]); 23] = [
    ("lib", &[]),
    (
        "job",
        &[
            "rollout", "worker", "peer", "lease", "engine", "wire", "subject", "id", "code", "timing",
            "trace", "clock",
        ],
    ),
    ("worker", &["lease", "engine", "wire", "subject", "id", "timing", "clock"]),
    ("peer", &["registry", "lease", "engine", "wire", "subject", "id", "timing", "trace", "clock"]),
    ("registry", &["lease", "engine", "wire", "subject", "id", "timing", "trace", "clock", "table"]),
    ("lease", &["engine", "wire", "subject", "id", "timing", "trace", "clock"]),
    ("state", &["engine", "wire", "subject", "id", "code", "timing", "clock", "table"]),
    ("rollout", &["keyring", "peer", "engine", "wire", "subject", "id", "timing", "clock"]),
    ("resident", &["worker", "engine", "wire"]),
    ("lock", &["engine", "wire", "subject", "id", "code", "timing"]),
    ("login", &["engine", "wire", "subject", "timing"]),
    ("register", &["engine", "wire", "subject", "id", "code", "timing", "clock", "table"]),
    ("keyring", &["engine", "wire", "subject", "id", "timing", "clock"]),
    ("engine", &["subject", "id", "timing", "trace", "clock", "table", "simulation"]),
    ("wire", &["id", "code"]),
    ("subject", &["id"]),
    ("trace", &[]),
    ("id", &["simulation"]),
    ("code", &[]),
    ("timing", &[]),
    ("clock", &["simulation"]),
    ("table", &[]),
    ("simulation", &[]),
];

#[test]
fn the_modules_of_a_worker_form_no_circle() {
    let mut imports: Vec<(String, Vec<String>)> = Vec::new();
    for source in rust().into_iter().filter(|source| !source.is_test()) {
        let Some(inside) = source.path.strip_prefix("worker/src/") else { continue };
        let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        let mut used = used_modules(&source, "crate::");
        if !inside.contains('/') {
            used.extend(used_modules(&source, "super::"));
        }
        used.retain(|used| *used != module);
        imports.push((module, used));
    }
    assert!(imports.len() > 10, "the modules are not found");
    // a module that uses no other one is taken away, again and again; what stays is in a circle or leads to one
    loop {
        let left: Vec<String> = imports.iter().map(|(module, _)| module.clone()).collect();
        let before = imports.len();
        imports.retain(|(_, used)| used.iter().any(|used| left.contains(used)));
        if imports.len() == before {
            break;
        }
    }
    let circle: Vec<String> =
        imports.into_iter().map(|(module, used)| format!("{module} uses {used:?}")).collect();
    report(
        &circle,
        "Modules of worker/src import each other: move what they share into a module below both.",
    );
}

#[test]
fn imports_run_one_way() {
    let mut violations = Vec::new();
    for source in rust() {
        let (inside, layers): (_, &[(&str, &[&str])]) =
            match (source.path.strip_prefix("cluster/src/"), source.path.strip_prefix("src/")) {
                (Some(inside), _) => (inside, &CLUSTER),
                (_, Some(inside)) => (inside, &SERVICE),
                _ => continue,
            };
        let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let allowed = layers.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed);
        let Some(allowed) = allowed else {
            violations
                .push(format!("{}: `{module}` has no layer yet: give it a row in layers.rs", source.path));
            continue;
        };
        // the binary refers to the library as `pagewire`
        for used in used_modules(&source, "crate::").into_iter().chain(used_modules(&source, "pagewire::")) {
            let known = layers.iter().any(|(name, _)| *name == used);
            if known && used != module && !allowed.contains(&used.as_str()) {
                violations.push(format!("{}: `{module}` uses `{used}`", source.path));
            }
        }
    }
    report(&violations, "Imports run one way (ARCHITECTURE.md): move the shared code down, or pass it in.");
}

/// Returns the first segment of every path behind a prefix, including `crate::{a::b, c}`.
fn used_modules(source: &Source, prefix: &str) -> Vec<String> {
    let text: String = source.code().flat_map(|(_, line)| [line, "\n"]).collect();
    let mut used = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(heads_of_group(group)),
            None => used.push(identifier(rest)),
        }
    }
    used
}

fn heads_of_group(group: &str) -> Vec<String> {
    let mut heads = vec![identifier(group.trim_start())];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn a_grouped_import_is_seen_whole() {
    let text = "use crate::{auth::{self, Token}, edge, config};\nuse crate::roles::Node;\n".to_owned();
    let source = Source { path: "src/x.rs".to_owned(), text };
    assert_eq!(used_modules(&source, "crate::"), ["auth", "edge", "config", "roles"]);
}

#[test]
fn a_foreign_library_stays_in_its_folder() {
    let homes: [(&str, &[&str]); 5] = [
        ("async_nats", &["cluster/src/engine/nats/", "bench/src/"]),
        ("redb", &["cluster/src/engine/memory/disk/"]),
        ("axum", &["src/edge/", "src/api/", "examples/", "tests/"]),
        ("tower_http", &["src/mount/static_files"]),
        ("tungstenite", &["tests/", "bench/"]),
    ];
    let mut violations = Vec::new();
    for source in rust().iter().filter(|source| !source.path.starts_with("tests/it/tidy/")) {
        for (library, homes) in homes {
            let at_home = (library == "tungstenite" && source.is_test())
                || homes.iter().any(|home| source.path.starts_with(home));
            let names = source.text.lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//") && line.contains(&format!("{library}::"))
            });
            if names && !at_home {
                violations.push(format!(
                    "{} names {library}, whose home is {}",
                    source.path,
                    homes.join(", ")
                ));
            }
        }
    }
    report(&violations, "A library is used in one folder only: use the types of that folder, or extend it.");
}
