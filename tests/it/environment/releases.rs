//! Two releases of one application side by side: folders, virtualenvs, and requests of their users.

use std::path::PathBuf;
use std::process::Command;

use reqwest::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::CommandOutput;
use super::{Node, SOON, Token, eventually, pagewire, venv};

/// The application, which both releases are copies of.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sites/release.py");

/// The folders of the releases 1.0 and 2.0. They end with their test.
pub(crate) struct Releases(TempDir);

impl Releases {
    pub(crate) fn create() -> Self {
        let this = Self(tempfile::tempdir().expect("a folder"));
        let source = std::fs::read_to_string(SOURCE).expect("the application");
        for release in ["1.0", "2.0"] {
            let folder = this.folder(release);
            std::fs::create_dir(&folder).expect("a folder");
            let own = source.replace("written by the test", release);
            std::fs::write(folder.join("shop.py"), own).expect("a file");
        }
        this
    }

    /// Returns the folder of a release.
    pub(crate) fn folder(&self, release: &str) -> PathBuf {
        self.0.path().join(release)
    }

    /// Creates a virtualenv for a release, which has no server of its own.
    pub(crate) fn venv(&self, release: &str) -> PathBuf {
        let own = self.folder(release).join("venv");
        let python = venv().join("bin/python");
        let made = Command::new(python).args(["-m", "venv", "--without-pip"]).arg(&own).status();
        assert!(made.expect("a Python with venv").success());
        own
    }

    /// Lets the processes of a release end when they start, or lets them start again.
    pub(crate) fn set_broken(&self, release: &str, is_broken: bool) {
        let mark = self.folder(release).join("broken");
        match is_broken {
            true => std::fs::write(mark, "").expect("a file"),
            false => std::fs::remove_file(mark).expect("the file"),
        }
    }

    /// Returns a mount at `/shop` of release 1.0, with more keys.
    pub(crate) fn mount(&self, keys: &str) -> String {
        let (directory, venv) = (json!(self.folder("1.0")), json!(venv()));
        format!(
            "[[mount]]\npath = \"/shop\"\nwsgi = \"shop\"\ndirectory = {directory}\nvenv = {venv}\nrelease = \"1.0\"\n\
             {keys}\n"
        )
    }

    /// Returns a lane of that mount with release 2.0, with more keys.
    pub(crate) fn canary(&self, keys: &str) -> String {
        let directory = json!(self.folder("2.0"));
        format!("[[mount.lane]]\nname = \"canary\"\nrelease = \"2.0\"\ndirectory = {directory}\n{keys}\n")
    }

    /// Returns a gate for a stream of the application, which is closed.
    pub(crate) fn gate(&self) -> PathBuf {
        self.0.path().join("gate")
    }
}

/// The author of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visitor {
    User(String),
    /// A browser that has the cookie of its connection.
    Browser(String),
}

impl Visitor {
    pub(crate) fn user(number: usize) -> Self {
        Self::User(format!("user-{number}"))
    }

    /// Returns a browser that has its cookie from an answer.
    pub(crate) fn browser_of(response: &Response) -> Self {
        let cookie = response.headers()[SET_COOKIE].to_str().expect("text").split(';').next();
        Self::Browser(cookie.expect("a cookie").to_owned())
    }

    pub(crate) async fn request(&self, node: &Node, method: Method, path: &str) -> Response {
        let request = node.api().request(method, path);
        let request = match self {
            Self::User(user) => request.header(AUTHORIZATION, format!("Bearer {}", Token::of(user).sign())),
            Self::Browser(cookie) => request.header(COOKIE, cookie),
        };
        request.send().await.expect("an answer")
    }

    /// Returns the status of an answer of the application, and what it shows.
    pub(crate) async fn shown(&self, node: &Node) -> (StatusCode, Value) {
        let response = self.request(node, Method::GET, "/shop/").await;
        let status = response.status();
        (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
    }

    /// Returns the release that answers.
    pub(crate) async fn release(&self, node: &Node) -> String {
        let (status, shown) = self.shown(node).await;
        assert_eq!(status, StatusCode::OK, "{self:?}: {shown}");
        shown["release"].as_str().expect("a release").to_owned()
    }
}

/// Returns the releases that users get, in their order.
pub(crate) async fn releases_of(node: &Node, users: usize) -> Vec<String> {
    let mut releases = Vec::with_capacity(users);
    for number in 0..users {
        releases.push(Visitor::user(number).release(node).await);
    }
    releases
}

/// Waits until a lane of the pool of the mount has this many processes, as `rollout status` counts them.
pub(crate) async fn lane_has(node: &Node, lane: &str, processes: usize) -> Value {
    eventually(&format!("{lane} has {processes} processes"), SOON * 3, async || {
        let status = node.api().get_json("/api/v1/rollouts/shop").await;
        let split = status["split"].as_array()?.iter();
        let share =
            split.filter(|share| share["lane"] == lane).find(|share| share["workers"] == processes)?;
        Some(share.clone())
    })
    .await
}

/// Runs `pagewire rollout` with these arguments.
pub(crate) async fn rollout(node: &Node, arguments: &[&str]) -> CommandOutput {
    pagewire(node, &[&["rollout"], arguments].concat()).await
}

/// Returns the processes of a lane of the mount; of the mount itself without a name.
pub(crate) async fn children(node: &Node, lane: &str) -> Vec<Value> {
    let name = format!("mount /shop {lane}");
    let pools = node.api().get_json("/api/v1/executors").await["pools"].clone();
    let mut pools = pools.as_array().expect("pools").iter();
    let own = pools.find(|pool| pool["pool"] == name.trim_end());
    own.and_then(|pool| pool["children"].as_array().cloned()).unwrap_or_default()
}
