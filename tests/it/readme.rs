//! Checks that the commands in the README work.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use tokio::process::Command;

use crate::environment::children::result;
use crate::environment::{Dev, Node, Page};

/// Returns the blocks of the README in a language.
fn blocks(language: &str) -> Vec<String> {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let mark = format!("```{language}\n");
    let blocks = readme.split(&mark).skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.to_owned()).collect()
}

/// Returns the lines of the blocks marked `sh`.
fn typed() -> Vec<String> {
    blocks("sh").iter().flat_map(|block| block.lines()).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_application_of_the_readme_runs() {
    let dev = Dev::setup();
    dev.write("app.py", &blocks("python")[0]);
    let dev = dev.launch(&["app:app", "--reload"]);
    dev.shows("handlers: count, greet").await;
    assert_eq!(result(&dev.api(), "greet", json!({"name": "Ann"})).await, "Hello Ann");
    assert_eq!(result(&dev.api(), "count", json!({"to": 10})).await, 45);
}

#[tokio::test]
async fn every_command_of_the_readme_works() {
    let node = Node::start().await;
    let mut page = Page::open(&node).await;
    let program = Path::new(env!("CARGO_BIN_EXE_pagewire")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a PATH"));
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let mut environment = BTreeMap::from([("PATH", path), ("PAGEWIRE_URL", node.url())]);
    let lines = typed();
    let mut ran = 0;
    for line in &lines {
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            environment.insert(name, value.trim_matches('"').to_owned());
        } else if line.starts_with("pagewire ") {
            let mut shell = Command::new("sh");
            shell.args(["-c", line]).current_dir(nowhere.path()).envs(&environment);
            let output = shell.output().await.expect("a shell");
            assert!(output.status.success(), "{line}: {output:?}");
            ran += 1;
        }
    }
    assert!(ran >= 7, "the README has its commands in blocks marked sh: {lines:?}");
    assert_eq!(page.message().await["hello"], "everybody");
}

#[tokio::test]
async fn a_bare_command_serves() {
    let node = Node::setup().bare().start().await;
    Page::open(&node).await.has_nothing_to_read().await;
}
