//! A backend that each test plays, over real connections.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::id::Key;
use pagewire_cluster::timing::Timing;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::callbacks::{CallbackReply, Callbacks};
use super::options::HttpOptions;
use super::pool::{HttpPool, InvalidBackend};
use crate::handlers::{HandlerInput, RunFailure, RunResult, StopReason, StopSignal, WorkUnit};

/// Long enough for anything that happens soon.
const SOON: Duration = Duration::from_secs(10);

/// A request that a backend has received.
struct Received {
    head: String,
    body: Value,
}

impl Received {
    fn header(&self, name: &str) -> Option<&str> {
        let is_named = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}: "));
        Some(self.head.lines().find(is_named)?.split_once(": ")?.1)
    }
}

/// A backend that gives each request the same response; without one it does not answer.
struct PlayedBackend {
    url: String,
    received: mpsc::UnboundedReceiver<Received>,
    /// Connections that the client has closed before there was a response.
    closed: mpsc::UnboundedReceiver<()>,
}

impl PlayedBackend {
    async fn start(response: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/run", listener.local_addr().unwrap());
        let ((seen, received), (ends, closed)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let response = Arc::new(response);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, response.clone(), seen.clone(), ends.clone()));
            }
        });
        Self { url, received, closed }
    }

    async fn next(&mut self) -> Received {
        tokio::time::timeout(SOON, self.received.recv()).await.expect("a request in time").unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    response: Arc<Option<String>>,
    seen: mpsc::UnboundedSender<Received>,
    ends: mpsc::UnboundedSender<()>,
) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let _ = seen.send(Received { head, body: serde_json::from_str(&body).unwrap_or_default() });
    match &*response {
        Some(response) => drop(stream.write_all(response.as_bytes()).await),
        None => {
            let _ = stream.read_buf(&mut bytes).await;
            let _ = ends.send(());
        }
    }
}

fn response(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"))
}

fn options(url: &str) -> HttpOptions {
    HttpOptions {
        pool: "orders".to_owned(),
        url: url.to_owned(),
        methods: vec!["sum".to_owned()],
        secret: "key".to_owned(),
        timeout: None,
        slots: 2,
        callback: "http://127.0.0.1:1".to_owned(),
    }
}

fn pool(url: &str) -> HttpPool {
    HttpPool::new(options(url), Callbacks::default(), Timing::TEST).unwrap()
}

fn call() -> HandlerInput {
    HandlerInput::call(RawValue::from_string("[40,2]".to_owned()).unwrap())
}

fn job() -> HandlerInput {
    HandlerInput { unit: WorkUnit::Job { id: Key::from_bits(7), attempt: 1, left: 2 }, ..call() }
}

async fn run(url: &str, input: HandlerInput) -> RunResult {
    tokio::time::timeout(SOON, pool(url).handlers().run("sum", input)).await.expect("an end in time")
}

/// Returns the code, the message and whether the work is tried again.
async fn failure(url: &str, input: HandlerInput) -> (String, String, bool) {
    match run(url, input).await {
        Err(RunFailure::Failed(error)) => (error.code, error.message, error.retryable),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_is_one_signed_request() {
    let mut backend = PlayedBackend::start(response("200 OK", "", "42")).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
    let input = HandlerInput { user: Some("ann".to_owned()), trace: Some(trace.clone()), ..call() };
    assert_eq!(run(&backend.url, input).await.unwrap().get(), "42");
    let received = backend.next().await;
    assert!(received.head.starts_with("POST /run HTTP/1.1\r\n"), "{}", received.head);
    assert_eq!(received.body, serde_json::json!({"method": "sum", "params": [40, 2], "user": "ann"}));
    assert_eq!(received.header("traceparent"), Some(trace.as_str()));
    assert!(received.header("pagewire-signature").is_some_and(|text| text.len() == 3 + 64));
    let within: u128 = received.header("pagewire-timeout-ms").unwrap().parse().unwrap();
    assert_eq!(within, Timing::TEST.call.as_millis());
}

#[tokio::test]
async fn a_result_that_is_too_large_is_an_error_of_its_work() {
    let large = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
    let fits = PlayedBackend::start(response("200 OK", "", &large(192 * 1024))).await;
    assert!(run(&fits.url, job()).await.is_ok());
    let over = PlayedBackend::start(response("200 OK", "", &large(192 * 1024 + 1))).await;
    assert_eq!(failure(&over.url, job()).await.0, "too_large");
    assert!(run(&over.url, call()).await.is_ok(), "a call has another limit");
    let endless = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned() + &"1".repeat(2 * 1024 * 1024);
    let endless = PlayedBackend::start(Some(endless)).await;
    assert_eq!(failure(&endless.url, call()).await.0, "too_large");
}

#[tokio::test]
async fn a_backend_that_does_not_answer_costs_its_work_the_time_out() {
    let mut silent = PlayedBackend::start(None).await;
    let input = HandlerInput { within: Some(Duration::from_millis(200)), ..call() };
    let (code, message, retryable) = failure(&silent.url, input).await;
    assert_eq!((code.as_str(), retryable), ("timeout", true), "{message}");
    let closed = tokio::time::timeout(SOON, silent.closed.recv()).await;
    assert_eq!(closed.expect("the request is closed"), Some(()));
}

#[tokio::test]
async fn work_that_is_asked_to_stop_closes_its_request() {
    let mut silent = PlayedBackend::start(None).await;
    let (stop, signal) = StopSignal::new();
    let (handlers, input) = (pool(&silent.url).handlers(), HandlerInput { stop: signal, ..job() });
    let running = tokio::spawn(async move { handlers.run("sum", input).await });
    silent.next().await;
    stop.send_replace(Some(StopReason::Cancelled));
    assert_eq!(running.await.unwrap().map(|_| ()), Err(RunFailure::Stopped));
    assert_eq!(tokio::time::timeout(SOON, silent.closed.recv()).await.expect("it is closed"), Some(()));
}

#[tokio::test]
async fn a_backend_that_cannot_be_reached_or_breaks_off_fails_with_a_retry() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (code, message, retryable) = failure(&format!("http://{free}/"), job()).await;
    assert_eq!((code.as_str(), retryable), ("failed", true), "{message}");
    for garbage in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123"] {
        let backend = PlayedBackend::start(Some(garbage.to_owned())).await;
        let (code, message, retryable) = failure(&backend.url, job()).await;
        assert_eq!((code.as_str(), retryable), ("failed", true), "{garbage:?}: {message}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_at_its_host_and_refused_to_another_private_one() {
    let mut target = PlayedBackend::start(response("200 OK", "", "42")).await;
    let redirect =
        |location: &str| response("307 Temporary Redirect", &format!("location: {location}\r\n"), "");
    let same = PlayedBackend::start(redirect(&target.url)).await;
    assert_eq!(run(&same.url, job()).await.unwrap().get(), "42");
    assert_eq!(target.next().await.body["method"], "sum");
    // the configured name is trusted; the addresses behind a redirect are not
    let by_name = |url: &str| url.replace("127.0.0.1", "localhost");
    for (configured, location) in
        [(by_name(&same.url), target.url.clone()), (same.url.clone(), by_name(&target.url))]
    {
        let backend = PlayedBackend::start(redirect(&location)).await;
        let port = |url: &str| url.rsplit_once(':').unwrap().1.to_owned();
        let url = format!("{}:{}", configured.rsplit_once(':').unwrap().0, port(&backend.url));
        let (code, message, retryable) = failure(&url, job()).await;
        assert_eq!((code.as_str(), retryable), ("failed", false), "{message}");
        assert!(message.contains("private address"), "{message}");
    }
    assert!(target.received.try_recv().is_err(), "a refused redirect sends nothing");
    let seen_as_get = PlayedBackend::start(response("303 See Other", "location: /\r\n", "")).await;
    assert!(failure(&seen_as_get.url, job()).await.1.contains("303"));
}

#[tokio::test]
async fn a_job_reports_progress_until_its_response_is_complete() {
    let callbacks = Callbacks::default();
    let mut silent = PlayedBackend::start(None).await;
    let pool = HttpPool::new(options(&silent.url), callbacks.clone(), Timing::TEST).unwrap();
    let running = tokio::spawn(async move { pool.handlers().run("sum", job()).await });
    let received = silent.next().await;
    let url = received.body["callback"].as_str().unwrap().to_owned();
    let token = url.strip_prefix("http://127.0.0.1:1/_work/").unwrap();
    assert_eq!(callbacks.receive(token, br#"{"progress":0.5}"#), CallbackReply::Accepted);
    running.abort();
    let _ = running.await;
    assert_eq!(callbacks.receive(token, br#"{"progress":0.6}"#), CallbackReply::Ended);
}

#[test]
fn only_a_url_of_http_is_a_backend() {
    let problem = |url: &str| {
        HttpPool::new(options(url), Callbacks::default(), Timing::TEST).err().map(|InvalidBackend(text)| text)
    };
    assert_eq!(problem("https://a.example:8443/x?y=1"), None);
    for bad in ["", "a.example", "ftp://a.example/", "unix:/run/a", "http://ann:secret@a.example/"] {
        assert!(problem(bad).is_some(), "{bad}");
    }
}
