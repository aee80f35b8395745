//! The requests of handlers: their results, their errors, and that each is refused when its work does not stand any more.

use std::time::Duration;

use pagewire_cluster::engine::Engine;
use pagewire_cluster::id::{Address, Entity, Key, NodeNumber};
use pagewire_cluster::job::{JobState, Jobs};
use pagewire_cluster::lock::Locks;
use pagewire_cluster::state::StateStore;
use pagewire_cluster::trace::TraceParent;
use pagewire_cluster::wire::HandlerError;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::serial::{start, until};
use super::worker::{Log, Worker, jobs};
use super::{TIMING, becomes, end, memory, submission, submit};
use crate::effects::{Effects, Standing};
use crate::handlers::{HandlerInput, Handlers, HandlersBuilder, failed};
use crate::outgoing::WorkIdentity;
use crate::requests::answer;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Each request with parameters that are right.
fn right() -> Vec<(&'static str, Value)> {
    let job = Key::from_bits(9);
    vec![
        ("state.get", json!({"level": "user"})),
        ("state.patch", json!({"level": "user", "changes": [{"path": "a", "value": 1}]})),
        ("push.send", json!({"to": {"user": "ann"}, "payload": 1})),
        ("job.submit", json!({"kind": "echo"})),
        ("job.get", json!({"job": job})),
        ("job.cancel", json!({"job": job})),
        ("call", json!({"method": "echo"})),
        ("lock.acquire", json!({"name": "l", "ttl_ms": 1000})),
        ("lock.renew", json!({"name": "l", "token": 1, "ttl_ms": 1000})),
        ("lock.release", json!({"name": "l", "token": 1})),
        ("register.read", json!({"items": [{"level": "global"}]})),
        ("register.write", json!({"ops": []})),
        ("register.list", json!({"level": "page"})),
        ("register.relabel", json!({"connection": "c", "user": "u"})),
        ("register.drop", json!({"level": "page", "id": "p"})),
        ("register.subscribe", json!({"page": "p", "tables": {"t": true}})),
        ("register.tables", json!({"tables": []})),
        ("register.publish", json!({"entries": []})),
        ("register.take", json!({"page": "p"})),
        ("register.withdraw", json!({"page": "p", "path": "a"})),
    ]
}

/// Work that asks for something: of the user ann, by a page.
struct Asking {
    effects: Effects,
    identity: WorkIdentity,
}

fn asking(standing: &Standing) -> Asking {
    let identity = WorkIdentity {
        user: Some("ann".into()),
        page: Some(Address { key: Key::from_bits(1), node: NodeNumber::new(7).unwrap() }),
        session: Some(Key::from_bits(2)),
        connection: Some(Key::from_bits(3)),
        until: None,
        trace: TraceParent::parse(TRACE),
    };
    Asking { effects: standing.effects(), identity }
}

impl Asking {
    async fn ask(&self, method: &str, params: Value) -> Result<Value, HandlerError> {
        let params = RawValue::from_string(params.to_string()).unwrap();
        let value = answer(&self.effects, &self.identity, method, &params).await?;
        Ok(serde_json::from_str(value.get()).unwrap())
    }

    async fn code(&self, method: &str, params: Value) -> String {
        self.ask(method, params).await.unwrap_err().code
    }
}

/// A worker whose work asks, and another one with handlers for the jobs and calls that it asks for.
async fn asks(engine: &Engine) -> (Worker, Standing) {
    let worker = Worker::with_methods(engine, &Log::default(), &["who"]).await;
    let standing = worker.supervisor.begin(None, Some("ann")).await.unwrap();
    (worker, standing)
}

fn handlers() -> Handlers {
    let caller = |input: HandlerInput| async move {
        let HandlerInput { user, page, session, trace, within, .. } = input;
        let caller = json!([user, page, session, trace, within.map(|within| within.as_millis() as u64)]);
        Ok(RawValue::from_string(caller.to_string()).unwrap())
    };
    HandlersBuilder::default()
        .handler("echo", |input| async move { Ok(input.params) })
        .handler("fail", |_| async { Err(failed("no")) })
        .handler("hang", |_| std::future::pending())
        .handler("caller", caller)
        .build()
}

async fn serving(jobs: &Jobs, workers: usize) {
    until("the workers are there", || jobs.workers.roster().list().len() == workers).await;
}

#[tokio::test]
async fn every_request_of_work_that_has_ended_is_refused_and_a_right_one_is_never_malformed() {
    let engine = memory();
    let (_worker, standing) = asks(&engine).await;
    let ask = asking(&standing);
    for (method, params) in right() {
        let outcome = ask.ask(method, params).await;
        let code = outcome.err().map(|error| error.code);
        assert!(!["malformed", "unsupported"].contains(&code.as_deref().unwrap_or("ok")), "{method}");
    }
    drop(standing);
    for (method, params) in right() {
        assert_eq!(ask.code(method, params).await, "stale", "{method}");
    }
    let inside = Asking { effects: Effects::none(), identity: ask.identity };
    for (method, params) in right() {
        assert_eq!(inside.code(method, params).await, "unsupported", "{method}");
    }
}

#[tokio::test]
async fn an_unknown_request_is_unsupported_and_wrong_parameters_name_the_member() {
    let engine = memory();
    let (_worker, standing) = asks(&engine).await;
    let ask = asking(&standing);
    assert_eq!(ask.code("state.drop", json!({})).await, "unsupported");
    assert_eq!(ask.code("state.get", json!([])).await, "malformed");
    for (method, params, member) in [
        ("state.get", json!({}), "level"),
        ("state.get", json!({"level": "room"}), "level"),
        ("state.get", json!({"level": "page", "id": "x"}), "id"),
        ("state.get", json!({"level": "user", "id": ""}), "id"),
        ("state.get", json!({"level": "user", "path": 1}), "path"),
        ("state.patch", json!({"level": "user"}), "changes"),
        ("state.patch", json!({"level": "user", "changes": [{"path": "a"}]}), "changes"),
        ("state.patch", json!({"level": "user", "changes": [], "if_revision": -1}), "if_revision"),
        ("push.send", json!({"payload": 1}), "to"),
        ("push.send", json!({"to": {"all": false}, "payload": 1}), "to"),
        ("push.send", json!({"to": {"user": "a", "topic": "b"}, "payload": 1}), "to"),
        ("push.send", json!({"to": {"all": true}}), "payload"),
        ("job.submit", json!({"kind": ""}), "kind"),
        ("job.submit", json!({"kind": "a", "run_in_ms": "1"}), "run_in_ms"),
        ("job.submit", json!({"kind": "a", "user": "x".repeat(257)}), "user"),
        ("job.get", json!({"job": "x"}), "job"),
        ("call", json!({}), "method"),
        ("call", json!({"method": "a", "timeout_ms": 1.5}), "timeout_ms"),
        ("lock.acquire", json!({"name": "", "ttl_ms": 1000}), "name"),
        ("lock.acquire", json!({"name": "a", "ttl_ms": 999}), "ttl_ms"),
        ("lock.acquire", json!({"name": "a", "ttl_ms": 1000, "wait_ms": 30_001}), "wait_ms"),
        ("lock.renew", json!({"name": "a", "ttl_ms": 1000}), "token"),
        ("register.read", json!({"register": "A"}), "register"),
        ("register.read", json!({"items": 1}), "items"),
        ("register.read", json!({"news_of": [""]}), "page"),
        ("register.write", json!({"ops": [{"level": "room"}]}), "ops"),
        ("register.list", json!({"level": "page", "where": 1}), "where"),
        ("register.drop", json!({"level": "page"}), "id"),
        ("register.publish", json!({}), "entries"),
        ("register.take", json!({"page": ""}), "page"),
        ("register.withdraw", json!({"page": "p"}), "path"),
    ] {
        let error = ask.ask(method, params.clone()).await.unwrap_err();
        assert_eq!(error.code, "malformed", "{method} {params}");
        assert!(error.message.starts_with(&format!("{member}: ")), "{method} {params}: {}", error.message);
    }
    for (method, mut params) in [("job.submit", json!({"kind": "a"})), ("call", json!({"method": "a"}))] {
        params["exec_mode"] = json!("elsewhere");
        let error = ask.ask(method, params).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("malformed", false), "{method}");
        assert_eq!(error.message, "exec_mode is inline, any or assigned", "{method}");
    }
    let alone = Asking { identity: WorkIdentity::default(), ..ask };
    let error = alone.ask("state.get", json!({"level": "session"})).await.unwrap_err();
    assert_eq!(error.message, "id: it is missing, and this belongs to no session");
}

#[tokio::test]
async fn reading_a_register_says_for_which_pages_there_is_something_to_take() {
    let engine = memory();
    let (_worker, standing) = asks(&engine).await;
    let ask = asking(&standing);
    let created = |id: &str| json!({"level": "page", "id": id, "create": "new"});
    ask.ask("register.write", json!({"ops": [created("p1"), created("p2")]})).await.unwrap();
    ask.ask("register.publish", json!({"entries": [{"to": {"page": "p1"}, "changes": [1]}]})).await.unwrap();
    let read = json!({"news_of": ["p1", "p2", "p3"]});
    assert_eq!(ask.ask("register.read", read.clone()).await.unwrap()["news"], json!(["p1"]));
    ask.ask("register.take", json!({"page": "p1"})).await.unwrap();
    assert_eq!(ask.ask("register.read", read).await.unwrap()["news"], json!([]));
}

#[tokio::test]
async fn a_handler_reads_and_changes_the_trees_of_its_page_and_any_other_by_its_id() {
    let engine = memory();
    let (_worker, standing) = asks(&engine).await;
    let (ask, states) = (asking(&standing), StateStore::new(&engine));
    for (level, id, tree) in [
        ("user", json!("ann"), Entity::User("ann".into())),
        ("page", json!(ask.identity.page), Entity::Page(Key::from_bits(1))),
        ("session", json!(Key::from_bits(2)), Entity::Session(Key::from_bits(2))),
        ("connection", json!(Key::from_bits(3)), Entity::Connection(Key::from_bits(3))),
    ] {
        let none = ask.ask("state.get", json!({"level": level, "path": "a"})).await.unwrap();
        assert_eq!(none, json!({"revision": 0}), "nothing at the path is no value");
        let changes = json!([{"path": "a", "value": null}, {"path": "b.c", "value": 2}]);
        let own = json!({"level": level, "changes": changes, "if_revision": 0});
        let revision = ask.ask("state.patch", own.clone()).await.unwrap()["revision"].clone();
        let stored = states.get(&tree, &"".parse().unwrap()).await.unwrap();
        assert_eq!(
            (json!(stored.revision), stored.value),
            (revision.clone(), Some(json!({"a": null, "b": {"c": 2}})))
        );
        assert_eq!(ask.code("state.patch", own).await, "conflict");
        let named = json!({"level": level, "id": id, "path": "b"});
        let read = ask.ask("state.get", named).await.unwrap();
        assert_eq!(read, json!({"value": {"c": 2}, "revision": revision}));
        let changes = json!([{"path": "b", "delete": true}]);
        ask.ask("state.patch", json!({"level": level, "id": id, "changes": changes})).await.unwrap();
        let left = ask.ask("state.get", json!({"level": level})).await.unwrap();
        assert_eq!(left["value"], json!({"a": null}));
    }
}

#[tokio::test]
async fn a_handler_submits_reads_and_cancels_jobs() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let (_worker, standing) = asks(&engine).await;
    let _other = start(&engine, handlers()).await;
    serving(&jobs, 2).await;
    let ask = asking(&standing);
    let id = |value: &Value| value["job"].as_str().unwrap().parse::<Key>().unwrap();
    let submitted = ask.ask("job.submit", json!({"kind": "caller", "data": 1})).await.unwrap();
    let record = end(&jobs, id(&submitted)).await;
    assert_eq!(record.user.as_deref(), Some("ann"), "the user of the work");
    assert_eq!(record.trace.as_ref().map(TraceParent::as_str), Some(TRACE));
    let read = ask.ask("job.get", submitted.clone()).await.unwrap();
    let result = json!(["ann", null, null, TRACE, null]);
    let kept =
        json!({"id": record.id, "kind": "caller", "state": "succeeded", "attempts": 1, "result": result});
    assert_eq!(read, kept, "no page waits for it");
    assert_eq!(ask.code("job.cancel", submitted).await, "conflict");
    assert_eq!(ask.code("job.get", json!({"job": Key::from_bits(5)})).await, "unknown");

    let failing = ask.ask("job.submit", json!({"kind": "fail", "user": null})).await.unwrap();
    let record = end(&jobs, id(&failing)).await;
    assert_eq!((record.state, record.user), (JobState::Failed, None), "null is no user");
    let error = json!({"code": "failed", "message": "no", "retryable": true});
    assert_eq!(ask.ask("job.get", failing).await.unwrap()["error"], error);

    let later = json!({"kind": "echo", "user": "bob", "run_in_ms": 3_600_000, "idempotency_key": "k"});
    let first = ask.ask("job.submit", later.clone()).await.unwrap();
    assert_eq!(ask.ask("job.submit", later).await.unwrap(), first, "the same job, although time has passed");
    let record = jobs.records.get(id(&first)).await.unwrap().unwrap().record;
    assert_eq!((record.state, record.due), (JobState::Scheduled, record.created + 3_600_000));
    assert_eq!(ask.ask("job.cancel", first.clone()).await.unwrap(), json!({"state": "cancelled"}));
    let sooner = json!({"kind": "echo", "user": "bob", "run_in_ms": 1, "idempotency_key": "k"});
    assert_eq!(ask.code("job.submit", sooner).await, "conflict");
}

#[tokio::test]
async fn a_handler_calls_another_one_within_its_own_time() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let (_worker, standing) = asks(&engine).await;
    let _other = start(&engine, handlers()).await;
    serving(&jobs, 2).await;
    let mut ask = asking(&standing);
    assert_eq!(ask.ask("call", json!({"method": "echo", "params": [1, 2]})).await.unwrap(), json!([1, 2]));
    assert_eq!(ask.code("call", json!({"method": "fail"})).await, "failed");
    assert_eq!(ask.code("call", json!({"method": "hang", "timeout_ms": 30})).await, "timeout");

    let own = ask.ask("call", json!({"method": "caller"})).await.unwrap();
    let page = json!(ask.identity.page);
    assert_eq!(own.as_array().unwrap()[..4], [json!("ann"), page, json!(Key::from_bits(2)), json!(TRACE)]);
    let other = ask.ask("call", json!({"method": "caller", "user": "bob"})).await.unwrap();
    let without_page = [json!("bob"), Value::Null, Value::Null, json!(TRACE)];
    assert_eq!(other.as_array().unwrap()[..4], without_page, "the page is of another user");

    ask.identity.until = Instant::now().checked_add(Duration::from_millis(700));
    let left = ask.ask("call", json!({"method": "caller", "timeout_ms": 60_000})).await.unwrap()[4].clone();
    assert!(left.as_u64().unwrap() <= 700, "{left}");
    assert_eq!(ask.code("call", json!({"method": "hang"})).await, "timeout");
}

#[tokio::test]
async fn a_lock_has_one_holder_and_its_token_grows() {
    let engine = memory();
    let (_worker, standing) = asks(&engine).await;
    let ask = asking(&standing);
    let params = json!({"name": "l", "ttl_ms": 60_000, "wait_ms": 10});
    let first = ask.ask("lock.acquire", params.clone()).await.unwrap();
    assert!(first["ttl_ms"].as_u64().unwrap() <= 60_000);
    let error = ask.ask("lock.acquire", params.clone()).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("locked", true));
    let held = json!({"name": "l", "token": first["token"], "ttl_ms": 5_000});
    assert!(ask.ask("lock.renew", held.clone()).await.unwrap()["ttl_ms"].as_u64().unwrap() <= 5_000);
    assert_eq!(ask.ask("lock.release", held.clone()).await.unwrap(), json!({}));
    let second = ask.ask("lock.acquire", params).await.unwrap();
    assert!(second["token"].as_u64() > first["token"].as_u64());
    assert_eq!(ask.code("lock.renew", held).await, "stale");
}

#[tokio::test]
async fn a_lock_of_work_that_has_ended_is_held_until_its_time_is_over() {
    let engine = memory();
    let (worker, standing) = asks(&engine).await;
    let ask = asking(&standing);
    let params = json!({"name": "l", "ttl_ms": 1000});
    let first = ask.ask("lock.acquire", params.clone()).await.unwrap();
    drop(standing);
    let held = json!({"name": "l", "token": first["token"], "ttl_ms": 60_000});
    assert_eq!(ask.code("lock.renew", held).await, "stale", "the work that has ended renews nothing");
    let next = worker.supervisor.begin(None, None).await.unwrap();
    let ask = asking(&next);
    assert_eq!(ask.code("lock.acquire", params.clone()).await, "locked");
    let waits = json!({"name": "l", "ttl_ms": 1000, "wait_ms": 30_000});
    assert!(ask.ask("lock.acquire", waits).await.unwrap()["token"].as_u64() > first["token"].as_u64());
}

#[tokio::test]
async fn work_that_ends_while_it_waits_for_a_lock_does_not_hold_it() {
    let engine = memory();
    let (_worker, standing) = asks(&engine).await;
    let locks = Locks::new(&engine, TIMING);
    let held = locks.acquire("l", Duration::from_secs(60), Duration::ZERO).await.unwrap();
    let ask = asking(&standing);
    let waiting = tokio::spawn(async move {
        ask.code("lock.acquire", json!({"name": "l", "ttl_ms": 60_000, "wait_ms": 30_000})).await
    });
    // the first try is made before the work ends
    tokio::task::yield_now().await;
    drop(standing);
    locks.release("l", held.token).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "stale");
    assert!(locks.acquire("l", Duration::from_secs(1), Duration::ZERO).await.is_ok(), "it is free");
}

#[tokio::test]
async fn a_handler_asks_in_the_name_of_its_own_work() {
    let engine = memory();
    let jobs = jobs(&engine).await;
    let counts = |input: HandlerInput| async move {
        let (identity, HandlerInput { effects, .. }) = (input.identity(), input);
        let changes = RawValue::from_string(
            json!({"level": "user", "changes": [{"path": "seen", "value": true}]}).to_string(),
        );
        answer(&effects, &identity, "state.patch", &changes.unwrap()).await
    };
    let _worker = start(&engine, HandlersBuilder::default().handler("counts", counts).build()).await;
    let job = submit(&jobs, super::assigned("counts", "ann")).await;
    let record = becomes(&jobs, job, |record| record.state.is_terminal()).await;
    assert_eq!(record.state, JobState::Succeeded, "{record:?}");
    let states = StateStore::new(&engine);
    let seen = states.get(&Entity::User("ann".into()), &"seen".parse().unwrap()).await.unwrap();
    assert_eq!(seen.value, Some(json!(true)));
    let nobody = end(&jobs, submit(&jobs, submission("counts")).await).await;
    assert_eq!(nobody.error.map(|error| error.code).as_deref(), Some("malformed"));
}
