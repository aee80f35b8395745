//! Durable jobs through the server API, on the embedded engine and at workers over NATS.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::{Api, Events, Nats, Node, Page, SOON, Token, WorkerProcess, eventually};

/// A node with a worker.
struct Place {
    node: Node,
    worker: Option<WorkerProcess>,
    nats: Option<Nats>,
}

impl Place {
    async fn alone() -> Self {
        Self { node: Node::start().await, worker: None, nats: None }
    }

    async fn cluster() -> Self {
        let nats = Nats::start().await;
        let node = Node::setup().nats(&nats).start().await;
        let worker = WorkerProcess::start(&nats, "stable").await;
        Self { node, worker: Some(worker), nats: Some(nats) }
    }

    fn api(&self) -> Api {
        self.node.api()
    }
}

async fn post(api: &Api, path: &str, body: Value) -> (u16, Value) {
    let path = format!("/api/v1{path}");
    let response = api.request(Method::POST, &path).json(&body).send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("a JSON body"))
}

/// Submits a new job.
async fn submit(api: &Api, body: Value) -> Value {
    let (status, job) = post(api, "/jobs", body).await;
    assert_eq!(status, 201, "{job}");
    job
}

fn id(job: &Value) -> &str {
    job["id"].as_str().expect("an id")
}

/// Waits until the job is in that state, and returns it.
async fn becomes(api: &Api, job: &Value, state: &str) -> Value {
    let path = format!("/api/v1/jobs/{}", id(job));
    eventually(&format!("{} is {state}", id(job)), SOON, async || {
        Some(api.get_json(&path).await).filter(|job| job["state"] == state)
    })
    .await
}

async fn change(api: &Api, job: &Value, how: &str) -> (u16, Value) {
    post(api, &format!("/jobs/{}/{how}", id(job)), json!({})).await
}

async fn list(api: &Api, query: &str) -> Vec<String> {
    let list = api.get_json(&format!("/api/v1/jobs?{query}")).await;
    assert_eq!(list["next_cursor"], Value::Null, "{list}");
    list["items"].as_array().expect("a list").iter().map(|job| id(job).to_owned()).collect()
}

async fn workers(api: &Api) -> Vec<Value> {
    api.get_json("/api/v1/workers").await["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_job_runs_to_its_end_alone_and_at_a_worker_over_nats() {
    for place in [Place::alone().await, Place::cluster().await] {
        let api = place.api();
        let body = json!({"kind": "echo", "data": null, "user": "a.b", "retries": 2});
        let request = api.request(Method::POST, "/api/v1/jobs").json(&body).send().await.expect("an answer");
        assert_eq!(request.status(), 201);
        let location = request.headers()["location"].to_str().expect("a path").to_owned();
        let job: Value = request.json().await.expect("JSON");
        assert_eq!(location, format!("/api/v1/jobs/{}", id(&job)));
        for (member, value) in [
            ("kind", json!("echo")),
            ("state", json!("queued")),
            ("attempts", json!(0)),
            ("retries", json!(2)),
            ("user", json!("a.b")),
            ("exec_mode", json!("assigned")),
            ("pool", json!("default")),
            ("lane", json!("stable")),
        ] {
            assert_eq!(job[member], value, "{job}");
        }
        let end = becomes(&api, &job, "succeeded").await;
        assert_eq!((&end["attempts"], end.get("result")), (&json!(1), Some(&Value::Null)), "{end}");
        assert_eq!(end["worker"], workers(&api).await[0]["worker"]);
        for time in ["created_at", "started_at", "ended_at"] {
            assert!(end[time].as_str().is_some_and(|time| time.ends_with('Z')), "{time} in {end}");
        }
    }
}

#[tokio::test]
async fn a_result_is_read_as_the_handler_wrote_it() {
    let place = Place::alone().await;
    let api = place.api();
    let raw = "{\"b\": 1,\r\n \"a\":1e2, \"text\":\"ü\\r\"}";
    let body = format!(r#"{{"kind":"echo","data":{raw},"wait_ms":5000}}"#);
    let request = api.request(Method::POST, "/api/v1/jobs").header("content-type", "application/json");
    let text = request.body(body).send().await.expect("an answer").text().await.expect("a body");
    assert!(text.contains(&format!("\"result\":{raw}")), "{text}");
    let job: Value = serde_json::from_str(&text).expect("JSON");
    let mut events = Events::open(&api, &format!("/api/v1/jobs/{}/events", id(&job)), None).await;
    assert_eq!(events.next().await, Some(("job".to_owned(), job)), "line ends in a result end no event");
}

#[tokio::test]
async fn a_watcher_sees_progress_in_order_and_then_the_end() {
    for place in [Place::alone().await, Place::cluster().await] {
        let api = place.api();
        let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 1500}})).await;
        let path = format!("/api/v1/jobs/{}/events", id(&job));
        let mut events = Events::open(&api, &path, None).await;
        let (name, first) = events.next().await.expect("an event");
        assert_eq!((name.as_str(), id(&first)), ("job", id(&job)));
        let (mut steps, mut states) = (Vec::new(), vec![first["state"].clone()]);
        while let Some((name, data)) = events.next().await {
            match name.as_str() {
                "progress" => steps.push(data["progress"].as_f64().expect("a number")),
                _ => states.push(data["state"].clone()),
            }
        }
        assert!(steps.len() > 2 && steps.is_sorted() && steps.iter().all(|step| *step <= 1.0), "{steps:?}");
        assert_eq!(states.last(), Some(&json!("succeeded")));
        assert!(states.contains(&json!("running")), "{states:?}");
        // a client that reconnects receives the end of the job
        let mut events = Events::open(&api, &path, Some("7")).await;
        assert_eq!(events.next().await.map(|(_, job)| job["state"].clone()), Some(json!("succeeded")));
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn who_watches_a_job_does_not_keep_its_node() {
    let nats = Nats::start().await;
    let mut node = Node::setup().nats(&nats).start().await;
    let job = submit(&node.api(), json!({"kind": "echo"})).await;
    let mut events = Events::open(&node.api(), &format!("/api/v1/jobs/{}/events", id(&job)), None).await;
    assert_eq!(events.next().await.map(|(name, _)| name).as_deref(), Some("job"));
    node.terminate();
    assert_eq!(events.next().await, None);
    node.exit(SOON).await;
    assert!(!node.log().contains("did not end in time"));
}

#[tokio::test]
async fn a_request_can_wait_for_the_end_of_its_job() {
    let place = Place::alone().await;
    let api = place.api();
    let sleep = |ms: u64, wait: u64| json!({"kind": "sleep", "data": {"ms": ms}, "wait_ms": wait});
    assert_eq!(submit(&api, sleep(300, 10_000)).await["state"], "succeeded");
    let requested = Instant::now();
    let job = submit(&api, sleep(60_000, 200)).await;
    assert!(job["state"] == "running" || job["state"] == "queued", "{job}");
    assert!((Duration::from_millis(200)..SOON).contains(&requested.elapsed()));
    assert_eq!(post(&api, "/jobs", sleep(1, 30_001)).await.0, 400);
}

#[tokio::test]
async fn what_cannot_become_a_job_is_refused() {
    let place = Place::alone().await;
    let api = place.api();
    for body in [
        json!({"data": 1}),
        json!({"kind": ""}),
        json!({"kind": "echo", "colour": "blue"}),
        json!({"kind": "echo", "user": ""}),
        json!({"kind": "echo", "exec_mode": "inline"}),
        json!({"kind": "echo", "exec_mode": "assigned"}),
        json!({"kind": "echo", "run_at": "tomorrow"}),
        json!({"kind": "echo", "pool": "a b"}),
        json!({"kind": "echo", "page": "short"}),
    ] {
        let (status, response) = post(&api, "/jobs", body.clone()).await;
        assert_eq!((status, &response["error"]["code"]), (400, &json!("malformed")), "{body}");
    }
    let unknown = "0000000000000000000000";
    for path in [format!("/api/v1/jobs/{unknown}"), format!("/api/v1/jobs/{unknown}/events")] {
        assert_eq!(api.get(&path).await.0, 404, "{path}");
    }
    for path in ["cancel", "retry"].map(|how| format!("/jobs/{unknown}/{how}")) {
        assert_eq!(post(&api, &path, json!({})).await.0, 404, "{path}");
    }
    for query in ["state=asleep", "colour=blue", "cursor=x"] {
        assert_eq!(api.get(&format!("/api/v1/jobs?{query}")).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_job_and_not_for_another() {
    let place = Place::alone().await;
    let api = place.api();
    let keyed = |data: Value| json!({"kind": "echo", "data": data, "idempotency_key": "once"});
    let job = submit(&api, keyed(json!(1))).await;
    becomes(&api, &job, "succeeded").await;
    let (status, again) = post(&api, "/jobs", keyed(json!(1))).await;
    assert_eq!((status, id(&again), &again["state"]), (200, id(&job), &json!("succeeded")));
    let (status, other) = post(&api, "/jobs", keyed(json!(2))).await;
    assert_eq!((status, &other["error"]["code"]), (409, &json!("conflict")));
}

#[tokio::test]
async fn a_job_is_cancelled_while_it_runs_and_not_when_it_is_over() {
    for place in [Place::alone().await, Place::cluster().await] {
        let api = place.api();
        let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 60_000}})).await;
        becomes(&api, &job, "running").await;
        let (status, requested) = change(&api, &job, "cancel").await;
        assert_eq!((status, &requested["cancelling"]), (200, &json!(true)), "{requested}");
        let end = becomes(&api, &job, "cancelled").await;
        assert!(end["cancelling"].is_null() && end["result"].is_null(), "{end}");
        let (status, refused) = change(&api, &job, "cancel").await;
        assert_eq!((status, &refused["error"]["code"]), (409, &json!("conflict")));
        let message = refused["error"]["message"].as_str().expect("a message");
        assert!(message.starts_with("this job is cancelled"), "{message}");
    }
}

#[tokio::test]
async fn a_job_waits_for_its_time_and_a_failed_one_runs_again_when_it_is_told_to() {
    let place = Place::alone().await;
    let api = place.api();
    let later = json!({"kind": "echo", "run_at": "2100-01-01T00:00:00Z"});
    assert_eq!(post(&api, "/jobs", later).await.0, 400, "more than a year ahead");
    let soon = time::OffsetDateTime::now_utc() + Duration::from_secs(3600);
    let at = soon.format(&time::format_description::well_known::Rfc3339).expect("a time");
    let waits = submit(&api, json!({"kind": "echo", "run_at": at})).await;
    assert_eq!(waits["state"], "scheduled");
    assert!(waits["run_at"].is_string());
    let (status, refused) = change(&api, &waits, "retry").await;
    assert!(status == 409 && refused["error"]["message"].as_str().is_some_and(|m| m.contains("scheduled")));

    let job = submit(&api, json!({"kind": "fail", "data": "no paper", "retries": 1})).await;
    let dead = becomes(&api, &job, "dead").await;
    assert_eq!((&dead["attempts"], &dead["error"]["message"]), (&json!(2), &json!("no paper")));
    let (status, again) = change(&api, &job, "retry").await;
    assert_eq!((status, &again["state"], &again["attempts"]), (200, &json!("queued"), &json!(0)));
    assert!(again["error"].is_null());
    let end = becomes(&api, &job, "dead").await;
    assert_eq!(end["attempts"], 2, "with all its retries");
    assert!(end["started_at"].as_str() > dead["ended_at"].as_str(), "{end}");
}

#[tokio::test]
async fn jobs_are_found_by_state_kind_and_user_and_come_in_pieces() {
    for place in [Place::alone().await, Place::cluster().await] {
        let api = place.api();
        let mut all = Vec::new();
        for n in 0..7 {
            let job = submit(&api, json!({"kind": "echo", "data": n, "wait_ms": 10_000})).await;
            assert_eq!(job["state"], "succeeded", "{job}");
            all.push(id(&job).to_owned());
        }
        let failed = submit(&api, json!({"kind": "fail", "user": "a&b", "wait_ms": 10_000})).await;
        let slow = submit(&api, json!({"kind": "sleep", "data": {"ms": 60_000}})).await;
        becomes(&api, &slow, "running").await;
        assert_eq!(list(&api, "kind=echo").await, all, "in the order of their ends");
        assert_eq!(list(&api, "user=a%26b").await, [id(&failed)]);
        let open = [id(&failed), id(&slow)];
        assert_eq!(list(&api, "state=failed,running").await, open);
        assert_eq!(list(&api, "state=failed&state=running").await, open);
        assert_eq!(list(&api, "state=failed&kind=echo").await, [""; 0]);

        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let piece = api.get_json(&format!("/api/v1/jobs?kind=echo&limit=3{cursor}")).await;
            let items = piece["items"].as_array().expect("a list");
            assert!(items.len() <= 3);
            seen.extend(items.iter().map(|job| id(job).to_owned()));
            match piece["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, all, "without gap or repetition");
    }
}

#[tokio::test]
async fn a_page_lends_a_job_its_user_and_is_told_how_it_ends() {
    let node = Node::setup().users().start().await;
    let mut page = Page::opening(&node).token(&Token::of("ann").sign()).open().await;
    let api = node.api();
    let job = submit(&api, json!({"kind": "sum", "data": [40, 2], "page": page.id()})).await;
    assert_eq!((&job["user"], &job["page"]), (&json!("ann"), &json!(page.id())));
    let end = page.expect("result").await;
    assert_eq!((&end["id"], &end["job"], &end["value"]), (&job["id"], &job["id"], &json!(42)));
    let other = submit(&api, json!({"kind": "echo", "page": page.id(), "user": "bob"})).await;
    assert_eq!(other["user"], "bob", "unless it is said");
}

#[tokio::test]
async fn a_worker_that_is_drained_finishes_its_job_and_leaves() {
    let Place { node, worker, nats } = Place::cluster().await;
    let (api, mut worker, nats) = (node.api(), worker.expect("a worker"), nats.expect("a server"));
    let job = submit(&api, json!({"kind": "sleep", "data": {"ms": 1500}})).await;
    becomes(&api, &job, "running").await;
    let known = workers(&api).await;
    let [known] = known.as_slice() else { panic!("{known:?}") };
    assert_eq!((&known["lane"], &known["draining"]), (&json!("stable"), &json!(false)));
    assert!(known["methods"].as_array().is_some_and(|methods| methods.contains(&json!("sleep"))), "{known}");
    let drain = |id: &str| format!("/workers/{id}/drain");
    let requested = post(&api, &drain(known["worker"].as_str().expect("an id")), json!({})).await;
    assert_eq!(requested, (200, json!({"draining": true})));
    eventually("the worker is seen draining", SOON, async || {
        workers(&api).await.first().is_some_and(|worker| worker["draining"] == true).then_some(())
    })
    .await;
    let waits = submit(&api, json!({"kind": "echo"})).await;
    assert_eq!(becomes(&api, &job, "succeeded").await["attempts"], 1);
    assert!(worker.exit(SOON).await.success());
    eventually("the worker has left", SOON, async || workers(&api).await.is_empty().then_some(())).await;
    assert_eq!(post(&api, &drain(known["worker"].as_str().expect("an id")), json!({})).await.0, 404);
    assert_eq!(becomes(&api, &waits, "queued").await["attempts"], 0, "it took nothing new");
    let _next = WorkerProcess::start(&nats, "stable").await;
    becomes(&api, &waits, "succeeded").await;
}

#[tokio::test]
async fn jobs_and_workers_are_open_to_the_role_admin() {
    let node = Node::setup().users().start().await;
    for (role, status) in [("push", 403), ("admin", 200)] {
        let api = node.api().with_key(&Token::of("ann").with_role(role).sign());
        for path in ["/api/v1/jobs", "/api/v1/workers"] {
            assert_eq!(api.get(path).await.0, status, "{path} for {role}");
        }
        let (status, _) = post(&api, "/jobs", json!({"kind": "echo"})).await;
        assert_eq!(status, if role == "admin" { 201 } else { 403 });
    }
}

#[tokio::test]
async fn executors_show_the_workers_of_the_cluster() {
    let Place { node, worker, nats: _nats } = Place::cluster().await;
    let api = node.api();
    let kinds = async || {
        let list = api.get_json("/api/v1/executors").await;
        let kinds = list["items"].as_array().expect("a list").iter();
        kinds.map(|kind| (kind["kind"].clone(), kind["workers"].clone())).collect::<Vec<_>>()
    };
    let remote = |workers: u64| {
        vec![
            (json!("inline"), Value::Null),
            (json!("local_free"), json!(0)),
            (json!("local_assigned"), json!(0)),
            (json!("remote_free"), json!(workers)),
            (json!("remote_assigned"), json!(workers)),
        ]
    };
    eventually("the worker counts", SOON, async || (kinds().await == remote(1)).then_some(())).await;
    worker.expect("a worker").terminate();
    eventually("it counts no more", SOON, async || (kinds().await == remote(0)).then_some(())).await;
}

#[tokio::test]
async fn a_users_jobs_for_tomorrow_hold_up_none_that_is_due_at_a_worker_over_nats() {
    let place = Place::cluster().await;
    let api = place.api();
    let tomorrow = time::OffsetDateTime::now_utc() + Duration::from_secs(24 * 3600);
    let tomorrow = tomorrow.format(&time::format_description::well_known::Rfc3339).expect("a time");
    for _ in 0..270 {
        submit(&api, json!({"kind": "echo", "data": 1, "user": "ann", "run_at": tomorrow})).await;
    }
    let job = submit(&api, json!({"kind": "echo", "data": 2, "user": "ann"})).await;
    let ended = becomes(&api, &job, "succeeded").await;
    assert_eq!((&ended["exec_mode"], &ended["result"]), (&json!("assigned"), &json!(2)), "{ended}");
}
