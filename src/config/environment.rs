//! `PAGEWIRE_*` variables as a layer of configuration.

use toml::{Table, Value};

use super::layer::{at, known_keys, list, set, unknown_key};

const PREFIX: &str = "PAGEWIRE_";
/// Variables of the command line, of child processes and of tests, which are not configuration.
const NOT_CONFIGURATION: [&str; 11] = [
    "PAGEWIRE_URL",
    "PAGEWIRE_API_KEY",
    "PAGEWIRE_TIMING",
    "PAGEWIRE_CLOCK_OFFSET_MS",
    "PAGEWIRE_LOG",
    "PAGEWIRE_LOG_FORMAT",
    "PAGEWIRE_CONFIG",
    "PAGEWIRE_DEMO_FAIL",
    "PAGEWIRE_SOCKET",
    "PAGEWIRE_TOKEN",
    "PAGEWIRE_BINARY",
];
/// Kubernetes adds these to every container next to a service called `pagewire`.
const SERVICE_LINKS: [&str; 2] = ["PAGEWIRE_PORT", "PAGEWIRE_SERVICE_"];
/// Keys that can be read from a file named by `…_FILE`.
const SECRETS: [&str; 2] = ["auth.hs256_secret", "auth.api_keys"];

/// Reads the `PAGEWIRE_*` variables into a table. The type of a key's default decides how its text is read. Problems
/// are added to `problems`.
pub(super) fn read_environment(
    variables: &[(String, String)],
    defaults: &Table,
    problems: &mut Vec<String>,
) -> Table {
    let known = known_keys(defaults, "");
    let mut table = Table::new();
    for (name, text) in variables {
        if !name.starts_with(PREFIX) || is_not_configuration(name) {
            continue;
        }
        let secret = SECRETS.into_iter().find(|key| format!("{}_FILE", variable(key)) == *name);
        let Some(key) = secret.or_else(|| known.iter().map(String::as_str).find(|k| variable(k) == *name))
        else {
            let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
            problems.push(format!("the environment: {}", unknown_key(&key, &known, variable)));
            continue;
        };
        if secret.is_some() && variables.iter().any(|(other, _)| *other == variable(key)) {
            problems.push(format!("the environment: {} and {name} exclude each other", variable(key)));
            continue;
        }
        let value = match secret {
            Some(_) => std::fs::read_to_string(text).map_err(|error| format!("{text}: {error}")),
            None => Ok(text.clone()),
        };
        match value.and_then(|text| read_value(text.trim_end_matches(['\r', '\n']), at(defaults, key))) {
            Ok(value) => set(&mut table, key, value),
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    table
}

fn is_not_configuration(name: &str) -> bool {
    NOT_CONFIGURATION.contains(&name) || SERVICE_LINKS.iter().any(|link| name.starts_with(link))
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Reads a text as the type of its key's default.
///
/// # Errors
///
/// A message when the text is not of that type.
pub(super) fn read_value(text: &str, default: Option<&Value>) -> Result<Value, String> {
    match default {
        Some(Value::Integer(_)) => {
            text.parse().map(Value::Integer).map_err(|_| format!("{text:?} is not a whole number"))
        }
        Some(Value::Float(_)) => {
            text.parse().map(Value::Float).map_err(|_| format!("{text:?} is not a number"))
        }
        Some(Value::Boolean(_)) => {
            text.parse().map(Value::Boolean).map_err(|_| format!("{text:?} is neither true nor false"))
        }
        Some(Value::Array(_)) => Ok(list(text)),
        _ => Ok(Value::String(text.to_owned())),
    }
}
