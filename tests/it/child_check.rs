//! `pagewire child check`: which programs pass, and which cases a program fails that breaks a rule.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::environment::pagewire_alone;

const CONFORMING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children/conforming.py");
const OTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/children/program.py");

/// Runs the check with options and returns its exit code and its report.
async fn check(options: &[&str], program: &[&str]) -> (i32, Value) {
    let output = pagewire_alone(&[&["child", "check", "--json"], options, &["--"], program].concat()).await;
    let report = serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error} in {output:?}"));
    (output.code, report)
}

/// The names of the cases with this result.
fn named<'a>(report: &'a Value, result: &str) -> BTreeSet<&'a str> {
    let cases = report["cases"].as_array().expect("cases").iter();
    cases.filter(|case| case["result"] == result).map(|case| case["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_program_that_keeps_all_rules_passes_every_case() {
    let (code, report) = check(&[], &["python3", CONFORMING]).await;
    assert_eq!(code, 0, "{report:#}");
    assert!(report["ok"].as_u64() > Some(80), "{report:#}");
    assert_eq!((&report["failed"], &report["skipped"]), (&json!(0), &json!(0)), "{report:#}");
    assert_eq!((&report["sdk"], &report["slots"]), (&json!("tests 1"), &json!(16)));
}

/// Programs that break one rule, and the cases that show it.
const BROKEN: [(&str, &[&str]); 11] = [
    (
        "answers_jobs_twice",
        &[
            "a_job_has_a_result",
            "a_job_of_an_unknown_kind_is_an_error",
            "a_job_may_be_put_off",
            "a_job_is_stopped",
        ],
    ),
    ("loses_a_call", &["ten_thousand_calls_have_one_end_each"]),
    (
        "ignores_drain",
        &[
            "an_idle_program_exits_when_it_is_drained",
            "a_program_that_has_worked_exits_when_it_is_drained",
            "running_work_ends_before_a_drained_program_exits",
            "a_job_ends_before_a_drained_program_exits",
            "requests_are_answered_while_a_program_drains",
            "work_is_cancelled_while_a_program_drains",
            "a_second_drain_changes_nothing",
        ],
    ),
    (
        "dies_on_split_frames",
        &[
            "a_frame_may_come_byte_by_byte",
            "a_frame_may_come_with_a_pause",
            "work_goes_on_while_a_frame_is_incomplete",
        ],
    ),
    ("knows_no_unsupported", &["an_unknown_message_with_an_id_is_unsupported"]),
    (
        "names_another_process",
        &["ready_names_the_process_of_the_program", "a_program_that_was_stopped_continues"],
    ),
    (
        "stays_without_its_supervisor",
        &[
            "the_end_of_the_socket_ends_an_idle_program",
            "the_end_of_the_socket_ends_a_program_that_works",
            "the_end_of_the_socket_ends_a_program_that_waits_for_a_reply",
            "the_end_of_the_socket_within_a_frame_ends_a_program",
        ],
    ),
    (
        "has_a_limit_of_64_kb",
        &["a_frame_of_the_largest_size_is_read", "large_params_are_returned_as_they_came"],
    ),
    (
        "asks_for_other_work",
        &[
            "a_request_names_its_work_and_what_it_asks",
            "a_reply_reaches_its_handler",
            "an_error_in_a_reply_reaches_its_handler",
            "replies_may_come_in_any_order",
            "a_handler_that_waits_for_a_reply_is_stopped_by_a_cancel",
            "a_reply_after_the_end_of_its_work_is_ignored",
        ],
    ),
    ("inherits_its_socket", &["what_a_program_starts_does_not_get_the_socket"]),
    (
        "ignores_the_type_of_parameters",
        &["a_parameter_of_a_wrong_type_is_malformed", "a_missing_parameter_is_malformed"],
    ),
];

#[tokio::test]
async fn a_program_that_breaks_one_rule_fails_the_cases_of_this_rule_alone() {
    let runs = futures_util::stream::iter(BROKEN).map(async |(fault, cases)| {
        let (code, report) = check(&[], &["python3", CONFORMING, "--broken", fault]).await;
        assert_eq!(named(&report, "failed"), cases.iter().copied().collect(), "{fault}: {report:#}");
        assert_eq!((code, &report["skipped"]), (1, &json!(0)), "{fault}: {report:#}");
    });
    // a run mostly waits, for what does not come
    runs.buffer_unordered(4).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn work_that_does_not_stop_is_a_failure() {
    let options = ["--only", "is_stopped", "a_cancel_of_unknown", "--within-ms", "1000"];
    let (code, report) = check(&options, &["python3", CONFORMING, "--broken", "never_stops"]).await;
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(named(&report, "ok").into_iter().collect::<Vec<_>>(), ["a_cancel_of_unknown_work_is_ignored"]);
}

#[tokio::test]
async fn cases_without_their_handler_are_skipped() {
    let options = ["--only", "a ping is answered", "a-call-has-a-result", "running_work_is_stopped"];
    let (code, report) = check(&options, &["python3", OTHER]).await;
    assert_eq!((code, &report["ok"], &report["skipped"]), (0, &json!(1), &json!(3)), "{report:#}");
    assert_eq!(report["cases"][1]["reason"], "needs the handler check.echo");
}

#[tokio::test]
async fn a_program_that_does_not_start_is_one_failure_with_its_output() {
    let (code, report) = check(&["--only", "ready", "ping"], &["python3", OTHER, "--exit-at-start"]).await;
    assert_eq!((code, &report["failed"], &report["ok"]), (1, &json!(1), &json!(0)), "{report:#}");
    let reason = report["cases"][0]["reason"].as_str().expect("a reason");
    let explained = "it exited with 1 before ready came; the last lines of its output:";
    assert!(reason.starts_with(explained) && reason.contains("Traceback"), "{reason}");
    assert_eq!(report["cases"][1]["reason"], "the program does not start");
    let (_, report) =
        check(&["--only", "ping", "--start-ms", "500"], &["python3", OTHER, "--never-ready"]).await;
    let reason = report["cases"][0]["reason"].as_str().expect("a reason");
    // a slow machine does not even connect in this time
    let reasons = ["ready did not come in time", "it did not connect within 500 ms"];
    assert!(reasons.iter().any(|known| reason.starts_with(known)), "{report:#}");
}

#[tokio::test]
async fn a_check_shows_a_table_and_reports_wrong_usage() {
    let check = async |arguments: &[&str]| pagewire_alone(&[&["child", "check"], arguments].concat()).await;
    let output = check(&["--only", "a_ping", "--", "python3", CONFORMING]).await;
    let lines: Vec<&str> = output.out.lines().collect();
    assert_eq!(lines[..2], ["CASE                RESULT   REASON", "a_ping_is_answered  ok"], "{output:?}");
    assert!(output.code == 0 && lines[2].starts_with("1 ok, 0 failed, 0 skipped in "), "{output:?}");
    let unknown = check(&["--only", "no_such_case", "--", "python3", CONFORMING]).await;
    assert!(unknown.code == 2 && unknown.err.contains("no case has no_such_case in its name"), "{unknown:?}");
    assert_eq!(check(&[]).await.code, 2);
}
