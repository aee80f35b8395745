//! House rules that no compiler checks, as tests. Each message names the remedy.
//!
//! Owns: reading the source tree, and the rules in `layers`, `rust`, `language` and `documents`. Starts nothing.

mod documents;
mod language;
mod layers;
mod public_api;
mod rust;

use std::path::{Path, PathBuf};

/// Folders with generated files.
const MADE: [&str; 6] = ["target", ".git", ".tools", "node_modules", "build", "dist"];

/// Files and folders that only tests use.
const TESTS: [&str; 4] = ["tests", "tests.rs", "conformance.rs", "fake.rs"];

/// A source file.
struct Source {
    /// The path from the root of the project, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Returns the code that runs in production: a file without the unit tests at its end, and nothing of a test file.
    fn production(&self) -> &str {
        if self.is_test() {
            return "";
        }
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        &self.text[..end]
    }

    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| TESTS.contains(&part))
    }

    /// Returns the lines of [`Source::production`] that are code, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.production().lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        numbered.filter(|(_, line)| !line.starts_with("//"))
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every text file that is not generated.
fn tree() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                if !MADE.iter().any(|made| path.ends_with(made)) {
                    folders.push(path);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                sources.push(Source { path: relative(&path), text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 50, "this is not the tree");
    sources
}

fn rust() -> Vec<Source> {
    tree().into_iter().filter(Source::is_rust).collect()
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("a path below the root");
    path.components().collect::<PathBuf>().to_string_lossy().replace('\\', "/")
}

/// Fails with all violations at once.
fn report(violations: &[String], remedy: &str) {
    assert!(violations.is_empty(), "{remedy}\n  {}\n", violations.join("\n  "));
}
