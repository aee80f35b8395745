//! Mounts with a `command`: programs that serve HTTP and do not know Pagewire, here in Node.

use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::environment::children::{gone, send};
use crate::environment::mounts::{get, processes, replaced, served, under_load};
use crate::environment::{Node, SOON, Setup, eventually};

/// The program.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sites/reports.mjs");
const PORT: &str = "http://127.0.0.1:{port}";
const SOCKET: &str = "unix:{socket}";

/// Returns a mount of the program with arguments and more keys.
fn mount(path: &str, http: &str, arguments: &[&str], keys: &str) -> String {
    let command: Vec<&str> = ["node", PROGRAM].iter().chain(arguments).copied().collect();
    format!("[[mount]]\npath = \"{path}\"\nhttp = \"{http}\"\ncommand = {}\n{keys}\n", json!(command))
}

fn setup(http: &str, arguments: &[&str], keys: &str) -> Setup {
    Node::setup().file(&mount("/", http, arguments, keys))
}

async fn shown(node: &Node, path: &str) -> Value {
    let (status, body) = get(node, path).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Returns the pool of the first mount.
async fn pool(node: &Node) -> Value {
    node.api().get_json("/api/v1/executors").await["pools"][0].clone()
}

#[tokio::test]
async fn a_program_listens_on_a_port_or_a_private_socket_that_its_arguments_or_its_environment_name() {
    let keys = "processes = 1\nenv = { NODE_ENV = \"production\", BIND = \"127.0.0.1:{port}\" }";
    let reports = mount("/reports", "http://127.0.0.1:{port}/base", &["{port}"], keys);
    let rest = mount("/", SOCKET, &[], "processes = 1");
    let node = Node::setup().file(&format!("{reports}{rest}")).start().await;
    served(&node, "/reports/x").await;
    served(&node, "/x").await;
    let by_port = shown(&node, "/reports/x?q=1").await;
    let port = by_port["argv"][0].as_str().expect("a port").to_owned();
    assert_eq!((&by_port["url"], &by_port["env"]["PORT"]), (&json!("/base/x?q=1"), &json!(port)));
    assert_eq!(by_port["env"]["BIND"], format!("127.0.0.1:{port}"));
    assert_eq!(by_port["env"]["NODE_ENV"], "production");
    assert_eq!(by_port["headers"]["x-forwarded-prefix"], "/reports");
    assert_eq!(by_port["headers"]["host"], node.address().to_string());
    let by_socket = shown(&node, "/x").await;
    let socket = by_socket["env"]["SOCKET"].as_str().expect("a path");
    assert!(std::path::Path::new(socket).exists());
    assert_eq!((&by_socket["url"], &by_socket["argv"]), (&json!("/x"), &json!([])));
    for program in [&by_port, &by_socket] {
        let env = program["env"].as_object().expect("variables");
        assert!(!env.keys().any(|name| name.starts_with("PAGEWIRE_")), "{env:?}");
    }
    let pools = node.api().get_json("/api/v1/executors").await["pools"].clone();
    let of = |path: &str| pools.as_array().expect("pools").iter().find(|pool| pool["pool"] == path).cloned();
    let child = of("mount /reports").expect("the pool")["children"][0].clone();
    assert_eq!(
        (&child["pid"], &child["slots"], &child["state"]),
        (&by_port["pid"], &json!(256), &json!("ready"))
    );
}

#[tokio::test]
async fn a_reload_of_programs_under_load_answers_every_request() {
    for http in [PORT, SOCKET] {
        let node = setup(http, &[], "").real_timing().start().await;
        let mut before = processes(&node, 2).await;
        let statuses = under_load(&node, async {
            for _ in 0..3 {
                node.hang_up();
                replaced(&node, 2, &before).await;
                before = processes(&node, 2).await;
            }
        })
        .await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
}

#[tokio::test]
async fn after_a_kill_of_a_program_only_its_own_requests_fail_and_another_one_starts() {
    let node = setup(PORT, &[], "").real_timing().start().await;
    let victim = processes(&node, 2).await[0].clone();
    let statuses = under_load(&node, async {
        send(&victim["pid"], Signal::KILL);
        replaced(&node, 2, std::slice::from_ref(&victim)).await;
    })
    .await;
    let failed: Vec<_> = statuses.iter().filter(|status| **status != 200).collect();
    // each of the four clients has one request at a time
    assert!(failed.len() <= 4 && failed.iter().all(|status| **status == 502), "{failed:?}");
    let pool = pool(&node).await;
    assert!(pool["last_error"].as_str().is_some_and(|why| why.contains("killed by signal 9")), "{pool}");
}

#[tokio::test]
async fn a_program_is_replaced_after_its_requests_and_loses_none() {
    let node = setup(SOCKET, &[], "processes = 1\nmax_requests = 20").real_timing().start().await;
    let first = processes(&node, 1).await;
    let statuses = under_load(&node, replaced(&node, 1, &first)).await;
    assert!(statuses.len() >= 18 && statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test]
async fn a_websocket_passes_through_to_a_program_and_occupies_one_of_its_threads() {
    let node = setup(PORT, &["{port}"], "processes = 1\nthreads = 1\nqueue = 0").start().await;
    served(&node, "/").await;
    let url = format!("ws://{}/live", node.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a handshake");
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.expect("the program reads");
        let echo = socket.next().await.expect("an echo").expect("a message");
        assert_eq!(echo.into_text().expect("text").as_str(), text);
    }
    assert_eq!(get(&node, "/").await.0, 503);
    drop(socket);
    served(&node, "/").await;
}

#[tokio::test]
async fn a_program_that_never_listens_is_explained_with_its_address_and_its_output() {
    let command = json!(["node", "-e", "console.log('it waits'); setInterval(() => {}, 1000)"]);
    let file = format!("[[mount]]\nhttp = \"{PORT}\"\ncommand = {command}\nprocesses = 1\nstart_ms = 2500\n");
    let node = Node::setup().file(&file).start().await;
    assert_eq!(get(&node, "/").await.0, 503);
    let why = pool(&node).await["last_error"].as_str().expect("a reason").to_owned();
    assert!(why.starts_with("it was not ready at tcp:127.0.0.1:"), "{why}");
    for part in ["within 2500 ms", "it waits", "Connection refused"] {
        assert!(why.contains(part), "{why}");
    }
}

#[tokio::test]
async fn a_program_that_ends_or_is_not_there_is_explained() {
    let failing = json!(["node", "-e", "console.error('no database'); process.exit(3)"]);
    let missing = json!(["no-such-program"]);
    for (command, reason, output) in [
        (failing, "it exited with 3 before it was ready", "no database"),
        (missing, "it exited with 127 before it was ready", "cannot start no-such-program"),
    ] {
        let file = format!("[[mount]]\nhttp = \"{PORT}\"\ncommand = {command}\nprocesses = 1\n");
        let node = Node::setup().file(&file).start().await;
        let why = pool(&node).await["last_error"].as_str().expect("a reason").to_owned();
        assert!(why.starts_with(reason) && why.contains(output), "{why}");
    }
}

#[tokio::test]
async fn a_program_gets_requests_when_its_health_is_below_500() {
    let folder = tempfile::tempdir().expect("a folder");
    let healthy = folder.path().join("healthy");
    let keys = format!("processes = 1\nhealth = \"/health\"\nenv = {{ HEALTHY = {} }}", json!(healthy));
    let mut node = setup(PORT, &[], &keys).launch();
    eventually("the log has the reason", SOON, async || {
        node.log().contains("GET /health is answered 503").then_some(())
    })
    .await;
    assert!(!node.api().is_ready().await);
    std::fs::write(healthy, "").expect("a file");
    node.ready().await;
    assert_eq!(get(&node, "/").await.0, 200);
}

#[tokio::test]
async fn a_program_is_asked_to_end_after_its_requests_and_killed_if_it_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("open");
    let mut node = setup(SOCKET, &[], "processes = 1").start().await;
    let pid = processes(&node, 1).await[0]["pid"].clone();
    let path = format!("/stream?{}", gate.display());
    let mut running = node.api().request(Method::GET, &path).send().await.expect("an answer");
    assert_eq!(running.chunk().await.expect("a part").expect("a part"), "first");
    node.hang_up();
    served_by_another(&node, &pid).await;
    assert!(!node.log().contains("it ends"));
    std::fs::write(gate, "").expect("a file");
    assert_eq!(running.text().await.expect("the rest"), "second");
    gone(&pid).await;
    assert!(node.log().contains("it ends"));
    node.terminate();
    assert!(node.exit(SOON * 2).await.success());

    let mut node = setup(PORT, &["{port}", "--stay"], "processes = 1").start().await;
    let pid = processes(&node, 1).await[0]["pid"].clone();
    node.terminate();
    assert!(node.exit(SOON * 2).await.success());
    assert!(node.log().contains("it stays"));
    gone(&pid).await;
}

/// Waits until another process than this one answers.
async fn served_by_another(node: &Node, pid: &Value) {
    eventually("another process answers", SOON * 2, async || {
        let (status, body) = get(node, "/").await;
        let shown: Value = serde_json::from_str(&body).ok()?;
        (status == StatusCode::OK && shown["pid"] != *pid).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_program_outlives_a_node_that_is_killed() {
    let mut node = setup(PORT, &[], "").start().await;
    let children = processes(&node, 2).await;
    node.kill();
    for child in &children {
        gone(&child["pid"]).await;
    }
}
