//! Formats the members of a document as text.

use serde_json::Value;

use super::{items, text};
use crate::cli::output;

/// Formats the steps of a plan: `canary grows 10% → [50%] → 100%: running`.
pub(super) fn plan(plan: &Value) -> Option<String> {
    let lane = plan["lane"].as_str()?;
    let step = plan["step"].as_u64();
    let steps = items(&plan["steps"]).iter().zip(0u64..).map(|(weight, index)| match step == Some(index) {
        true => format!("[{weight}%]"),
        false => format!("{weight}%"),
    });
    let steps = steps.collect::<Vec<_>>().join(" → ");
    let auto = if plan["auto"].is_object() { " by itself" } else { "" };
    Some(format!("{lane} grows{auto} {steps}: {}", text(&plan["state"])))
}

/// Formats the limits of the lanes: `canary has 1 to 4 processes`.
pub(super) fn limits(limits: &Value) -> Option<String> {
    let lane = |(lane, limits): (&String, &Value)| {
        let number = |name: &str| limits[name].as_u64();
        let count = match (number("min_processes"), number("max_processes")) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => return None,
        };
        Some(format!("{} has {count} processes", output::plain(lane)))
    };
    let lanes: Vec<_> = limits.as_object()?.iter().filter_map(lane).collect();
    (!lanes.is_empty()).then(|| lanes.join(", "))
}

/// Formats the rules in order, each with its lane, after an empty line.
pub(super) fn rules(status: &Value) -> String {
    let rule = |(number, rule): (usize, &Value)| {
        let named =
            |kind: &str| format!("{kind} {}={}", text(&rule[kind]["name"]), text(&rule[kind]["value"]));
        let condition = match rule {
            rule if rule["claim"].is_object() => named("claim"),
            rule if rule["header"].is_object() => named("header"),
            rule if rule["address"].is_string() => format!("address {}", text(&rule["address"])),
            rule => match items(&rule["users"]) {
                [user] => format!("user {}", text(user)),
                users => output::count(users.len() as u64, "user"),
            },
        };
        vec![(number + 1).to_string(), condition, text(&rule["lane"])]
    };
    let rows: Vec<_> = items(&status["targeting"]).iter().enumerate().map(rule).collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!("\n{}\n", output::table(&["RULE", "CONDITION", "LANE"], &rows)),
    }
}
