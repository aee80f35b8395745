//! Chromium on the start page, controlled through its WebDriver.
//!
//! Owns: one browser with its own profile, and the vocabulary in which tests describe the page. All of it ends with the
//! test.

use std::fs;
use std::path::Path;
use std::process::Command;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::environment::{Process, SOON, eventually};

/// The index of the window that a page opened.
pub(super) const SECOND_WINDOW: usize = 1;

const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
];

pub(super) struct Browser {
    client: Client,
    profile: TempDir,
    _driver: Process,
}

impl Browser {
    pub(super) async fn start(name: &str) -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let log = profile.path().join("chromedriver.log");
        let mut command = Command::new("chromedriver");
        let driver = Process::start(&format!("chromedriver for {name}"), command.arg("--port=0"), log);
        let port = eventually("chromedriver tells its port", SOON, async || {
            let log = driver.log();
            let (_, rest) = log.split_once("successfully on port ")?;
            rest.split_once('.').map(|(port, _)| port.to_owned())
        })
        .await;
        let folder = format!("--user-data-dir={}", profile.path().join("profile").display());
        let flags: Vec<_> = FLAGS.into_iter().chain([folder.as_str()]).collect();
        let capabilities = json!({"goog:chromeOptions": {"args": flags}});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().expect("an object").clone())
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a Chromium");
        Self { client, profile, _driver: driver }
    }

    pub(super) async fn close(self) {
        self.client.clone().close().await.expect("the browser closes");
    }

    pub(super) async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("a page");
    }

    pub(super) async fn reload(&self) {
        self.client.refresh().await.expect("a page");
    }

    pub(super) async fn back(&self) {
        self.client.back().await.expect("a page");
    }

    /// Sets a cookie, as a login does for every page of this server.
    pub(super) async fn cookie(&self, url: &str, name: &str, value: &str) {
        self.goto(&format!("{url}/pagewire.js")).await;
        self.run("document.cookie = `${arguments[0]}=${arguments[1]}`", vec![json!(name), json!(value)])
            .await;
    }

    /// Switches to the n-th opened window once it exists.
    pub(super) async fn window(&self, place: usize) {
        let window = eventually("the window opens", SOON, async || {
            self.client.windows().await.expect("windows").into_iter().nth(place)
        })
        .await;
        self.client.switch_to_window(window).await.expect("the window");
    }

    /// Duplicates a tab as a browser does: the new tab starts with a copy of sessionStorage.
    pub(super) async fn duplicate_tab(&self, url: &str) {
        let copy = self.run("return JSON.stringify(sessionStorage)", vec![]).await;
        let tab = self.client.new_window(true).await.expect("a tab");
        self.client.switch_to_window(tab.handle).await.expect("the tab");
        self.goto(&format!("{url}/pagewire.js")).await;
        self.run("Object.assign(sessionStorage, JSON.parse(arguments[0]))", vec![copy]).await;
        self.goto(url).await;
    }

    pub(super) async fn click(&self, name: &str) {
        // scroll like a person until the element is not below the bar
        let center =
            "document.querySelector(`[data-testid=${arguments[0]}]`).scrollIntoView({block: 'center'})";
        self.run(center, vec![json!(name)]).await;
        self.find(name).await.click().await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub(super) async fn fill(&self, name: &str, text: &str) {
        let field = self.find(name).await;
        // a form may appear a moment after it is there
        eventually(&format!("{name} is shown"), SOON, async || {
            field.is_displayed().await.ok().filter(|is_shown| *is_shown).map(drop)
        })
        .await;
        field.clear().await.expect("a field");
        field.send_keys(text).await.expect("a field");
    }

    /// Types at the end of a field.
    pub(super) async fn write(&self, name: &str, text: &str) {
        self.find(name).await.send_keys(text).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Chooses an entry of a list.
    pub(super) async fn choose(&self, name: &str, entry: &str) {
        self.find(name).await.select_by_label(entry).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub(super) async fn text(&self, name: &str) -> String {
        self.find(name).await.text().await.expect("a text")
    }

    pub(super) async fn value(&self, name: &str) -> String {
        self.find(name).await.prop("value").await.expect("a field").expect("a value")
    }

    /// Waits until an element's text contains the given text.
    pub(super) async fn shows(&self, name: &str, text: &str) {
        eventually(&format!("{name} shows {text:?}"), SOON, async || {
            self.text(name).await.contains(text).then_some(())
        })
        .await;
    }

    /// Returns the entries of a list that can be chosen.
    pub(super) async fn offered(&self, name: &str) -> Vec<String> {
        let script = "return [...document.querySelector(`[data-testid=${arguments[0]}]`).options]\
                      .filter((option) => !option.disabled).map((option) => option.value)";
        serde_json::from_value(self.run(script, vec![json!(name)]).await).expect("names")
    }

    /// Returns the ids of connection, session and page.
    pub(super) async fn ids(&self) -> [String; 3] {
        [self.text("connection-id").await, self.text("session-id").await, self.text("page-id").await]
    }

    /// Returns the received messages with their `seq`, oldest first.
    pub(super) async fn messages(&self) -> Vec<(u64, String)> {
        let script = "return [...document.querySelectorAll('[data-testid=message]')].reverse()\
                      .map((line) => [Number(line.dataset.seq), line.querySelector('.message').textContent])";
        serde_json::from_value(self.run(script, vec![]).await).expect("messages")
    }

    /// Saves a screenshot for people to look at.
    pub(super) async fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        fs::create_dir_all(&folder).expect("a folder for screenshots");
        let image = self.client.screenshot().await.expect("a screenshot");
        fs::write(folder.join(format!("{name}.png")), image).expect("a file");
    }

    async fn find(&self, name: &str) -> Element {
        let selector = format!("[data-testid={name}]");
        self.client.find(Locator::Css(&selector)).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Opens another window and shows a page in it.
    pub(super) async fn open_window(&self, url: &str) {
        let window = self.client.new_window(false).await.expect("a window");
        self.client.switch_to_window(window.handle).await.expect("the window");
        self.goto(url).await;
    }

    /// Runs statements of a module in the page, and returns the lines that they print.
    pub(super) async fn printed(&self, statements: &str) -> Vec<String> {
        let script = format!(
            "return (async () => {{ const lines = []; const console = {{ log: (line) => lines.push(String(line)) }};
             {statements}
             return lines; }})()"
        );
        serde_json::from_value(self.run(&script, vec![]).await).expect("lines")
    }

    async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.client.execute(script, arguments).await.expect("a result")
    }
}

impl Drop for Browser {
    /// Kills the browser, because chromedriver leaves it running when a test fails.
    fn drop(&mut self) {
        let profile = self.profile.path().to_string_lossy().into_owned();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let pid = process.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
            if let Some(pid) = pid
                && String::from_utf8_lossy(&command).contains(&profile)
            {
                // a process that has just exited by itself is as good
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}
