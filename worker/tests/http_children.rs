//! Children that serve HTTP, with real processes of gunicorn.
//!
//! It has a `main` of its own, because a child runs below a guard, which is this program. `WSGI_PYTHON` has gunicorn.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::WorkerType;
use pagewire_worker::runtime::child::guard;
use pagewire_worker::runtime::child::http_lease::{HttpLease, NoProcess};
use pagewire_worker::runtime::child::options::{
    ChildOptions, FreeAffinity, HttpQueueLimits, ListenerAddress, RecycleLimits, ScaleLimits,
};
use pagewire_worker::runtime::child::pool::ChildPool;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How long a condition may take to become true.
const SOON: Duration = Duration::from_secs(20);
/// The folders of the package and of the application, for PYTHONPATH. Tests run in the folder of their crate.
const PATH: &str = "../clients/python/src:../clients/python/tests/apps";
const LIMITS: HttpQueueLimits =
    HttpQueueLimits { queue: 2, wait: Duration::from_millis(300), drain: Duration::from_secs(20) };

fn options(target: &str, children: usize) -> ChildOptions {
    let python = std::env::var("WSGI_PYTHON").expect("a Python with gunicorn: tests/run.py sets WSGI_PYTHON");
    let arguments = ["-m", "pagewire.wsgi", target, "--server", "gunicorn", "--threads", "2"];
    ChildOptions {
        pool: "site".to_owned(),
        lane: "stable".to_owned(),
        release: "test".to_owned(),
        worker: "w1".to_owned(),
        command: std::iter::once(python).chain(arguments.map(str::to_owned)).collect(),
        env: BTreeMap::from([("PYTHONPATH".to_owned(), PATH.to_owned())]),
        directory: None,
        children: vec![(WorkerType::Both, ScaleLimits::fixed(children))],
        slots: 2,
        start: Duration::from_secs(20),
        recycle: RecycleLimits::default(),
        affinity: FreeAffinity::LeastLoaded,
        methods: Vec::new(),
        http: Some(LIMITS),
        program: None,
        needs: Vec::new(),
        applications: None,
    }
}

/// Starts a pool and waits until all children are ready.
async fn started(options: ChildOptions) -> ChildPool {
    let children = options.children[0].1.min;
    let pool = ChildPool::start(options, Timing::TEST).expect("a folder");
    eventually("all children are ready", async || (ready(&pool) == children).then_some(())).await;
    pool
}

fn ready(pool: &ChildPool) -> usize {
    pool.status().children.iter().filter(|child| child.state == "ready").count()
}

async fn eventually<T>(what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn leased(pool: &ChildPool) -> HttpLease {
    pool.http(None).await.unwrap_or_else(|reason| panic!("no child: {reason}"))
}

/// Sends a request and returns the connection, on which the answer arrives.
async fn asked(socket: &Path, path: &str) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Returns the private socket of a child.
fn socket(lease: &HttpLease) -> &Path {
    lease.address().socket().expect("a private socket")
}

/// Sends a request and returns the body of its answer.
async fn answer(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    asked(socket, path).await?.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no answer"))?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

/// Returns the process that answers one request.
async fn pid(pool: &ChildPool, place: Option<u32>) -> u64 {
    let lease = pool.http(place).await.unwrap_or_else(|reason| panic!("no child: {reason}"));
    let body = answer(socket(&lease), "/environ").await.expect("an answer");
    let shown: Value = serde_json::from_str(&body).expect("JSON");
    shown["pid"].as_u64().expect("a process")
}

/// A request that runs until its file is created.
struct Gate(tempfile::TempDir);

impl Gate {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Begins a request, and waits until the application runs it.
    async fn request(&self, lease: &HttpLease) -> UnixStream {
        let path = format!("/stream?{}", self.0.path().join("open").display());
        let mut stream = asked(socket(lease), &path).await.expect("a connection");
        let mut text = Vec::new();
        while !text.windows(5).any(|part| part == b"first") {
            assert!(stream.read_buf(&mut text).await.expect("a part") > 0, "it ended");
        }
        stream
    }

    fn open(&self) {
        std::fs::write(self.0.path().join("open"), "").expect("a file");
    }
}

async fn rest(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("the rest");
    text
}

/// Sends requests from four clients until `until` has ended. Each must be answered. Returns how many there were.
async fn under_load(pool: &ChildPool, until: impl Future<Output = ()>) -> usize {
    let (done, ended) = watch::channel(false);
    let client = async || {
        let mut requests = 0;
        while !*ended.borrow() {
            pid(pool, None).await;
            requests += 1;
        }
        requests
    };
    let clients = join_all((0..4).map(|_| client()));
    let (counts, ()) = futures_util::join!(clients, async {
        until.await;
        done.send_replace(true);
    });
    counts.into_iter().sum()
}

async fn a_request_is_served_on_a_private_socket_and_counts_until_its_lease_is_dropped() {
    let pool = started(options("site_wsgi", 1)).await;
    let lease = leased(&pool).await;
    assert_eq!(std::fs::metadata(socket(&lease)).expect("a socket").mode() & 0o777, 0o600);
    assert!(answer(socket(&lease), "/environ").await.expect("an answer").contains("site.example"));
    let child = pool.status().children[0].clone();
    assert_eq!((child.running, child.done, child.slots), (1, 0, 2));
    let path = socket(&lease).to_owned();
    drop(lease);
    let child = pool.status().children[0].clone();
    assert_eq!((child.running, child.done), (0, 1));
    pool.stop().await;
    assert!(!path.exists());
}

async fn requests_beyond_the_threads_wait_and_those_beyond_the_queue_are_refused() {
    let pool = started(options("site_wsgi", 1)).await;
    let mut leases = vec![leased(&pool).await, leased(&pool).await];
    let (first, second) = (pool.http(None), pool.http(Some(0)));
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let waiting = async {
        let pool = pool.clone();
        eventually("two requests wait", async || (pool.status().queued == 2).then_some(())).await;
        assert_eq!(pool.http(None).await.err(), Some(NoProcess::Busy));
    };
    tokio::select! {
        () = waiting => {}
        _ = &mut first => panic!("a third request is served"),
        _ = &mut second => panic!("a fourth request is served"),
    }
    leases.pop();
    let served = futures_util::join!(first, second);
    assert!(matches!(served, (Ok(_), Err(NoProcess::Busy)) | (Err(NoProcess::Busy), Ok(_))));
    drop((served, leases));
    pid(&pool, None).await;
    pool.stop().await;
}

async fn a_place_has_one_child_after_the_other_and_requests_without_a_place_go_to_the_child_with_the_fewest()
{
    let pool = started(options("site_wsgi", 2)).await;
    let mut places = pool.http_places();
    places.wait_for(|places| *places == [0, 1]).await.expect("both places");
    let (first, second) = (pid(&pool, Some(0)).await, pid(&pool, Some(1)).await);
    assert_ne!(first, second);
    assert_eq!((pid(&pool, Some(0)).await, pid(&pool, Some(1)).await), (first, second));
    assert_eq!(pool.http(Some(2)).await.err(), Some(NoProcess::PlaceLost));
    kill_process(Pid::from_raw(first as i32).expect("a process"), Signal::KILL).expect("a process of ours");
    places.wait_for(|places| *places == [1]).await.expect("one place");
    assert_eq!(pool.http(Some(0)).await.err(), Some(NoProcess::PlaceLost));
    places.wait_for(|places| *places == [0, 1]).await.expect("both places again");
    let next = pid(&pool, Some(0)).await;
    assert!(next != first && pid(&pool, Some(1)).await == second);
    let (one, two) = (leased(&pool).await, leased(&pool).await);
    assert_ne!(one.child(), two.child());
    pool.stop().await;
}

async fn a_reload_under_load_loses_no_request() {
    let pool = started(ChildOptions {
        http: Some(HttpQueueLimits { queue: 10, wait: SOON, ..LIMITS }),
        ..options("site_wsgi", 2)
    })
    .await;
    let before: Vec<u32> = pool.status().children.iter().map(|child| child.pid).collect();
    let reload = async {
        pool.reload();
        eventually("all children are new", async || {
            let children = pool.status().children;
            (children.len() == 2 && children.iter().all(|child| !before.contains(&child.pid))).then_some(())
        })
        .await;
    };
    assert!(under_load(&pool, reload).await > 0);
    assert_eq!(pool.status().restarts, 0);
    pool.stop().await;
}

async fn a_child_is_replaced_after_its_requests_and_none_is_lost() {
    let recycle = RecycleLimits { max_work: Some(10), ..RecycleLimits::default() };
    let http = Some(HttpQueueLimits { queue: 10, wait: SOON, ..LIMITS });
    let pool = started(ChildOptions { recycle, http, ..options("site_wsgi", 1) }).await;
    let before = pool.status().children[0].child;
    let recycled = async {
        eventually("the child is replaced twice", async || {
            pool.status().children.iter().any(|child| child.child >= before + 2).then_some(())
        })
        .await;
    };
    assert!(under_load(&pool, recycled).await >= 10);
    assert_eq!(pool.status().restarts, 0);
    pool.stop().await;
}

async fn a_child_that_is_replaced_ends_after_its_requests() {
    let pool = started(options("site_wsgi", 1)).await;
    let (gate, lease) = (Gate::new(), leased(&pool).await);
    let running = gate.request(&lease).await;
    let old = lease.child();
    pool.reload();
    eventually("the next child serves", async || {
        (ready(&pool) == 1 && pool.status().children.len() == 2).then_some(())
    })
    .await;
    assert_ne!(leased(&pool).await.child(), old);
    assert!(pool.status().children.iter().any(|child| child.child == old && child.state == "draining"));
    gate.open();
    assert!(rest(running).await.contains("second"));
    drop(lease);
    eventually("the old child is gone", async || (pool.status().children.len() == 1).then_some(())).await;
    pool.stop().await;
}

async fn after_a_kill_its_requests_break_and_the_next_one_is_served_by_another_child() {
    let pool = started(options("site_wsgi", 2)).await;
    let (gate, lease) = (Gate::new(), leased(&pool).await);
    let mut running = gate.request(&lease).await;
    let victim = pool.status().children.into_iter().find(|child| child.child == lease.child()).expect("it");
    let process = Pid::from_raw(victim.pid.try_into().expect("a pid")).expect("a pid");
    kill_process(process, Signal::KILL).expect("a process of ours");
    let mut left = Vec::new();
    // the end of the connection without the last part
    let _ = running.read_to_end(&mut left).await;
    assert!(!String::from_utf8_lossy(&left).contains("second"));
    drop(lease);
    let next = leased(&pool).await;
    let refuses = answer(socket(&next), "/environ").await.is_err();
    let next = if refuses {
        next.refused();
        leased(&pool).await
    } else {
        next
    };
    assert_ne!(next.child(), victim.child);
    answer(socket(&next), "/environ").await.expect("an answer");
    eventually("the child is replaced", async || (ready(&pool) == 2).then_some(())).await;
    let status = pool.status();
    assert!(status.last_error.expect("a reason").contains("killed by signal 9"));
    pool.stop().await;
}

async fn a_child_that_refuses_a_connection_is_replaced() {
    let pool = started(options("site_wsgi", 1)).await;
    let before = pool.status().children[0].child;
    leased(&pool).await.refused();
    eventually("the next child serves", async || {
        pool.status().children.iter().any(|child| child.child > before).then_some(())
    })
    .await;
    assert!(pool.status().last_error.expect("a reason").contains("does not accept connections"));
    pool.stop().await;
}

async fn an_application_that_cannot_be_imported_is_the_reason_with_its_traceback() {
    let pool = ChildPool::start(options("broken_import", 1), Timing::TEST).expect("a folder");
    assert_eq!(pool.http(None).await.err(), Some(NoProcess::Starting));
    let reason = eventually("a reason", async || match pool.http(None).await {
        Err(NoProcess::Failing(reason)) => Some(reason),
        _ => None,
    })
    .await;
    assert!(reason.contains("Traceback") && reason.contains("broken_import.py"), "{reason}");
    pool.stop().await;
    assert_eq!(pool.http(None).await.err(), Some(NoProcess::Stopping));
}

async fn the_first_start_waits_for_what_the_application_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let daemon = folder.path().join("daemon.sock");
    let needs = vec![ListenerAddress::Unix(daemon.clone())];
    let pool =
        ChildPool::start(ChildOptions { needs, ..options("site_wsgi", 1) }, Timing::TEST).expect("a folder");
    pool.settled().await;
    let Err(NoProcess::Failing(reason)) = pool.http(None).await else { panic!("it is served") };
    assert!(reason.starts_with(&format!("the start waits for unix:{}", daemon.display())), "{reason}");
    let _daemon = tokio::net::UnixListener::bind(daemon).expect("a socket");
    eventually("the child is ready", async || (ready(&pool) == 1).then_some(())).await;
    pid(&pool, None).await;
    pool.stop().await;
}

async fn a_program_that_does_not_serve_http_is_refused() {
    let mut options = options("", 1);
    options.command = ["python3", "-m", "pagewire", "work:threads"].map(str::to_owned).to_vec();
    let pool = ChildPool::start(options, Timing::TEST).expect("a folder");
    pool.settled().await;
    assert!(pool.status().last_error.expect("a reason").starts_with("it does not serve HTTP"));
    pool.stop().await;
}

/// Runs the tests whose names contain the argument, one after the other.
macro_rules! tests {
    ($($name:ident)*) => {
        [$((stringify!($name), (|runtime| runtime.block_on($name())) as Perform)),*]
    };
}

type Perform = fn(&Runtime);

#[expect(clippy::print_stdout, reason = "the report of a test")]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == guard::SUBCOMMAND
    {
        return guard::run(rest);
    }
    let all = tests!(
        a_request_is_served_on_a_private_socket_and_counts_until_its_lease_is_dropped
        requests_beyond_the_threads_wait_and_those_beyond_the_queue_are_refused
        a_place_has_one_child_after_the_other_and_requests_without_a_place_go_to_the_child_with_the_fewest
        a_reload_under_load_loses_no_request
        a_child_is_replaced_after_its_requests_and_none_is_lost
        a_child_that_is_replaced_ends_after_its_requests
        after_a_kill_its_requests_break_and_the_next_one_is_served_by_another_child
        a_child_that_refuses_a_connection_is_replaced
        an_application_that_cannot_be_imported_is_the_reason_with_its_traceback
        the_first_start_waits_for_what_the_application_needs
        a_program_that_does_not_serve_http_is_refused
    );
    let filter = arguments.iter().filter_map(|text| text.to_str()).find(|text| !text.starts_with('-'));
    let chosen: Vec<_> =
        all.into_iter().filter(|(name, _)| filter.is_none_or(|part| name.contains(part))).collect();
    let runtime = Runtime::new().expect("a runtime");
    let (count, mut failed) = (chosen.len(), 0);
    for (name, perform) in chosen {
        let passed = catch_unwind(AssertUnwindSafe(|| perform(&runtime))).is_ok();
        failed += usize::from(!passed);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {} passed; {failed} failed", count - failed);
    ExitCode::from(u8::from(failed > 0))
}
