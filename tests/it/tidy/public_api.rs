//! Checks the public API of the crate `pagewire`, which `tests/golden/public_api.txt` lists.
//!
//! The list has each public item of the facade's files with its signature, as rustfmt writes it, and all items of a trait.
//! An item that is public in one of these files and not reachable from outside is a warning of the compiler
//! (`unreachable_pub`).

use std::path::Path;

use super::Source;

const GOLDEN: &str = "tests/golden/public_api.txt";
/// The files of the facade.
const FILES: [&str; 5] =
    ["src/sdk/", "src/testing.rs", "src/mount/own_service.rs", "src/mount/body.rs", "src/cli/mod.rs"];
/// Items at the start of a line that are listed in any file of the facade.
const ITEMS: [&str; 6] = ["pub struct ", "pub enum ", "pub trait ", "pub type ", "pub const ", "pub fn "];

#[test]
fn the_public_api_is_the_one_that_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let facade = std::fs::read_to_string(root.join("src/lib.rs")).expect("the facade");
    let mut found = reachable(&facade).join("\n");
    let mut sources: Vec<Source> = super::rust();
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    for source in sources.iter().filter(|source| FILES.iter().any(|file| source.path.starts_with(file))) {
        let items = items(source.production());
        if !source.is_test() && source.path != "src/sdk/mod.rs" && !items.is_empty() {
            found += &format!("\n\n{}\n{}", source.path, items.join("\n"));
        }
    }
    found += "\n";
    let listed = std::fs::read_to_string(root.join(GOLDEN)).unwrap_or_default();
    if found != listed {
        let new = std::env::temp_dir().join("public_api.txt");
        std::fs::write(&new, &found).expect("a file");
        let changed: Vec<&str> = found.lines().filter(|line| !listed.contains(line)).collect();
        let gone: Vec<&str> = listed.lines().filter(|line| !found.contains(line)).collect();
        panic!(
            "The public API has changed; new: {changed:#?}, gone: {gone:#?}. If that is meant: cp {} {GOLDEN}, and a line \
             in CHANGELOG.md.",
            new.display()
        );
    }
}

/// Returns the items of the root of the crate that can be used from outside and are documented.
fn reachable(facade: &str) -> Vec<String> {
    let mut lines = facade.lines().map(str::trim);
    let (mut found, mut hidden) = (Vec::new(), false);
    while let Some(line) = lines.next() {
        if line.starts_with("pub ") && !hidden {
            let mut statement = line.to_owned();
            while !statement.ends_with(';') {
                statement += " ";
                statement += lines.next().unwrap_or(";");
            }
            found.push(statement.replace("{ ", "{").replace(", }", "}"));
        }
        hidden = line == "#[doc(hidden)]";
    }
    found
}

/// Returns the public items of a formatted file with their signatures, those of a type indented below its `impl`, and the
/// implementations of traits.
fn items(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    // of an `impl` without public items, nothing is listed
    let mut block: Option<String> = None;
    let mut body: Option<Vec<String>> = None;
    while let Some(line) = lines.next() {
        if let Some(members) = &mut body {
            let code = line.trim_start();
            if line == "}" {
                found.append(members);
                body = None;
            } else if line.starts_with("    ") && !line.starts_with("     ") && is_listed(code, members) {
                let item = if is_trait(members) { statement(code, &mut lines) } else { code.to_owned() };
                members.push(format!("    {}", item.trim_end_matches(',')));
            }
            continue;
        }
        if line.starts_with("impl") {
            let head = statement(line, &mut lines);
            if let Some((_, implementing)) = head.split_once(" for ") {
                // a type is defined above its implementations
                let name: String =
                    implementing.chars().take_while(|letter| letter.is_alphanumeric()).collect();
                let defined = |item: &String| {
                    let mut words = item.split(|letter: char| !letter.is_alphanumeric());
                    item.starts_with("pub ") && words.nth(2) == Some(&name)
                };
                if found.iter().any(defined) {
                    found.push(head);
                }
                block = None;
            } else {
                block = Some(head);
            }
        } else if let Some(item) = line.strip_prefix("    ").filter(|item| is_function(item)) {
            let signature = statement(item, &mut lines);
            found.extend(block.take());
            found.push(format!("    {signature}"));
        } else if ITEMS.iter().any(|item| line.starts_with(item)) {
            let head = statement(line, &mut lines);
            if line.ends_with('{') && !line.starts_with("pub fn") {
                body = Some(vec![head]);
            } else {
                found.push(head);
            }
        }
    }
    found
}

fn is_trait(members: &[String]) -> bool {
    members.first().is_some_and(|head| head.starts_with("pub trait "))
}

/// Returns whether a line of the body of a type is a public field or a variant, or of a trait one of its items.
fn is_listed(code: &str, members: &[String]) -> bool {
    if is_trait(members) {
        return ["fn ", "const ", "type "].iter().any(|start| code.starts_with(start));
    }
    let is_enum = members.first().is_some_and(|head| head.starts_with("pub enum "));
    code.starts_with("pub ") || is_enum && code.starts_with(|letter: char| letter.is_ascii_uppercase())
}

fn is_function(item: &str) -> bool {
    ["pub fn ", "pub const fn ", "pub async fn ", "pub const "].iter().any(|start| item.starts_with(start))
}

/// Returns a statement up to its body or its end, in one line.
fn statement<'a>(first: &str, lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut text = first.trim().to_owned();
    while !text.ends_with(['{', ';', '}']) {
        let Some(next) = lines.next() else { break };
        text += " ";
        text += next.trim();
    }
    let text = text.trim_end_matches(['{', ';', ',', ' ']);
    text.replace("( ", "(").replace(", )", ")").replace(" {}", "")
}

#[test]
fn signatures_are_found_with_their_types() {
    let text = "pub struct A {\n    b: u8,\n    pub c: u8,\n}\n\npub enum E {\n    /// D.\n    F(u8),\n}\n\n\
                impl A {\n    pub fn d(\n        self,\n        e: u8,\n    ) -> u8 {\n        1\n    }\n\n    fn f() {}\n}\n\n\
                impl Drop for A {\n    fn drop(&mut self) {}\n}\n\nimpl Drop for B {}\n\n\
                pub trait T {\n    const C: u8;\n\n    fn g(\n        h: u8,\n    );\n    fn i(&self) {\n        j();\n    }\n}\n\npub(super) struct B;\n\nimpl B {\n    fn g() {}\n}\n";
    assert_eq!(
        items(text),
        [
            "pub struct A",
            "    pub c: u8",
            "pub enum E",
            "    F(u8)",
            "impl A",
            "    pub fn d(self, e: u8) -> u8",
            "impl Drop for A",
            "pub trait T",
            "    const C: u8",
            "    fn g(h: u8)",
            "    fn i(&self)"
        ]
    );
}
