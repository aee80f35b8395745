//! Formats rollouts as text.

mod aborted;
mod analysis;
mod history;
mod members;

use aborted::taken_back;
pub(super) use aborted::{aborted, not_aborted};
use analysis::analysis;
pub(super) use history::history;
use members::{limits, plan, rules, users};
use serde_json::Value;

use crate::cli::output;

/// Cells of a bar.
const BAR: usize = 40;

/// Formats the result of a change.
pub(super) fn changed(status: &Value) -> String {
    let split = split(&status["lanes"], &status["base"]);
    [
        Some(headline(status)),
        Some(split),
        plan(&status["plan"]),
        limits(&status["limits"]),
        taken_back(&status["taken_back"]),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("\n")
}

/// Formats a rollout, its assignments and its nodes.
pub(super) fn status(status: &Value) -> String {
    let rows: Vec<_> = items(&status["split"]).iter().map(share).collect();
    let shares =
        output::table(&["LANE", "WEIGHT", "OVERRIDES", "OBSERVED", "ASSIGNED", "WORKERS", "RELEASES"], &rows);
    let nodes: Vec<_> = items(&status["nodes"])
        .iter()
        .map(|node| vec![text(&node["node"]), or(&node["revision"], "no response")])
        .collect();
    let nodes = output::table(&["NODE", "REVISION"], &nodes);
    let compared: String = items(&status["analysis"])
        .iter()
        .map(|lane| format!("{}\n", analysis(&text(&status["pool"]), lane)))
        .collect();
    let compared = if compared.is_empty() { compared } else { format!("{compared}\n") };
    let workers = workers(status).map(|table| format!("\n\n{table}")).unwrap_or_default();
    let users = users(status).map(|users| format!("\n{users}")).unwrap_or_default();
    format!(
        "{}\n{}{users}\n\n{shares}\n{}\n{compared}{nodes}{workers}",
        headline(status),
        facts(status),
        rules(status)
    )
}

/// Formats the revisions of the workers that are processes of their own.
fn workers(status: &Value) -> Option<String> {
    let workers = items(&status["workers"]);
    let row = |worker: &Value| {
        let (name, revision) = (or(&worker["name"], ""), or(&worker["revision"], "no response"));
        vec![text(&worker["worker"]), name, text(&worker["lane"]), revision]
    };
    let rows: Vec<_> = workers.iter().map(row).collect();
    (!rows.is_empty()).then(|| output::table(&["WORKER", "NAME", "LANE", "REVISION"], &rows))
}

/// Formats the configured share of each lane as a bar, with a mark where the observed share ends.
pub(super) fn bars(status: &Value) -> String {
    let width = items(&status["split"]).iter().map(|share| text(&share["lane"]).chars().count()).max();
    let rows = items(&status["split"]).iter().map(|share| {
        let lane = text(&share["lane"]);
        let cells =
            |value: &Value| (value.as_f64().unwrap_or_default() / 100.0 * BAR as f64).round() as usize;
        let (filled, observed) = (cells(&share["weight"]), cells(&share["observed"]));
        let cell = |cell: usize| match (cell < filled, share["observed"].is_number() && cell + 1 == observed)
        {
            (_, true) => '┃',
            (true, _) => '█',
            (false, _) => '·',
        };
        let bar: String = (0..BAR).map(cell).collect();
        format!("{lane:width$}  {bar}  {}%", text(&share["weight"]), width = width.unwrap_or_default())
    });
    rows.collect::<Vec<_>>().join("\n")
}

/// Formats all pools that have a rollout.
pub(super) fn pools(list: &Value) -> String {
    let rows: Vec<_> = items(&list["items"])
        .iter()
        .map(|rollout| {
            let split = split(&rollout["lanes"], &rollout["base"]);
            vec![text(&rollout["pool"]), text(&rollout["revision"]), split, text(&rollout["updated_at"])]
        })
        .collect();
    output::table(&["POOL", "REVISION", "SPLIT", "CHANGED"], &rows)
}

/// Formats the reason why a user is in a lane.
pub(super) fn explained(explained: &Value) -> String {
    let whom = match explained["user"].as_str() {
        Some(user) => format!("user {user}"),
        None => format!("connection {}", text(&explained["connection"])),
    };
    let whom = match explained["page"].as_str() {
        Some(page) => format!("page {page} of {whom}"),
        None => whom,
    };
    let lane = text(&explained["lane"]);
    let why = match explained["reason"].as_str() {
        Some("abort") => format!("it does not matter, because its lane is taken back: {lane} is the base"),
        Some("override") => format!("it does not matter, because {lane} is the user's own lane"),
        Some("pin") => "it does not matter, because the page keeps its lane".to_owned(),
        Some("targeting") => format!("it does not matter, because a rule sends the user to {lane}"),
        Some("choice") => format!("it does not matter, because a page of the user has chosen {lane}"),
        Some("latched") => {
            format!("it does not matter, because the user stays in {lane} until its rollout ends")
        }
        Some("weight") => format!("it belongs to {lane}"),
        Some("full") => {
            format!("it belongs to a lane that has as many users as it may, so {lane} is the base")
        }
        Some("not_admitted") => {
            format!(
                "it belongs to a lane with a limit on its users, to which this one is not admitted yet: {lane} is the base"
            )
        }
        Some("fallback") => format!("its own lane has no living workers, so {lane} is the fallback"),
        _ => "it belongs to no other lane".to_owned(),
    };
    let release = explained["release"].as_str().map(|release| format!(", release {release}"));
    let pin = explained["pin"].as_str().map(|pin| format!("\npin: {pin}"));
    format!(
        "{whom} is in lane {lane}{} (pool {}, revision {})\nbucket {} of 10000: {why}{}",
        release.unwrap_or_default(),
        text(&explained["pool"]),
        explained["revision"],
        explained["bucket"],
        pin.unwrap_or_default(),
    )
}

/// Formats a mapping for the configuration of a NATS server.
pub(super) fn nats_mapping(mapping: &Value) -> String {
    let destination = |to: &Value| {
        format!("    {{ destination: \"{}\", weight: {}% }}\n", text(&to["subject"]), to["percent"])
    };
    let destinations: String = items(&mapping["destinations"]).iter().map(destination).collect();
    format!(
        "# Pool {}, revision {}. NATS draws a lane for each message: a user does not stay in one.\n\
         mappings = {{\n  \"{}\": [\n{destinations}  ]\n}}",
        text(&mapping["pool"]),
        mapping["revision"],
        text(&mapping["subject"]),
    )
}

/// Returns whether all nodes and workers have applied a change.
pub(super) fn is_applied(status: &Value) -> bool {
    let applied = &status["applied"];
    [("nodes", "of"), ("workers", "of_workers")]
        .iter()
        .all(|(done, all)| applied[*done].as_u64() == applied[*all].as_u64())
}

/// Formats the nodes and workers that have not applied a change.
pub(super) fn missing(status: &Value) -> String {
    let is_late = |of: &&Value| of["revision"].as_u64() < status["revision"].as_u64();
    let nodes = items(&status["nodes"]).iter().filter(is_late).map(|node| text(&node["node"]));
    let workers = items(&status["workers"]).iter().filter(is_late);
    let workers = workers.map(|worker| format!("worker {}", text(&worker["worker"])));
    format!("not applied yet by {}", nodes.chain(workers).collect::<Vec<_>>().join(", "))
}

fn headline(status: &Value) -> String {
    let Value::Object(applied) = &status["applied"] else { return String::new() };
    let number = |name: &str| applied.get(name).and_then(Value::as_u64).unwrap_or_default();
    let slowest = applied.get("slowest").and_then(Value::as_str);
    let slowest = slowest.filter(|_| number("of") + number("of_workers") > 1);
    let slowest = slowest.map(|last| format!(" (slowest: {last})")).unwrap_or_default();
    let took = match applied.get("took_ms").and_then(Value::as_f64) {
        Some(ms) => format!(" in {} ms{slowest}", ms.ceil()),
        None => String::new(),
    };
    let workers = match number("of_workers") {
        0 => String::new(),
        all => format!(" and {}/{all} workers", number("workers")),
    };
    let pool = text(&status["pool"]);
    match status["revision"].as_u64() {
        Some(0) => format!("pool {pool}: not changed yet, {}", output::count(number("of"), "node")),
        _ => format!(
            "pool {pool}: revision {} applied by {}/{} nodes{workers}{took}",
            status["revision"],
            number("nodes"),
            number("of")
        ),
    }
}

/// Formats the author of a change and the details that a table does not show.
fn facts(status: &Value) -> String {
    let mut facts = Vec::new();
    if let (Some(by), Some(at)) = (status["updated_by"].as_str(), status["updated_at"].as_str()) {
        facts.push(format!("changed by {by} at {at}"));
    }
    facts.extend(plan(&status["plan"]));
    facts.extend(limits(&status["limits"]));
    if let Some(comment) = status["comment"].as_str() {
        facts.push(format!("comment: {comment}"));
    }
    facts.push(format!("fallback: {}", text(&status["fallback"])));
    if status["enrolment"] == "latched" {
        facts.push("users stay in their lane".to_owned());
    }
    if status["self_service"] == true {
        facts.push("pages may choose a lane".to_owned());
    }
    facts.join(", ")
}

fn share(share: &Value) -> Vec<String> {
    let percent =
        |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number}%"));
    vec![
        text(&share["lane"]),
        percent(&share["weight"]),
        or(&share["overrides"], "0"),
        percent(&share["observed"]),
        text(&share["assigned"]),
        or(&share["workers"], "0"),
        items(&share["releases"]).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
    ]
}

/// Formats a split: `stable 90%, canary 10%`.
fn split(lanes: &Value, base: &Value) -> String {
    let named: Vec<_> = items(lanes)
        .iter()
        .map(|lane| (text(&lane["name"]), lane["weight"].as_f64().unwrap_or_default()))
        .collect();
    let rest = 100.0 - named.iter().map(|(_, weight)| weight).sum::<f64>();
    let rest = (rest * 100.0).round() / 100.0;
    let all = [(text(base), rest)].into_iter().chain(named);
    all.map(|(lane, weight)| format!("{lane} {weight}%")).collect::<Vec<_>>().join(", ")
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    or(value, "-")
}

fn or(value: &Value, absent: &str) -> String {
    match value {
        Value::Null => absent.to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout() -> Value {
        json!({
            "pool": "default", "revision": 41, "base": "stable", "fallback": "none", "salt": "s",
            "lanes": [{"name": "canary", "weight": 12.5}], "updated_by": "ann", "updated_at": "2026-01-02T03:04:05Z",
            "split": [
                {"lane": "canary", "weight": 12.5, "overrides": 2, "observed": 12.1, "assigned": 121, "workers": 1, "releases": ["r2"]},
                {"lane": "stable", "weight": 87.5, "observed": 87.9, "assigned": 879, "workers": 2, "releases": ["r1", "r0"]},
            ],
            "applied": {"nodes": 1, "of": 2, "took_ms": 36.2},
            "nodes": [{"node": "p01", "revision": 41}, {"node": "p02", "revision": null}],
        })
    }

    #[test]
    fn a_status_says_how_far_a_revision_has_come_and_what_it_does() {
        assert_eq!(
            status(&rollout()),
            "pool default: revision 41 applied by 1/2 nodes in 37 ms\n\
             changed by ann at 2026-01-02T03:04:05Z, fallback: none\n\n\
             LANE    WEIGHT  OVERRIDES  OBSERVED  ASSIGNED  WORKERS  RELEASES\n\
             canary  12.5%   2          12.1%     121       1        r2\n\
             stable  87.5%   0          87.9%     879       2        r1, r0\n\n\
             NODE  REVISION\n\
             p01   41\n\
             p02   no response"
        );
        assert_eq!(missing(&rollout()), "not applied yet by p02");
        assert!(!is_applied(&rollout()));
    }

    #[test]
    fn workers_are_shown_beside_nodes_and_the_slowest_process_is_named() {
        let mut rollout = rollout();
        rollout["applied"] =
            json!({"nodes": 2, "of": 2, "workers": 1, "of_workers": 2, "took_ms": 36.2, "slowest": "p02"});
        rollout["nodes"] = json!([]);
        rollout["workers"] = json!([
            {"worker": "1a", "name": "mail-1", "lane": "canary", "revision": 41},
            {"worker": "2b", "lane": "stable", "revision": 40},
        ]);
        let shown = status(&rollout);
        let headline =
            "pool default: revision 41 applied by 2/2 nodes and 1/2 workers in 37 ms (slowest: p02)\n";
        assert!(shown.starts_with(headline), "{shown}");
        let workers =
            "WORKER  NAME    LANE    REVISION\n1a      mail-1  canary  41\n2b              stable  40";
        assert!(shown.ends_with(workers), "{shown}");
        assert_eq!(missing(&rollout), "not applied yet by worker 2b");
        assert!(!is_applied(&rollout));
    }

    #[test]
    fn a_bar_shows_the_configured_share_and_where_the_observed_one_ends() {
        let (filled, empty) = ("█".repeat(4), "·".repeat(35));
        let expected =
            format!("canary  {filled}┃{empty}  12.5%\nstable  {}┃{}  87.5%", "█".repeat(34), "·".repeat(5));
        assert_eq!(bars(&rollout()), expected);
    }

    #[test]
    fn lists_show_each_split_in_a_line() {
        let list = json!({"items": [rollout()]});
        assert!(
            pools(&list).ends_with("default  41        stable 87.5%, canary 12.5%  2026-01-02T03:04:05Z")
        );
        assert!(history(&list).ends_with("41        2026-01-02T03:04:05Z  ann  stable 87.5%, canary 12.5%"));
        assert!(changed(&rollout()).ends_with("37 ms\nstable 87.5%, canary 12.5%"));
    }

    #[test]
    fn a_mapping_is_a_part_of_the_configuration_of_a_nats_server() {
        let mapping = json!({
            "pool": "p", "revision": 3, "subject": "pw.main.call.p.*",
            "destinations": [{"lane": "canary", "subject": "pw.main.call.p.canary.{{wildcard(1)}}", "percent": 10}],
        });
        assert!(nats_mapping(&mapping).ends_with(
            "mappings = {\n  \"pw.main.call.p.*\": [\n    \
             { destination: \"pw.main.call.p.canary.{{wildcard(1)}}\", weight: 10% }\n  ]\n}"
        ));
    }

    #[test]
    fn a_lane_is_explained_in_a_sentence() {
        let explanation = json!({
            "pool": "p", "user": "ann", "lane": "canary", "release": "r2", "reason": "weight", "bucket": 7, "revision": 3
        });
        assert_eq!(
            explained(&explanation),
            "user ann is in lane canary, release r2 (pool p, revision 3)\nbucket 7 of 10000: it belongs to canary"
        );
    }
}
