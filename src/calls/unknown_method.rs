//! The refusal of a method that no executor serves, with the nearest name and with what the executors serve.

use std::collections::BTreeMap;
use std::fmt::Write;

use pagewire_cluster::worker::WorkerDirectory;
use pagewire_worker::handlers::Handlers;

use super::placement::no_executor;
use crate::protocol::CommandError;
use crate::similar_name::{most_similar, similarity};

/// The most bytes of the whole message.
const MAX_MESSAGE: usize = 700;
/// The most characters of a method in the message.
const MAX_METHOD: usize = 64;
/// A name that is less similar is not suggested.
const MIN_SIMILARITY: f64 = 0.4;

/// Returns the refusal of a method, with what would be served.
pub(super) fn refusal(reason: &str, method: &str, roster: &WorkerDirectory, own: &Handlers) -> CommandError {
    let mut served: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, row) in roster.list() {
        let place = format!("pool {}, lane {}", row.pool, row.lane);
        served.entry(place).or_default().extend(row.methods.iter().cloned());
    }
    if !own.is_empty() {
        served.insert("inline".to_owned(), own.names().map(str::to_owned).collect());
    }
    no_executor(message(reason, method, &served))
}

/// Writes the message.
fn message(reason: &str, method: &str, served: &BTreeMap<String, Vec<String>>) -> String {
    let shown: String = method.chars().take(MAX_METHOD).collect();
    let mut text = format!("{reason}: {shown:?}");
    let names = served.iter().flat_map(|(place, names)| names.iter().map(move |name| (place, name)));
    let similarity_to_method = |(_, name): &(&String, &String)| similarity(name, &shown);
    let nearest = most_similar(names, similarity_to_method);
    // writing to a String cannot fail
    if let Some((place, name)) = nearest.filter(|named| similarity_to_method(named) >= MIN_SIMILARITY) {
        let _ = write!(text, "; the nearest known one is {name} ({place})");
    }
    if served.is_empty() {
        text.push_str("; no executor serves anything");
    }
    for (place, names) in served {
        let mut names = names.clone();
        names.sort();
        names.dedup();
        let _ = write!(text, "; {place} serves {}", names.join(", "));
    }
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first_and_then_who_serves_what() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let served = BTreeMap::from([
            ("inline".to_owned(), names(&["echo", "sum"])),
            ("pool gpu, lane stable".to_owned(), names(&["render", "report", "render"])),
        ]);
        let text = message("no executor serves this method", "rendr", &served);
        assert_eq!(
            text,
            "no executor serves this method: \"rendr\"; the nearest known one is render (pool gpu, lane stable); \
             inline serves echo, sum; pool gpu, lane stable serves render, report"
        );
        assert!(!message("no", "zzzzzzzz", &served).contains("nearest"), "nothing is near");
        assert!(message("no", "a", &BTreeMap::new()).ends_with("no executor serves anything"));
    }

    #[test]
    fn the_message_is_short_whatever_is_called_and_served() {
        let many = (0..5000).map(|number| format!("ü{number}")).collect();
        let served = BTreeMap::from([("inline".to_owned(), many)]);
        for method in ["x".repeat(1_000_000), "\u{0}\n".repeat(1000), "ü".repeat(5000)] {
            let text = message("no", &method, &served);
            assert!(text.len() <= MAX_MESSAGE && !text.contains('\n'), "{} bytes", text.len());
        }
    }
}
