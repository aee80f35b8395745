//! Mounts whose applications run in processes of the node: real servers, from the Python that `WSGI_PYTHON` names.

use std::collections::BTreeSet;
use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::Method;
use reqwest::redirect::Policy;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_tungstenite::tungstenite::Message;

use crate::environment::children::send;
use crate::environment::mounts::{get, processes, served, under_load};
use crate::environment::{Node, SOON, Setup, eventually, venv};

/// The folder of the applications of the Python package's tests.
pub(crate) const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/tests/apps");
/// The folder of applications with a framework.
pub(crate) const SITES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sites");

/// Returns a mount of an application, with more keys.
pub(crate) fn mount(path: &str, application: &str, directory: &str, keys: &str) -> String {
    let (path, directory, venv) = (json!(path), json!(directory), json!(venv()));
    format!("[[mount]]\npath = {path}\n{application}\ndirectory = {directory}\nvenv = {venv}\n{keys}\n")
}

fn wsgi(path: &str, keys: &str) -> String {
    mount(path, "wsgi = \"site_wsgi\"", APPS, keys)
}

/// Configures a node, and makes the environment its virtualenv's own: nothing of the package is installed there.
pub(crate) fn setup(file: &str) -> Setup {
    Node::setup().variable("PYTHONDONTWRITEBYTECODE", "1").file(file)
}

async fn shown(node: &Node, path: &str) -> Value {
    let (status, body) = get(node, path).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test]
async fn an_application_sees_its_client_and_its_mount_point() {
    for server in ["gunicorn", "granian"] {
        let keys = format!("server = \"{server}\"");
        let node = setup(&wsgi("/shop", &keys)).start().await;
        served(&node, "/shop/environ").await;
        let request = node.api().request(Method::GET, "/shop/environ?q=1%2F2");
        let request = request.header("X-Forwarded-For", "6.6.6.6").header("X-Forwarded-Proto", "https");
        let seen: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(seen["REMOTE_ADDR"], "127.0.0.1", "{server}");
        assert_eq!(seen["url_scheme"], "http");
        assert_eq!((&seen["SCRIPT_NAME"], &seen["PATH_INFO"]), (&json!("/shop"), &json!("/environ")));
        assert_eq!(
            (&seen["QUERY_STRING"], &seen["HTTP_HOST"]),
            (&json!("q=1%2F2"), &json!(node.address().to_string()))
        );
        assert_eq!(get(&node, "/shopping/environ").await.0, 404);
    }
}

#[tokio::test]
async fn an_answer_is_streamed_and_an_upload_of_a_hundred_megabytes_is_not_kept() {
    let node = setup(&wsgi("/", "processes = 1")).start().await;
    served(&node, "/environ").await;
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("open");
    let mut response = node
        .api()
        .request(Method::GET, &format!("/stream?{}", gate.display()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.chunk().await.expect("a part").expect("a part"), "first");
    std::fs::write(&gate, "").expect("a file");
    assert_eq!(response.text().await.expect("the rest"), "second");
    let before = node.rss();
    let part = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let parts =
        futures_util::stream::iter((0..100).map(move |_| Ok::<_, std::io::Error>(Frame::data(part.clone()))));
    let upload =
        node.api().request(Method::POST, "/upload").body(reqwest::Body::wrap(StreamBody::new(parts)));
    let answer = upload.send().await.expect("an answer").text().await.expect("a body");
    assert_eq!(answer, (100 << 20).to_string());
    assert!(node.rss() < before + (30 << 20), "{} → {}", before, node.rss());
}

#[tokio::test]
async fn a_reload_under_load_answers_every_request() {
    let node = setup(&wsgi("/", "processes = 2\nthreads = 4")).real_timing().start().await;
    let before: BTreeSet<u64> =
        processes(&node, 2).await.iter().filter_map(|child| child["pid"].as_u64()).collect();
    let statuses = under_load(&node, async {
        for _ in 0..3 {
            node.hang_up();
            eventually("all processes are new", SOON * 2, async || {
                let all = node.api().get_json("/api/v1/executors").await;
                let children = all["pools"][0]["children"].as_array()?.clone();
                let is_new = |child: &Value| child["pid"].as_u64().is_some_and(|pid| !before.contains(&pid));
                (children.len() == 2 && children.iter().all(is_new)).then_some(())
            })
            .await;
        }
    })
    .await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test]
async fn processes_are_replaced_after_their_requests_and_answer_every_one() {
    let node = setup(&wsgi("/", "processes = 1\nthreads = 4\nmax_requests = 20")).real_timing().start().await;
    let first = processes(&node, 1).await[0]["child"].as_u64().expect("a number");
    let statuses = under_load(&node, async {
        eventually("the process is replaced twice", SOON * 2, async || {
            let children = node.api().get_json("/api/v1/executors").await["pools"][0]["children"].clone();
            children.as_array()?.iter().any(|child| child["child"].as_u64() >= Some(first + 2)).then_some(())
        })
        .await;
    })
    .await;
    assert!(statuses.len() >= 20 && statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test]
async fn after_a_kill_only_requests_that_it_ran_fail_and_others_are_served() {
    let node = setup(&wsgi("/", "processes = 2\nthreads = 4")).real_timing().start().await;
    let victim = processes(&node, 2).await[0]["pid"].clone();
    let statuses = under_load(&node, async {
        send(&victim, Signal::KILL);
        eventually("the process is replaced", SOON * 2, async || {
            let children = node.api().get_json("/api/v1/executors").await["pools"][0]["children"].clone();
            let children = children.as_array()?.clone();
            (children.len() == 2 && children.iter().all(|child| child["pid"] != victim)).then_some(())
        })
        .await;
    })
    .await;
    let failed: Vec<_> = statuses.iter().filter(|status| **status != 200).collect();
    // each of the four clients has one request at a time
    assert!(
        failed.len() <= 4 && failed.iter().all(|status| **status == 502),
        "{failed:?} of {}",
        statuses.len()
    );
}

#[tokio::test]
async fn requests_beyond_the_queue_get_503_with_a_time_to_come_back() {
    let node = setup(&wsgi("/", "processes = 1\nthreads = 1\nqueue = 1\nqueue_ms = 600000")).start().await;
    served(&node, "/environ").await;
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("open");
    let path = format!("/stream?{}", gate.display());
    let mut running = node.api().request(Method::GET, &path).send().await.expect("an answer");
    assert_eq!(running.chunk().await.expect("a part").expect("a part"), "first");
    let waiting = async { get(&node, "/environ").await.0 };
    let refused = async {
        eventually("a request waits", SOON, async || {
            let pools = node.api().get_json("/api/v1/executors").await;
            (pools["pools"][0]["queued"] == 1).then_some(())
        })
        .await;
        let response = node.api().request(Method::GET, "/environ").send().await.expect("an answer");
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        std::fs::write(&gate, "").expect("a file");
        assert_eq!(running.text().await.expect("the rest"), "second");
    };
    assert_eq!(futures_util::join!(waiting, refused).0, 200);
}

#[tokio::test]
async fn an_application_that_cannot_be_imported_is_explained_in_the_log_and_answered_with_503() {
    let broken = mount("/", "wsgi = \"broken_import\"", APPS, "processes = 1");
    let node = setup(&broken).start().await;
    let (status, body) = get(&node, "/").await;
    assert_eq!(status, 503);
    assert!(!body.contains("broken_import"), "{body}");
    let log = node.log();
    assert!(log.contains("Traceback") && log.contains("broken_import.py"));
    let pool = node.api().get_json("/api/v1/executors").await["pools"][0].clone();
    assert_eq!(pool["pool"], "mount /", "{pool}");
    assert!(pool["last_error"].as_str().is_some_and(|error| error.contains("Traceback")), "{pool}");
}

/// A virtualenv without any package but one, and an application that shows which one it has.
struct BareSite {
    folder: tempfile::TempDir,
}

impl BareSite {
    fn create() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("venv");
        let python = venv().join("bin/python");
        let made = Command::new(python).args(["-m", "venv", "--without-pip"]).arg(&own).status();
        assert!(made.expect("a Python with venv").success());
        let lib = std::fs::read_dir(own.join("lib")).expect("a folder").next().expect("a version");
        let packages = lib.expect("a folder").path().join("site-packages");
        // another version of what is beside the servers
        std::fs::write(packages.join("flask.py"), "ORIGIN = 'the application'").expect("a file");
        std::fs::write(folder.path().join("own.py"), OWN).expect("a file");
        Self { folder }
    }

    fn mount(&self, path: &str, application: &str, keys: &str) -> String {
        let (directory, venv) = (json!(self.folder.path()), json!(self.folder.path().join("venv")));
        format!(
            "[[mount]]\npath = \"{path}\"\n{application}\ndirectory = {directory}\nvenv = {venv}\nprocesses = 1\n{keys}\n"
        )
    }
}

const OWN: &str = "
import flask

def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [flask.ORIGIN.encode()]

async def app(scope, receive, send):
    assert scope['type'] == 'http'
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': flask.ORIGIN.encode()})
";

#[tokio::test]
async fn a_server_comes_from_another_virtualenv_and_packages_from_that_of_the_application() {
    let site = BareSite::create();
    let cases = [("wsgi", "gunicorn"), ("wsgi", "granian"), ("asgi", "granian"), ("asgi", "uvicorn")];
    let mounts = cases.map(|(kind, server)| {
        let keys = format!("server = \"{server}\"\nserver_venv = {}", json!(venv()));
        site.mount(&format!("/{kind}/{server}"), &format!("{kind} = \"own\""), &keys)
    });
    let node = setup(&mounts.concat()).start().await;
    for (kind, server) in cases {
        let path = format!("/{kind}/{server}");
        served(&node, &path).await;
        assert_eq!(get(&node, &path).await.1, "the application", "{path}");
    }
}

#[tokio::test]
async fn a_virtualenv_without_a_server_is_explained_with_what_to_install_or_to_set() {
    let site = BareSite::create();
    for (keys, reason) in [
        ("", "pagewire: gunicorn or granian is not installed in"),
        ("", "pip install gunicorn, or set server_venv of the mount"),
        ("server_venv = \"/no/such/folder\"", "server_venv has no folder /no/such/folder/lib/python"),
    ] {
        let node = setup(&site.mount("/", "wsgi = \"own\"", keys)).start().await;
        let pool = node.api().get_json("/api/v1/executors").await["pools"][0].clone();
        assert!(pool["last_error"].as_str().is_some_and(|error| error.contains(reason)), "{pool}");
    }
}

#[tokio::test]
async fn the_first_start_waits_for_what_the_application_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let daemon = folder.path().join("daemon.sock");
    let need = format!("unix:{}", daemon.display());
    let node = setup(&wsgi("/", &format!("processes = 1\nneeds = [{}]", json!(need)))).start().await;
    assert_eq!(get(&node, "/environ").await.0, 503);
    assert!(node.log().contains(&format!("the start waits for {need}")));
    let _daemon = UnixListener::bind(daemon).expect("a socket");
    served(&node, "/environ").await;
}

#[tokio::test]
async fn a_flask_and_a_fastapi_application_are_mounted_side_by_side() {
    let shop = mount("/", "wsgi = \"shop:app\"", SITES, "processes = 1");
    let api = mount("/api/shop", "asgi = \"api:app\"", SITES, "processes = 1\nserver = \"granian\"");
    let mut node = setup(&format!("{shop}{api}")).start().await;
    served(&node, "/").await;
    served(&node, "/api/shop/orders/7").await;
    let (host, url) = (node.address().to_string(), node.url());
    let order = shown(&node, "/api/shop/orders/7").await;
    let expected = json!({
        "number": 7, "started": ["started"], "client": "127.0.0.1", "url": format!("{url}/api/shop/orders/7")
    });
    assert_eq!(order, expected);
    assert_eq!(get(&node, "/api/shop/stream").await.1, "part 0\npart 1\npart 2\n");
    let upload = node.api().request(Method::POST, "/api/shop/upload").body(vec![b'x'; 3_000_000]);
    let upload: Value = upload.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(upload, json!({"size": 3_000_000}));
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{host}/api/shop/live")).await.expect("a handshake");
    socket.send(Message::text("hello")).await.expect("the application reads");
    let echo = socket.next().await.expect("an echo").expect("a message");
    assert_eq!(echo.into_text().expect("text").as_str(), "echo hello");
    drop(socket);
    let client = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
    let login =
        client.post(format!("{url}/login")).header("Content-Type", "application/x-www-form-urlencoded");
    let login = login.body("user=ann").send().await.expect("an answer");
    assert_eq!((login.status().as_u16(), &login.headers()["location"]), (302, &"/".parse().expect("text")));
    let cookie = login.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie");
    let home = client.get(&url).header("Cookie", cookie).send().await.expect("an answer");
    assert_eq!(home.text().await.expect("a body"), format!("hello ann at 127.0.0.1, {url}/"));
    node.terminate();
    assert!(node.exit(SOON * 2).await.success());
    assert!(node.log().contains("the lifespan has ended"));
}
