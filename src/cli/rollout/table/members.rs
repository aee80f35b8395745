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

/// Formats the limits of the lanes: `canary has 1 to 4 processes and at most 50 users`.
pub(super) fn limits(limits: &Value) -> Option<String> {
    let lane = |(lane, limits): (&String, &Value)| {
        let number = |name: &str| limits[name].as_u64();
        let processes = match (number("min_processes"), number("max_processes")) {
            (Some(min), Some(max)) => Some(format!("{min} to {max} processes")),
            (Some(min), None) => Some(format!("at least {min} processes")),
            (None, Some(max)) => Some(format!("at most {max} processes")),
            (None, None) => None,
        };
        let users = number("max_users").map(|most| format!("at most {}", output::count(most, "user")));
        let all: Vec<_> = [processes, users].into_iter().flatten().collect();
        (!all.is_empty()).then(|| format!("{} has {}", output::plain(lane), all.join(" and ")))
    };
    let lanes: Vec<_> = limits.as_object()?.iter().filter_map(lane).collect();
    (!lanes.is_empty()).then(|| lanes.join(", "))
}

/// Formats how many users stay in the lanes: `users of canary: 37 of 50`, with `full` where there is no room.
pub(super) fn users(status: &Value) -> Option<String> {
    let lane = |share: &Value| {
        let count = share["users"].as_u64()?;
        let lane = share["lane"].as_str()?;
        let most = status["limits"][lane]["max_users"].as_u64();
        let of = most.map(|most| format!(" of {most}")).unwrap_or_default();
        let full = most.filter(|most| count >= *most).map(|_| ", full").unwrap_or_default();
        Some(format!("users of {}: {count}{of}{full}", output::plain(lane)))
    };
    let lanes: Vec<_> = items(&status["split"]).iter().filter_map(lane).collect();
    (!lanes.is_empty()).then(|| lanes.join("; "))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_and_users_of_a_lane_are_shown_and_whether_it_is_full() {
        let status = |count: u64| {
            let limits =
                json!({"canary": {"min_processes": 1, "max_users": 50}, "stable": {"max_processes": 2}});
            json!({"limits": limits, "split": [{"lane": "canary", "users": count}, {"lane": "stable"}]})
        };
        assert_eq!(users(&status(37)).as_deref(), Some("users of canary: 37 of 50"));
        assert_eq!(users(&status(50)).as_deref(), Some("users of canary: 50 of 50, full"));
        assert_eq!(
            limits(&status(0)["limits"]).as_deref(),
            Some("canary has at least 1 processes and at most 50 users, stable has at most 2 processes")
        );
        let unlimited = json!({"split": [{"lane": "canary", "users": 3}]});
        assert_eq!(users(&unlimited).as_deref(), Some("users of canary: 3"));
        assert_eq!(users(&json!({"split": [{"lane": "stable"}]})), None);
    }
}
