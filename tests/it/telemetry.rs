//! Traces: from the frame of a page through node, NATS and worker, received by a collector.

use serde_json::json;

use crate::environment::children;
use crate::environment::{CollectedSpan, Collector, Nats, Node, Page, SOON, WorkerProcess, eventually};

/// How often a process sends its spans, in milliseconds.
const PACE: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "100");

fn call(method: &str, params: serde_json::Value) -> serde_json::Value {
    json!({"type": "call", "method": method, "params": params, "exec_mode": "any"})
}

#[tokio::test]
async fn one_trace_leads_from_the_frame_of_a_page_to_the_write_of_a_handler() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let node = Node::setup().nats(&nats).set("telemetry.otlp", collector.url()).set("node.name", "web-1");
    let node = node.variable(PACE.0, PACE.1).start().await;
    let worker = WorkerProcess::setup(&nats, "stable").set("telemetry.otlp", &collector.url());
    let _worker = worker.variable(PACE.0, PACE.1).start().await;
    let mut page = Page::open(&node).await;
    page.result(call("remember", json!({"value": 1}))).await;
    let written = collector.span("write state", |_| true).await;
    let within = |name: &'static str, span: &CollectedSpan| {
        let (trace, parent) = (span.trace.clone(), span.parent.clone());
        let collector = &collector;
        async move { collector.span(name, |span| span.trace == trace && span.id == parent).await }
    };
    let run = within("run call", &written).await;
    let sent = within("call worker", &run).await;
    let frame = within("frame", &sent).await;
    assert_eq!((frame.parent.as_slice(), frame.attributes["type"].as_str()), ([].as_slice(), "call"));
    assert_eq!(written.attributes["level"], "page");
    assert_eq!(run.attributes["method"], "remember");
    let [worker, node] = [&run, &frame].map(|span| &span.process);
    assert_eq!((worker["pagewire.role"].as_str(), node["pagewire.role"].as_str()), ("worker", "node"));
    assert_eq!((node["service.name"].as_str(), node["service.instance.id"].as_str()), ("pagewire", "web-1"));
    assert_eq!(worker["pagewire.lane"], "stable");
}

#[tokio::test]
async fn the_attempts_of_a_job_and_what_they_write_and_send_are_in_the_trace_of_its_page() {
    let (nats, collector) = (Nats::start().await, Collector::start().await);
    let node = Node::setup().nats(&nats).set("telemetry.otlp", collector.url());
    let node = node.variable(PACE.0, PACE.1).start().await;
    let worker = WorkerProcess::setup(&nats, "stable").set("telemetry.otlp", &collector.url());
    let _worker = worker.variable(PACE.0, PACE.1).start().await;
    let mut page = Page::open(&node).await;
    page.send(json!({"type": "job", "id": "a", "kind": "remember", "data": {"value": 1}})).await;
    let accepted = page.expect("accepted").await;
    let attempt = collector.span("attempt", |_| true).await;
    let job = accepted["job"].as_str().expect("a job");
    assert_eq!((attempt.attributes["job"].as_str(), attempt.attributes["kind"].as_str()), (job, "remember"));
    let frame = collector.span("frame", |span| span.id == attempt.parent).await;
    assert_eq!(
        (frame.trace.as_slice(), frame.attributes["type"].as_str()),
        (attempt.trace.as_slice(), "job")
    );
    for effect in ["write state", "push"] {
        collector.span(effect, |span| span.trace == attempt.trace && span.parent == attempt.id).await;
    }
    // the message of the handler, and the end of the job, at the node of the page
    for sender in [&attempt, &frame] {
        let delivered = |span: &CollectedSpan| span.trace == attempt.trace && span.parent == sender.id;
        let delivery = collector.span("peer request", delivered).await;
        assert_eq!(delivery.process["pagewire.role"], "node");
    }
    let record = node.api().get_json(&format!("/api/v1/jobs/{job}")).await;
    let trace: String = attempt.trace.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(record["trace"].as_str().is_some_and(|parent| parent.contains(&trace)), "{record}");
}

#[tokio::test]
async fn what_a_program_writes_and_calls_is_in_the_trace_of_its_call() {
    let collector = Collector::start().await;
    let setup = children::setup(&[]).set("telemetry.otlp", collector.url());
    let node = setup.variable(PACE.0, PACE.1).start().await;
    let mut page = Page::open(&node).await;
    let changes = json!([{"path": "a", "value": 1}]);
    let patch = json!({"method": "state.patch", "params": {"level": "page", "changes": changes}});
    page.result(call("ask", patch)).await;
    let run = collector.span("run call", |span| span.attributes["method"] == "ask").await;
    collector.span("write state", |span| span.trace == run.trace && span.parent == run.id).await;
    let nested = json!({"method": "call", "params": {"method": "echo", "params": 1}});
    assert_eq!(page.result(call("ask", nested)).await, 1);
    let echo = collector.span("run call", |span| span.attributes["method"] == "echo").await;
    let asked = collector.span("run call", |span| span.trace == echo.trace && span.id != echo.id).await;
    assert_eq!(asked.attributes["method"], "ask");
}

#[tokio::test]
async fn a_trace_from_elsewhere_is_sent_if_its_sender_does_and_a_share_of_the_others() {
    let collector = Collector::start().await;
    let setup = Node::setup().set("telemetry.otlp", collector.url()).set("telemetry.sample", "0");
    let node = setup.variable(PACE.0, PACE.1).start().await;
    let (api, trace) = (node.api(), "4bf92f3577b34da6a3ce929d0e0e4736");
    let ask = |flags: &str| {
        let parent = format!("00-{trace}-00f067aa0ba902b7-{flags}");
        api.request(reqwest::Method::GET, "/api/v1/stats").header("traceparent", parent).send()
    };
    api.get_json("/api/v1/stats").await;
    ask("00").await.expect("an answer");
    ask("01").await.expect("an answer");
    let sent = collector.span("request", |_| true).await;
    assert_eq!(sent.trace.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), trace);
    assert_eq!(sent.attributes["path"], "/api/v1/stats");
    assert_eq!(collector.spans().len(), 1, "{:?}", collector.spans());
}

#[tokio::test]
async fn traces_are_sent_over_grpc_too_and_the_last_ones_before_the_end() {
    let collector = Collector::grpc().await;
    let setup = Node::setup().set("telemetry.otlp", collector.url()).set("telemetry.protocol", "grpc");
    // longer than the test: what is collected was sent at the end
    let mut node = setup.variable(PACE.0, "60000").start().await;
    node.api().get_json("/api/v1/stats").await;
    node.terminate();
    assert!(node.exit(SOON).await.success());
    let sent = collector.span("request", |span| span.attributes["path"] == "/api/v1/stats").await;
    assert_eq!(sent.process["pagewire.role"], "node");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_request() {
    let setup = Node::setup().set("telemetry.otlp", "http://127.0.0.1:9");
    let mut node = setup.variable(PACE.0, PACE.1).start().await;
    let mut page = Page::open(&node).await;
    let sum = json!({"type": "call", "method": "sum", "params": [40, 2]});
    assert_eq!(page.result(sum).await, 42);
    eventually("the log names the collector", SOON, async || {
        node.log().contains("traces are not sent").then_some(())
    })
    .await;
    node.terminate();
    assert!(node.exit(SOON).await.success());
}
