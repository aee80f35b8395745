//! Formats the comparison of lanes as text.

use pagewire_cluster::rollout::EDGE;
use pagewire_cluster::rollout::analysis::REGRESSION;
use serde_json::Value;

use super::{items, text};

/// Formats the comparison of a lane with the base lane:
/// `canary, release 2: 3 of 57 failed, base 1 of 980; evidence 12 of 100; 74 more … for a promotion`.
pub(in crate::cli::rollout) fn analysis(pool: &str, lane: &Value) -> String {
    let (name, number) = (text(&lane["lane"]), |name: &str| lane[name].as_u64().unwrap_or_default());
    let evidence = lane["evidence"].as_f64().unwrap_or_default();
    let evidence = if evidence < 10.0 { (evidence * 10.0).round() / 10.0 } else { evidence.round() };
    let work = if pool == EDGE { "pages" } else { "jobs or calls" };
    let promotion = match lane["needs"].as_u64() {
        Some(0) => "good enough for a promotion".to_owned(),
        Some(needs) => format!("a promotion needs {needs} more {name} {work}, each of another user"),
        None if number("base_units") == 0 => "the base lane has no work to compare with".to_owned(),
        None => "too many failures for a promotion".to_owned(),
    };
    let faults = items(&lane["metrics"]).iter().map(|metric| {
        let [own, base] = ["units", "base_units"].map(|name| metric[name].as_u64().unwrap_or_default());
        format!(", {}: {own} and {base}", text(&metric["metric"]))
    });
    format!(
        "{name}{}: {} of {} users failed, {} of {} of the base{}; evidence {evidence} of {}; {promotion}",
        lane["release"]
            .as_str()
            .filter(|release| !release.is_empty())
            .map(|release| format!(", release {release}"))
            .unwrap_or_default(),
        number("failed"),
        number("units"),
        number("base_failed"),
        number("base_units"),
        faults.collect::<String>(),
        REGRESSION,
    )
}
