//! TOML tables as layers: merging them, and finding keys that the defaults do not have.

use toml::{Table, Value};

use crate::similar_name::{most_similar, similarity};

/// Reads `a,b`, or one item per line, as a list of strings.
pub(super) fn list(text: &str) -> Value {
    let items = text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty());
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}

/// Sets `section.key`, and creates the section if needed.
pub(super) fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                set(section, rest, value);
            }
        }
    }
}

/// Returns the value of `section.key`.
pub(super) fn at<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => at(table.get(section)?.as_table()?, rest),
    }
}

/// Merges `above` into `below`; the values of `above` win, key by key.
pub(super) fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Returns a table with these keys, for a list of tables that the defaults do not have.
pub(super) fn keys(names: &[&str]) -> Table {
    names.iter().map(|name| ((*name).to_owned(), Value::String(String::new()))).collect()
}

/// All keys with a value, as `section.key`.
pub(super) fn known_keys(defaults: &Table, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in defaults {
        match value {
            Value::Table(section) => keys.extend(known_keys(section, &format!("{prefix}{key}."))),
            _ => keys.push(format!("{prefix}{key}")),
        }
    }
    keys
}

/// Tables whose keys are chosen by the person who writes them.
const FREE_FORM: [&str; 5] = ["executors.mode", "mount.env", "mount.lane.env", "pool.env", "pool.lanes"];

/// The keys of `layer` that `known` does not have. A table that `known` has may be a list of such tables in `layer`.
pub(super) fn unknown_keys(layer: &Table, known: &Table, prefix: &str) -> Vec<String> {
    let mut unknown = Vec::new();
    for (key, value) in layer {
        match (known.get(key), value) {
            (None, Value::Table(section)) if !section.is_empty() => {
                unknown.extend(unknown_keys(section, &Table::new(), &format!("{prefix}{key}.")));
            }
            (None, _) => unknown.push(format!("{prefix}{key}")),
            _ if FREE_FORM.contains(&format!("{prefix}{key}").as_str()) => {}
            (Some(Value::Table(known)), Value::Table(section)) => {
                unknown.extend(unknown_keys(section, known, &format!("{prefix}{key}.")));
            }
            (Some(Value::Table(known)), Value::Array(items)) => {
                let sections = items.iter().filter_map(Value::as_table);
                unknown
                    .extend(sections.flat_map(|item| unknown_keys(item, known, &format!("{prefix}{key}."))));
            }
            (Some(_), _) => {}
        }
    }
    unknown
}

/// Error message for a key that no default has; suggests the most similar known key.
pub(super) fn unknown_key(key: &str, known: &[String], spelling: impl Fn(&str) -> String) -> String {
    let nearest = most_similar(known, |known| key_similarity(known, key));
    let nearest = nearest.map(|known| spelling(known)).unwrap_or_default();
    format!("unknown key {}; the nearest known one is {nearest}", spelling(key))
}

/// Similarity of the whole keys plus that of their last parts, so that a key in the wrong section still matches the
/// right one.
fn key_similarity(a: &str, b: &str) -> f64 {
    let last = |key| str::rsplit(key, '.').next().unwrap_or_default();
    similarity(a, b) + similarity(last(a), last(b))
}
