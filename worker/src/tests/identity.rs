//! What travels with a call or a job from its caller to its handler.

use pagewire_cluster::id::{Address, Key, NodeNumber};
use pagewire_cluster::job::{Jobs, Submission};
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::WorkerCall;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::serial::{start, until};
use super::worker::jobs;
use super::{PATIENCE, end, memory, submission, submit, team};
use crate::handlers::{HandlerInput, Handlers, HandlersBuilder};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Returns a handler that returns what it knows of its caller.
fn handlers() -> Handlers {
    let caller = |input: HandlerInput| async move {
        let HandlerInput { user, page, session, connection, trace, .. } = input;
        Ok(to_raw_value(&json!([user, page, session, connection, trace])).unwrap())
    };
    HandlersBuilder::default().handler("caller", caller).build()
}

fn page() -> Address {
    Address { key: Key::from_bits(1), node: NodeNumber::new(7).unwrap() }
}

fn from_a_page() -> serde_json::Value {
    json!(["ann", page(), Key::from_bits(2), Key::from_bits(3), TRACE])
}

fn parsed(value: &RawValue) -> serde_json::Value {
    serde_json::from_str(value.get()).unwrap()
}

async fn ready(jobs: &Jobs) {
    until("the worker is there", || jobs.workers.roster().list().len() == 1).await;
}

#[tokio::test]
async fn the_handler_of_a_call_knows_the_page_that_asked_and_its_trace() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let _worker = start(&engine, handlers()).await;
    ready(&jobs).await;
    let call = WorkerCall {
        id: Key::random(),
        method: "caller".into(),
        params: RawValue::NULL.to_owned(),
        user: Some("ann".into()),
        page: Some(page()),
        session: Some(Key::from_bits(2)),
        connection: Some(Key::from_bits(3)),
        lane: None,
        class: None,
        event: None,
        left_ms: None,
    };
    for own in [Some("ann"), None] {
        let trace = TraceParent::parse(TRACE);
        let answer = jobs.call(&team(), own, call.clone(), PATIENCE, trace).await.unwrap();
        assert_eq!(parsed(&answer), from_a_page());
    }
}

#[tokio::test]
async fn the_handler_of_a_job_knows_the_page_that_asked_and_the_record_carries_its_trace() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let _worker = start(&engine, handlers()).await;
    let asked = Submission {
        user: Some("ann".into()),
        page: Some(page()),
        session: Some(Key::from_bits(2)),
        connection: Some(Key::from_bits(3)),
        trace: TraceParent::parse(TRACE),
        ..submission("caller")
    };
    let record = end(&jobs, submit(&jobs, asked).await).await;
    assert_eq!(parsed(&record.result.unwrap()), from_a_page());
    assert_eq!(record.trace.as_ref().map(TraceParent::as_str), Some(TRACE));
    let nobody = end(&jobs, submit(&jobs, submission("caller")).await).await;
    assert_eq!(parsed(&nobody.result.unwrap()), json!([null, null, null, null, null]));
}
