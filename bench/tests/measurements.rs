//! Small runs of `pagewire-bench`. The numbers themselves have no meaning in a debug build.
//!
//! The tests need `pagewire` beside `pagewire-bench`, which `cargo test --workspace` builds.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Long enough for a machine that runs a build at the same time.
const LONG: Duration = Duration::from_secs(120);

/// Runs a measurement of paths that send no atomic batch, and returns its rows.
async fn bench(arguments: &[&str]) -> Vec<Value> {
    let report = report(arguments).await;
    assert_eq!(report["batches"], 0, "{report}");
    report["rows"].as_array().expect("rows").clone()
}

/// Runs `pagewire-bench <arguments> --json` and returns its report, which counts the batches of every process.
async fn report(arguments: &[&str]) -> Value {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pagewire-bench"));
    command.args(arguments).arg("--json").kill_on_drop(true);
    let output = tokio::time::timeout(LONG, command.output()).await.expect("an end").expect("a process");
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["uncounted_processes"], 0, "{report}");
    report
}

fn median(rows: &[Value], name: &str) -> f64 {
    let row = rows.iter().find(|row| row["name"].as_str().is_some_and(|text| text.trim() == name));
    row.unwrap_or_else(|| panic!("{name} in {rows:?}"))["median"].as_f64().expect("a number")
}

#[tokio::test]
async fn idle_memory_is_told_per_page_with_the_share_of_the_view() {
    let rows = bench(&["idle", "--pages", "200", "--runs", "1", "--rest", "0"]).await;
    let (node, view) = (median(&rows, "node"), median(&rows, "of which the view"));
    assert!(node > 500.0, "a page costs something: {rows:?}");
    assert!(view > 0.0, "{rows:?}");
    assert_eq!(rows[0]["goal"]["at_most"], 6144.0);
}

#[tokio::test]
async fn memory_is_told_before_and_after_pages_that_have_come_and_gone() {
    let rows = bench(&["lives", "--pages", "60", "--wave", "25", "--runs", "1", "--rest", "0"]).await;
    let (before, highest) = (median(&rows, "before the first page"), median(&rows, "highest"));
    assert!(before > 1.0 && highest > before, "{rows:?}");
    for name in ["after the first wave, at rest", "after the last wave, at rest"] {
        assert!((1.0..=highest).contains(&median(&rows, name)), "{rows:?}");
    }
}

#[tokio::test]
async fn pages_that_move_have_a_gap_and_lose_nothing() {
    let rows = report(&["moves", "--pages", "60", "--every", "50", "--runs", "2"]).await["rows"].clone();
    let rows = rows.as_array().expect("rows").clone();
    assert!(
        median(&rows, "gap of a page, p99") > 0.0 && median(&rows, "until all have moved") > 0.0,
        "{rows:?}"
    );
    assert_eq!(median(&rows, "lost frames"), 0.0);
}

#[tokio::test]
async fn fan_out_is_compared_with_a_bare_writer_in_the_same_run() {
    let rows = bench(&["fanout", "--pages", "20", "--messages", "4", "--rounds", "16", "--runs", "2"]).await;
    let (node, bare) = (median(&rows, "node, CPU"), median(&rows, "bare writer, CPU"));
    assert!(bare > 0.0 && bare < node, "nothing is cheaper than the bare writer: {rows:?}");
    let ratio = rows.iter().find(|row| row["name"] == "node : bare writer, rate").expect("a ratio");
    assert_eq!((&ratio["runs"], &ratio["goal"]["at_least"]), (&Value::from(2), &Value::from(60.0)));
}

#[tokio::test]
async fn a_push_is_told_apart_by_way_and_process() {
    let rows = bench(&["push", "--pages", "3", "--messages", "100", "--runs", "1"]).await;
    for way in
        ["embedded engine, API", "embedded engine, send frame", "NATS engine, API", "NATS engine, send frame"]
    {
        assert!(median(&rows, &format!("{way}: the page's node")) > 0.0, "{rows:?}");
    }
    assert!(median(&rows, "NATS engine, API of another node: nats-server") > 0.0, "{rows:?}");
}

#[tokio::test]
async fn a_push_to_another_node_is_timed_beside_a_bare_request() {
    let rows = bench(&["remote-push", "--pages", "3", "--messages", "20", "--runs", "2"]).await;
    for name in ["bare NATS request, p50", "to a page, p50", "to a user, p50"] {
        assert!(median(&rows, name) > 0.0, "{rows:?}");
    }
    let ratio = rows.iter().find(|row| row["name"] == "to a page : bare, p50").expect("a ratio");
    assert_eq!((&ratio["runs"], &ratio["goal"]["at_most"]), (&Value::from(2), &Value::from(1.5)));
}

#[tokio::test]
async fn calls_are_compared_with_bare_requests_and_told_apart_by_process() {
    let rows = bench(&["calls", "--calls", "100", "--pages", "4", "--in-flight", "8", "--runs", "2"]).await;
    for way in ["any worker", "the user's own worker", "a page's call frame"] {
        for process in ["node", "worker", "nats-server"] {
            assert!(median(&rows, &format!("{way}, CPU of {process}")) > 0.0, "{rows:?}");
        }
    }
    let ratio = rows.iter().find(|row| row["name"] == "any worker : bare, rate").expect("a ratio");
    assert_eq!((&ratio["runs"], &ratio["goal"]["at_least"]), (&Value::from(2), &Value::from(80.0)));
}

#[tokio::test]
async fn every_job_of_a_measurement_was_done_on_one_server_and_on_three() {
    for replicas in ["1", "3"] {
        let small = ["jobs", "--jobs", "40", "--in-flight", "8", "--runs", "2", "--replicas", replicas];
        let rows = bench(&small).await;
        let rates = ["bare queue", "bare queue with three puts", "jobs"].map(|way| median(&rows, way));
        assert!(rates.iter().all(|rate| *rate > 0.0), "{rows:?}");
        let ratio = rows.iter().find(|row| row["name"] == "jobs : bare queue with three puts, rate");
        assert_eq!(ratio.expect("a ratio")["goal"]["at_least"], 70.0);
    }
}

#[tokio::test]
async fn jobs_of_pages_are_compared_with_those_of_the_api_and_timed_until_they_start() {
    let small = ["--jobs", "40", "--in-flight", "8", "--pages", "4", "--paced", "50", "--users", "5"];
    let rows = bench(&[&["job-entry", "--runs", "2"], &small[..]].concat()).await;
    for way in ["API", "page"] {
        for process in ["node", "worker", "nats-server", "clients", "all processes"] {
            assert!(median(&rows, &format!("{way}, CPU of {process}")) > 0.0, "{rows:?}");
        }
    }
    for (name, goal) in [
        ("page : API, CPU of all processes", 1.3),
        ("any, at 500/s, until it starts, p50", 3.0),
        ("assigned, at 500/s, until it starts, p99", 20.0),
    ] {
        let row = rows.iter().find(|row| row["name"] == name).expect("a row");
        assert_eq!((&row["runs"], &row["goal"]["at_most"]), (&Value::from(2), &Value::from(goal)));
    }
}

#[tokio::test]
async fn sets_and_news_of_trees_are_compared_with_bare_puts_and_deliveries() {
    let small = ["--sets", "200", "--in-flight", "8", "--trees", "10", "--told", "20", "--pages", "5"];
    let rows = bench(&[&["state", "--watched", "3", "--runs", "2"], &small[..]].concat()).await;
    for way in ["bare puts of one key", "one tree", "bare puts, 10 keys", "10 trees"] {
        assert!(median(&rows, way) > 0.0, "{rows:?}");
        assert!(median(&rows, &format!("{way}, CPU of nats-server")) > 0.0, "{rows:?}");
    }
    for (name, bound, goal) in [
        ("one tree : bare, rate", "at_least", 10.0),
        ("many trees : bare, rate", "at_least", 70.0),
        ("update : bare, p50", "at_most", 2.0),
    ] {
        let ratio = rows.iter().find(|row| row["name"] == name).expect("a ratio");
        assert_eq!((&ratio["runs"], &ratio["goal"][bound]), (&Value::from(2), &Value::from(goal)));
    }
    for name in ["last page has it, p50", "CPU of their node"] {
        assert!(median(&rows, &format!("one tree, 5 pages: {name}")) > 0.0, "{rows:?}");
    }
}

#[tokio::test]
async fn calls_of_children_are_compared_with_a_bare_loop_of_the_same_style() {
    let rows =
        bench(&["children", "--calls", "40", "--alone", "10", "--in-flight", "4", "--runs", "1"]).await;
    for style in ["blocking", "threads", "asyncio"] {
        for name in ["bare loop, p50", "child, p50", "bare loop", "child", "child : bare, p50"] {
            assert!(median(&rows, &format!("{style}, {name}")) > 0.0, "{rows:?}");
        }
        assert!(median(&rows, &format!("POST /calls, {style}")) > 0.0, "{rows:?}");
    }
    assert!(median(&rows, "start of a child, until it is ready") > 0.0, "{rows:?}");
}

#[tokio::test]
async fn users_move_only_to_a_worker_that_is_added_and_from_one_that_leaves() {
    let rows = bench(&["affinity", "--users", "12", "--workers", "2", "--runs", "1"]).await;
    for name in [
        "a worker is added: moves to another one",
        "a worker is drained: moves of others",
        "a worker is drained: failed calls",
        "a worker is killed: moves of others",
    ] {
        assert_eq!(median(&rows, name), 0.0, "{rows:?}");
    }
    assert!(median(&rows, "a worker is killed: all are served") > 0.0, "{rows:?}");
}

#[tokio::test]
async fn a_report_counts_the_atomic_batches_of_the_nodes_that_were_started() {
    let report = report(&["weights", "--nodes", "2", "--changes", "3", "--runs", "1"]).await;
    // each change of the rollout is a batch: 20 before the measurement, and 3 in it; a repeated one is sent again
    assert!(report["batches"].as_u64() >= Some(23), "{report}");
}

#[test]
fn an_interrupted_benchmark_leaves_no_process_behind() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pagewire-bench"));
    command.args(["fanout", "--pages", "10", "--rounds", "1000000"]);
    let mut bench = Running(command.spawn().expect("a process"));
    let mut started = Vec::new();
    wait_until("its processes are there", || {
        started = children(bench.0.id());
        started.len() == 4
    });
    let pid = Pid::from_raw(bench.0.id().try_into().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::INT).expect("a process of this test");
    wait_until("it exits", || bench.0.try_wait().expect("a process of this test").is_some());
    wait_until("its processes are gone", || !started.iter().any(|pid| lives(pid)));
}

/// A process that is killed when this value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // an error means that it has exited already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a condition holds. Panics after [`LONG`] with the name of the condition.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "within {LONG:?} it did not happen that {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

fn children(pid: u32) -> Vec<String> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

/// Returns whether a process is running, and not only waiting to be reaped.
fn lives(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[tokio::test]
async fn files_of_a_mount_are_told_by_size() {
    let rows = bench(&["mount-files", "--requests", "40", "--connections", "2", "--runs", "1"]).await;
    for name in ["4 KB, mount", "1 MB, mount"] {
        assert!(median(&rows, name) > 0.0, "{rows:?}");
    }
}
