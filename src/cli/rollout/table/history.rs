//! Formats the history of a rollout as text.

use serde_json::Value;

use super::{items, or, plan, split, text};
use crate::cli::output;

/// Formats the history of a rollout, the newest revision first. A change without a comment is described by what has changed, so
/// that a reader who was not there can follow it.
pub(in crate::cli::rollout) fn history(list: &Value) -> String {
    let items = items(&list["items"]);
    let row = |(at, rollout): (usize, &Value)| {
        let comment = or(&rollout["comment"], "");
        let comment = if comment.is_empty() { described(rollout, items.get(at + 1)) } else { comment };
        let split = split(&rollout["lanes"], &rollout["base"]);
        let [revision, at, by] = ["revision", "updated_at", "updated_by"].map(|name| text(&rollout[name]));
        vec![revision, at, by, split, comment]
    };
    let rows: Vec<_> = items.iter().enumerate().map(row).collect();
    output::table(&["REVISION", "CHANGED", "BY", "SPLIT", "COMMENT"], &rows)
}

/// Returns what a change without a comment has done beside the weights.
fn described(after: &Value, before: Option<&Value>) -> String {
    let Some(before) = before else { return String::new() };
    let mut facts = Vec::new();
    if after["base"] != before["base"] {
        facts.push(format!("{} is the base", text(&after["base"])));
    }
    if after["plan"] != before["plan"] {
        facts.extend(plan(&after["plan"]));
    }
    facts.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_without_a_comment_says_what_it_has_done() {
        let plan = json!({"lane": "canary", "steps": [10, 100], "step": 0, "state": "running", "auto": {"hold_s": 1}});
        let base = json!({"base": "stable", "lanes": []});
        let started = json!({"base": "stable", "lanes": [], "plan": plan});
        let switched = json!({"base": "canary", "lanes": [], "plan": plan});
        assert_eq!(described(&started, Some(&base)), "canary grows by itself [10%] → 100%: running");
        assert_eq!(described(&switched, Some(&started)), "canary is the base");
        assert_eq!(described(&started, Some(&started)), "");
        let list = json!({"items": [{"base": "canary", "comment": "better", "lanes": []}, started]});
        assert!(history(&list).contains("better") && !history(&list).contains("is the base"));
    }
}
