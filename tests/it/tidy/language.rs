//! Rules for names and prose: one name for one type, and comments that a reader understands at once.
//!
//! Owns: what can be counted of the language. Never: style beyond that, which a reviewer judges.

use std::collections::BTreeMap;

use super::{Source, report, rust};

/// The crates, by the folder of their sources.
const CRATES: [&str; 3] = ["src/", "cluster/src/", "worker/src/"];

/// Pronouns that make a reader search for the subject. At most one per 1,000 words of comments.
const INDEFINITE: [&str; 7] = ["whoever", "nobody", "somebody", "anybody", "everybody", "whose", "whatever"];

/// Words of no field, and the word to use instead.
const BANNED: [(&str, &str); 26] = [
    ("desk", "name the queue, the cache or the set"),
    ("ears", "subscriptions"),
    ("lobby", "startup server"),
    ("shelf", "cache"),
    ("bury", "evict"),
    ("buried", "evicted"),
    ("heed", "apply"),
    ("hearsay", "stale data"),
    ("heard", "received, or the last activity"),
    ("wish", "command or request"),
    ("wishes", "commands or requests"),
    ("pulse", "heartbeat"),
    ("pulses", "heartbeats"),
    ("farewell", "the kind of a removal"),
    ("underway", "in flight"),
    ("tenure", "held lease"),
    ("stood", "name the version or the revision"),
    ("stranger", "name the user, the page or the origin"),
    ("strangers", "name the users, the pages or the origins"),
    ("newcomer", "new page or new connection"),
    ("newcomers", "new pages or new connections"),
    ("judge", "check or decide"),
    ("verdict", "outcome or decision"),
    ("condemn", "write a tombstone"),
    ("dice", "random number generator"),
    ("road", "route, path or queue"),
];

/// The words of the comments of production code, in lower case.
fn comment_words(source: &Source) -> impl Iterator<Item = (usize, String)> {
    let lines = source.production().lines().enumerate();
    let comments = lines.filter(|(_, line)| line.trim_start().starts_with("//"));
    comments.flat_map(|(index, line)| {
        let words = line.split(|letter: char| !letter.is_ascii_alphabetic() && letter != '\'');
        words.filter(|word| !word.is_empty()).map(move |word| (index + 1, word.to_ascii_lowercase()))
    })
}

#[test]
fn a_type_has_a_name_of_its_own() {
    for folder in CRATES {
        let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for source in rust().iter().filter(|source| source.path.starts_with(folder)) {
            for (number, line) in source.production().lines().enumerate() {
                if let Some(name) = type_name(line) {
                    defined.entry(name.to_owned()).or_default().push(format!(
                        "{}:{}",
                        source.path,
                        number + 1
                    ));
                }
            }
        }
        let shared = defined.into_iter().filter(|(_, places)| places.len() > 1);
        let shared: Vec<_> = shared.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
        report(&shared, "Two types of one name in a crate: name each after what it is.");
    }
}

/// The name of a type that a line at the top level of a file defines.
fn type_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ")?.1,
        None => line,
    };
    let name = ["struct ", "enum ", "trait "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    name.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

#[test]
fn a_type_is_found_whatever_its_visibility() {
    let lines =
        ["pub struct A;", "pub(in crate::api) enum B {", "struct C<T>(T);", "    struct D;", "fn e() {}"];
    assert_eq!(lines.map(type_name), [Some("A"), Some("B"), Some("C"), None, None]);
}

#[test]
fn comments_name_their_subject() {
    let (mut words, mut found) = (0, Vec::new());
    for source in rust() {
        for (number, word) in comment_words(&source) {
            words += 1;
            if INDEFINITE.contains(&word.as_str()) {
                found.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    let allowed = words / 1_000;
    let excess = if found.len() > allowed { found } else { Vec::new() };
    report(&excess, "More than one indefinite pronoun per 1,000 words of comments: name who does what.");
}

#[test]
fn private_words_stay_out() {
    let mut found = Vec::new();
    for source in rust().iter().filter(|source| !source.path.starts_with("tests/it/tidy/")) {
        for (number, line) in source.production().lines().enumerate() {
            let words = line.split(|letter: char| !letter.is_ascii_alphabetic());
            for word in words.map(str::to_ascii_lowercase) {
                if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| *banned == word) {
                    found.push(format!("{}:{}: `{word}`: {instead}", source.path, number + 1));
                }
            }
        }
    }
    report(&found, "A word that no other project uses in this sense: take the field's (docs/glossary.md).");
}
