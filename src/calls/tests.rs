//! Tests of calls on a single node without workers: the results of its own handlers.

use pagewire_cluster::engine::{Engine, Memory};
use pagewire_cluster::job::Affinity;
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::subject::Subjects;
use pagewire_worker::demo::demo_handlers;
use pagewire_worker::outgoing::{NestedCall, NestedJob, WorkIdentity, WorkSubmitter};

use super::*;

fn executors() -> Executors {
    let timing = Timing::TEST;
    let (engine, subjects) = (Engine::Memory(Memory::with_timing(&timing)), Subjects::new("t"));
    let workers = Workers::new(&engine, &subjects, timing);
    let jobs = Jobs::new(&engine, &subjects, timing, &workers);
    let peers = PeerClient::new(&engine, &subjects, timing.deliver);
    let rollouts = Rollouts::new(&engine, peers, timing.deliver);
    Executors::new(
        demo_handlers(),
        ExecutorOptions {
            alone: false,
            prefer: Preference::Local,
            modes: BTreeMap::new(),
            local: LocalWorkers::default(),
        },
        jobs,
        workers,
        rollouts,
        timing,
        Arc::new(Metrics::new("stable", "dev")),
    )
}

async fn call(
    method: &str,
    params: &str,
    exec_mode: Option<ExecMode>,
    timeout_ms: u64,
) -> Result<String, String> {
    let call = CallRequest {
        method: method.into(),
        params: serde_json::from_str(params).unwrap(),
        exec_mode,
        pool: None,
        timeout: Some(Duration::from_millis(timeout_ms)),
        user: Some("ann".into()),
        connection: None,
        page: None,
        session: None,
        pins: None,
        class: None,
        event: None,
    };
    executors().call(call).await.map(|value| value.get().to_owned()).map_err(|error| match error {
        ExecutorError::Failed(failure) => failure.code,
        ExecutorError::Refused(error) => error.code.text().to_owned(),
    })
}

fn refused(code: ErrorCode) -> Result<String, String> {
    Err(code.text().to_owned())
}

#[tokio::test]
async fn handlers_answer_or_say_why_not() {
    assert_eq!(call("echo", r#"{"a":[1, 2]}"#, None, 1000).await.as_deref(), Ok(r#"{"a":[1, 2]}"#));
    assert_eq!(call("sum", "[1,2.5,-3]", Some(ExecMode::Any), 1000).await.as_deref(), Ok("0.5"));
    assert_eq!(call("sum", "[1,2]", Some(ExecMode::Inline), 1000).await.as_deref(), Ok("3"));
    assert_eq!(call("sum", r#""x""#, Some(ExecMode::Inline), 1000).await, refused(ErrorCode::Malformed));
    assert_eq!(call("fail", "null", Some(ExecMode::Inline), 1000).await, refused(ErrorCode::Failed));
}

#[tokio::test]
async fn hash_is_sha_256_as_often_as_asked() {
    let once = r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""#;
    assert_eq!(call("hash", r#"{"text":"test"}"#, Some(ExecMode::Inline), 1000).await.as_deref(), Ok(once));
    let twice = r#""954d5a49fd70d9b8bcdb35d252267829957f7ef7fa6c74f88419bdc5e82209f4""#;
    assert_eq!(
        call("hash", r#"{"text":"test","rounds":2}"#, Some(ExecMode::Inline), 1000).await.as_deref(),
        Ok(twice)
    );
    let much = r#"{"rounds":4000000000}"#;
    assert_eq!(call("hash", much, Some(ExecMode::Inline), 1000).await, refused(ErrorCode::TooLarge));
}

#[tokio::test]
async fn a_call_ends_with_its_time_out() {
    assert_eq!(
        call("sleep", r#"{"ms":5000}"#, Some(ExecMode::Inline), 20).await,
        refused(ErrorCode::Timeout)
    );
    assert_eq!(call("sleep", r#"{"ms":1}"#, Some(ExecMode::Inline), 2000).await.as_deref(), Ok("null"));
}

#[tokio::test]
async fn nobody_serves_an_unknown_method_or_an_assigned_call_without_a_worker() {
    assert_eq!(call("nothing", "null", None, 1000).await, refused(ErrorCode::NoExecutor));
    assert_eq!(call("echo", "1", Some(ExecMode::Assigned), 1000).await, refused(ErrorCode::NoExecutor));
}

#[tokio::test]
async fn a_job_that_is_not_allowed_is_refused_with_the_reason() {
    let job = || JobRequest {
        kind: "echo".into(),
        data: RawValue::NULL.to_owned(),
        exec_mode: Some(ExecMode::Any),
        pool: None,
        user: None,
        connection: None,
        page: None,
        session: None,
        frame: None,
        run_at: None,
        run_in: None,
        retries: None,
        idempotency: None,
        rules: None,
    };
    let executors = executors();
    for bad in [
        JobRequest { exec_mode: Some(ExecMode::Inline), ..job() },
        JobRequest { exec_mode: Some(ExecMode::Assigned), ..job() },
        JobRequest { kind: String::new(), ..job() },
        JobRequest { pool: Some("a b".into()), ..job() },
        JobRequest { retries: Some(101), ..job() },
        JobRequest { run_in: Some(Duration::from_secs(400 * 24 * 3600)), ..job() },
        JobRequest { run_at: Some(time::OffsetDateTime::now_utc() + time::Duration::days(400)), ..job() },
    ] {
        let refused = executors.submit(bad, |_| panic!("accepted")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed);
    }
    assert!(executors.submit(job(), |_| {}).await.unwrap().fresh, "it waits for a worker");
}

fn nested_job(exec_mode: Option<ExecMode>) -> NestedJob {
    NestedJob {
        kind: "echo".into(),
        data: RawValue::NULL.to_owned(),
        identity: WorkIdentity { user: Some("ann".into()), ..WorkIdentity::default() },
        exec_mode,
        pool: None,
        run_in: Some(Duration::from_secs(60)),
        retries: Some(3),
        idempotency_key: Some("k".into()),
    }
}

#[tokio::test]
async fn a_handler_submits_jobs_under_the_rules_of_a_program() {
    let executors = NestedExecutors(executors());
    let job = executors.submit(nested_job(None)).await.unwrap();
    assert_eq!(executors.submit(nested_job(None)).await, Ok(job), "the same key, the same job");
    let record = executors.0.jobs.records.get(job).await.unwrap().unwrap().record;
    assert_eq!(
        (record.affinity, record.user.as_deref(), record.retries),
        (Affinity::Assigned, Some("ann"), 3)
    );
    assert_eq!(record.due, record.created + 60_000);
    for bad in [
        nested_job(Some(ExecMode::Inline)),
        NestedJob { retries: Some(101), ..nested_job(None) },
        NestedJob { run_in: Some(Duration::MAX), ..nested_job(None) },
    ] {
        let refused = executors.submit(bad).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retryable), ("malformed", false));
    }
}

#[tokio::test]
async fn a_handler_calls_others_and_gets_their_errors_unchanged() {
    let executors = NestedExecutors(executors());
    let call = |method: &str, exec_mode: Option<ExecMode>| {
        let call = NestedCall {
            method: method.into(),
            params: RawValue::from_string("[1, 2]".into()).unwrap(),
            identity: WorkIdentity::default(),
            exec_mode,
            pool: None,
            timeout: Duration::from_millis(50),
        };
        executors.call(call)
    };
    assert_eq!(call("sum", None).await.unwrap().get(), "3");
    assert_eq!(call("hash", None).await.unwrap_err().code, "malformed", "its own error");
    assert_eq!(call("nothing", None).await.unwrap_err().code, "no_executor");
    assert_eq!(call("sum", Some(ExecMode::Assigned)).await.unwrap_err().code, "malformed", "without a user");
}
