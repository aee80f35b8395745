//! `pagewire dev`: one command for an application, its nodes, its reload and its end.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::environment::children::{call, result};
use crate::environment::{Api, Dev, SOON, eventually};

/// An application as a newcomer writes it.
const APPLICATION: &str = "
from pagewire import App, Context

app = App()


@app.handler
def greet(ctx: Context, name: str = 'you') -> str:
    return f'Hello {name}'
";

/// Returns the pool of the application as the API lists it, when it does.
async fn pool(api: &Api) -> Option<Value> {
    let response = api.request(reqwest::Method::GET, "/api/v1/executors").send().await.ok()?;
    response.json::<Value>().await.ok()?["pools"].get(0).cloned()
}

/// Waits until the children for any work and for assigned users serve this version.
async fn serves_version(api: &Api, version: &str) {
    let served = async |body: Value| {
        let request = api.request(reqwest::Method::POST, "/api/v1/calls").json(&body);
        let response = request.send().await.expect("an answer");
        response.json::<Value>().await.expect("JSON") == version
    };
    eventually(&format!("version {version} serves"), SOON, async || {
        let all = served(json!({"method": "version", "exec_mode": "any"})).await
            && served(json!({"method": "version", "user": "ann"})).await;
        all.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_application_in_python_is_served_and_ctrl_c_ends_everything() {
    let dev = Dev::setup();
    dev.write("app.py", APPLICATION);
    let mut dev = dev.launch(&["app:app"]);
    dev.shows("handlers: greet").await;
    assert_eq!(result(&dev.api(), "greet", json!({"name": "Ann"})).await, "Hello Ann");
    let (_, refused) = call(&dev.api(), "greet", json!({"nam": "Ann"})).await;
    assert_eq!(refused["error"]["code"], "malformed", "{refused}");
    assert!(refused["error"]["message"].as_str().expect("a text").contains("nam"), "{refused}");
    assert!(dev.processes() > 2);
    assert!(dev.interrupt().await.success());
    dev.is_gone().await;
}

#[tokio::test]
async fn three_nodes_serve_at_one_address_and_nothing_outlives_a_killed_command() {
    let mut dev = Dev::setup().with_program(&["--nodes", "3"]);
    dev.shows("handlers: ").await;
    let nodes = dev.api().get_json("/api/v1/nodes").await;
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(3), "{nodes}");
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..6 {
        // a connection of its own each, so that each node gets some
        pids.insert(result(&dev.api(), "who", json!(null)).await["pid"].to_string());
    }
    assert!(pids.len() > 1, "{pids:?}");
    dev.kill();
    dev.is_gone().await;
}

#[tokio::test]
async fn a_change_is_loaded_and_one_that_does_not_start_leaves_the_version_before_it() {
    let mut dev = Dev::setup().with_program(&["--reload"]);
    dev.shows("handlers: ").await;
    let api = dev.api();
    serves_version(&api, "1").await;
    dev.write_version("2");
    serves_version(&api, "2").await;
    dev.write_mistake();
    let outdated = eventually("it shows that the new one does not start", SOON, async || {
        pool(&api).await.filter(|pool| pool["outdated"] == true)
    })
    .await;
    assert!(outdated["last_error"].as_str().expect("a reason").contains("SyntaxError"), "{outdated}");
    dev.shows("SyntaxError").await;
    for _ in 0..10 {
        assert_eq!(result(&api, "version", json!(null)).await, "2");
    }
    assert!(api.is_ready().await);
    // one that never becomes ready does not delay the next one
    dev.write("program.py", "import time\ntime.sleep(600)\n");
    eventually("it starts", SOON, async || {
        (dev.log().matches("program.py has changed").count() == 3).then_some(())
    })
    .await;
    dev.write_version("3");
    serves_version(&api, "3").await;
    eventually("all of it is new", SOON, async || {
        pool(&api).await.filter(|pool| pool["outdated"] == false).map(drop)
    })
    .await;
    assert!(dev.interrupt().await.success());
    dev.is_gone().await;
}

#[tokio::test]
async fn a_program_that_does_not_start_is_shown_and_starts_when_it_is_mended() {
    let dev = Dev::setup();
    dev.write_mistake();
    let dev = dev.with_program(&["--reload"]);
    dev.shows("the program of the pool default does not start").await;
    dev.shows("SyntaxError").await;
    let api = dev.api();
    eventually("it counts as failing", SOON, async || {
        pool(&api).await.filter(|pool| pool["failing"] == true).map(drop)
    })
    .await;
    dev.write_version("2");
    serves_version(&api, "2").await;
    eventually("the node is ready", SOON, async || api.is_ready().await.then_some(())).await;
}

#[tokio::test]
async fn without_an_application_it_says_so_and_serves_the_welcome_page() {
    let mut dev = Dev::setup().launch(&[]);
    dev.shows("no application: name one (pagewire dev app:app) or configure [[pool]]").await;
    dev.shows("handlers: those of the welcome page").await;
    assert_eq!(dev.api().get("/").await.0.as_u16(), 200);
    assert!(dev.interrupt().await.success());
    dev.is_gone().await;
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_what_to_do() {
    let dev = Dev::setup();
    let refused = async |arguments: &[&str], path: &str| {
        let mut command = tokio::process::Command::from(dev.command(arguments));
        command.env_remove("NATS_SERVER").env_remove("PYTHONPATH").env("PATH", path);
        let output = command.kill_on_drop(true).output().await.expect("the command ran");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, message) in [
        (["app.py", "--reload"].as_slice(), "is written MODULE:NAME, e.g. app:app"),
        (&["app:app", "--", "python3", "program.py"], "an application or a program, not both"),
        (&["app:app"], "cannot start python3"),
        (&["--nodes", "3", "--", "python3", "program.py"], "put nats-server into PATH"),
        (&["--config", "absent.toml"], "absent.toml: No such file"),
    ] {
        let (code, error) = refused(arguments, "/nowhere").await;
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    let _other = TcpListener::bind(dev.address()).expect("a free address");
    let (code, error) = refused(&["--", "python3", "program.py"], "/usr/bin:/bin").await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("cannot listen on 127.0.0.1:") && error.contains("--listen chooses"), "{error}");
}
