//! Rules for documents.

use std::collections::{BTreeMap, BTreeSet};

use pagewire_cluster::code::ErrorCode;

use super::{report, root, rust, tree};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the text between two marks, on every line that has both.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(start)?.1.split_once(end).map(|(found, _)| found))
        .collect()
}

#[test]
fn the_tree_knows_no_machine() {
    let here = root().to_string_lossy().into_owned();
    let home = std::env::var("HOME").unwrap_or_else(|_| here.clone());
    let roots = [here, format!("{home}/"), "/home/".to_owned(), "/root/".to_owned(), "/Users/".to_owned()];
    let mut violations = Vec::new();
    for source in tree().iter().filter(|source| source.path != "tests/it/tidy/documents.rs") {
        for root in roots.iter().filter(|root| root.len() > 2) {
            if source.text.contains(root) {
                violations.push(format!("{} names {root}", source.path));
            }
        }
    }
    report(&violations, "A path of one machine is invalid on another: write it relative to the project.");
}

#[test]
fn packages_come_from_wherever_the_machine_gets_them() {
    // Cargo.lock names the index in the only form that every mirror replaces
    let marks = ["\"resolved\": \"http", "index-url", "registry = \"http", "registry=http"];
    let mut violations = Vec::new();
    for source in tree().iter().filter(|source| source.path != "tests/it/tidy/documents.rs") {
        for mark in marks.iter().filter(|mark| source.text.contains(**mark)) {
            violations.push(format!("{}: {mark}", source.path));
        }
    }
    report(
        &violations,
        "No registry host in the tree; npm: `omit-lockfile-registry-resolved=true` in .npmrc.",
    );
}

#[test]
fn every_close_code_is_documented() {
    let document = read("docs/protocol.md");
    let close = read("src/protocol/close.rs");
    let mut codes: Vec<_> = between(&close, " = ", ",").into_iter().filter(|c| c.len() == 4).collect();
    codes.retain(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    assert!(codes.len() > 15, "the codes are not where this test reads them");
    let missing: Vec<_> = codes.into_iter().filter(|code| !document.contains(&format!("`{code}`"))).collect();
    let missing: Vec<_> = missing.into_iter().map(str::to_owned).collect();
    report(&missing, "Give the code a row in docs/protocol.md.");
}

#[test]
fn the_documented_error_codes_are_those_of_the_table() {
    let document = read("docs/protocol.md");
    let (_, section) = document.split_once("## Error codes").expect("a section");
    let documented: BTreeSet<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<_> = ErrorCode::ALL.iter().map(|code| row(*code)).collect();
    let rows: BTreeSet<_> = rows.iter().map(String::as_str).collect();
    let differences: Vec<_> = rows.symmetric_difference(&documented).map(|row| (*row).to_owned()).collect();
    report(&differences, "docs/protocol.md has the rows of cluster/src/code.rs.");
}

fn row(code: ErrorCode) -> String {
    let status = code.status().map_or("–".to_owned(), |status| status.to_string());
    let retryable = if code.retryable() { "yes" } else { "no" };
    format!("| `{}` | {status} | {retryable} | {} |", code.text(), code.meaning())
}

#[test]
fn every_metric_is_documented() {
    let document = read("docs/operations.md");
    let sources = rust();
    let metrics = sources.iter().filter(|source| source.path.starts_with("src/telemetry/"));
    let names: Vec<_> = metrics
        .flat_map(|source| {
            ["register(\"", "encode_descriptor(\""].map(|call| between(&source.text, call, "\""))
        })
        .flatten()
        .collect();
    assert!(names.len() > 12, "the metrics are not where this test reads them");
    let missing: Vec<_> =
        names.into_iter().filter(|name| !document.contains(&format!("`pagewire_{name}"))).collect();
    let missing: Vec<_> = missing.into_iter().map(str::to_owned).collect();
    report(&missing, "Give the metric a row in docs/operations.md.");
}

#[test]
fn every_link_leads_somewhere() {
    let documents: Vec<_> = tree().into_iter().filter(|source| source.path.ends_with(".md")).collect();
    let place = |path: &str| root().join(path).canonicalize().expect("a document");
    let known: BTreeMap<_, _> = documents.iter().map(|d| (place(&d.path), anchors(&d.text))).collect();
    let mut violations = Vec::new();
    for document in &documents {
        let own = place(&document.path);
        let links = document.text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => Ok(own.clone()),
                file => own.with_file_name(file).canonicalize(),
            };
            let has_anchor = |target| known.get(&target).is_none_or(|known| known.contains(anchor));
            if !target.is_ok_and(|target| anchor.is_empty() || has_anchor(target)) {
                violations.push(format!("{}: {link}", document.path));
            }
        }
    }
    report(&violations, "Correct the link: the file, or the heading after #.");
}

/// Returns the anchors of the headings of a document, by the rule of GitHub.
fn anchors(text: &str) -> BTreeSet<String> {
    let (mut anchors, mut is_code) = (BTreeSet::new(), false);
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'));
        let Some(title) = title.filter(|_| !is_code) else { continue };
        let letters = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name = letters.collect::<String>().to_lowercase().replace(' ', "-");
        let mut names = std::iter::once(name.clone()).chain((1..).map(|number| format!("{name}-{number}")));
        let free = names.find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

#[test]
fn an_anchor_is_the_heading_in_small_letters_without_punctuation() {
    let text = "# What is `it`, then?\n## Users\n### Users\n```\n# no heading\n```\n#no heading\n";
    let expected = ["what-is-it-then", "users", "users-1"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
}

#[test]
fn every_test_that_the_loss_table_names_exists() {
    let document = read("docs/delivery.md");
    let tests: BTreeSet<_> = rust().iter().flat_map(|s| functions(&s.text)).collect();
    let named: Vec<_> =
        document.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("test:")).collect();
    assert!(named.len() > 5, "the loss table names its tests as `test:name`");
    let missing: Vec<_> =
        named.into_iter().filter(|name| !tests.contains(*name)).map(str::to_owned).collect();
    report(&missing, "docs/delivery.md names a test that does not exist.");
}

fn functions(text: &str) -> Vec<String> {
    between(text, "fn ", "(").into_iter().map(str::to_owned).collect()
}

#[test]
fn every_module_is_on_the_code_map() {
    let map = read("ARCHITECTURE.md");
    let mut missing = BTreeSet::new();
    for source in rust() {
        let (crate_root, inside) = match source.path.split_once("src/") {
            Some((root @ ("" | "cluster/" | "worker/"), inside)) => (root, inside),
            _ => continue,
        };
        if source.is_test() {
            continue;
        }
        let module = inside.split('/').next().unwrap_or_default();
        let module = module.trim_end_matches(".rs");
        let named = |end: &str| map.contains(&format!("`{crate_root}src/{module}{end}`"));
        if !["lib", "main", "trace"].contains(&module) && !named("") && !named(".rs") {
            missing.insert(source.path);
        }
    }
    let missing: Vec<_> = missing.into_iter().collect();
    report(
        &missing,
        "Give the module a row in the code map of ARCHITECTURE.md: its responsibility, and the things it never does.",
    );
}

#[test]
fn every_module_of_the_code_map_exists() {
    let map = read("ARCHITECTURE.md");
    let paths = map.split('`').skip(1).step_by(2).filter(|code| {
        ["src/", "cluster/", "worker/", "clients/", "tests/", "docs/", "deploy/", "examples/"]
            .iter()
            .any(|top| code.starts_with(top))
    });
    let missing: Vec<_> = paths.filter(|path| !root().join(path).exists()).map(str::to_owned).collect();
    report(&missing, "ARCHITECTURE.md names a path that does not exist.");
}
