//! A project with Vite, TypeScript and React that uses the packed package: its types, its build, and its page in a real
//! Chromium.

use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::chromium::{Browser, SECOND_WINDOW};
use super::proxy::Proxy;
use crate::environment::{Node, pagewire_alone};

const SITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/sites/react");
const JAVASCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/js");
/// Where `tests/run.py` installs the packages that the site needs beside the one of this tree.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/vite");

/// A copy of the site below the packages that it needs, with the packed package installed.
struct Project(TempDir);

impl Project {
    async fn create() -> Self {
        assert!(
            Path::new(MODULES).join("node_modules").is_dir(),
            "tests/run.py installs Vite into {MODULES}"
        );
        let folder = tempfile::Builder::new().prefix("site-").tempdir_in(MODULES).expect("a folder");
        std::fs::create_dir(folder.path().join("src")).expect("a folder");
        for file in ["index.html", "tsconfig.json", "handlers.mjs", "src/main.tsx"] {
            std::fs::copy(Path::new(SITE).join(file), folder.path().join(file)).expect("a copy");
        }
        std::fs::write(folder.path().join("package.json"), r#"{"private": true, "type": "module"}"#)
            .expect("a file");
        let project = Self(folder);
        let destination = project.path("").display().to_string();
        run(JAVASCRIPT, "npm", &["pack", "--pack-destination", &destination]).await;
        let packed = std::fs::read_dir(project.path("")).expect("the folder").flatten();
        let packed =
            packed.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "tgz"));
        let packed = packed.expect("the package").display().to_string();
        run(&destination, "npm", &["install", "--offline", "--no-save", "--no-package-lock", &packed]).await;
        project
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Writes the types of the handlers, checks the types of the page, and builds it.
    async fn build(&self) {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (types, handlers) = (text(self.path("src/api.ts")), text(self.path("handlers.mjs")));
        let written = pagewire_alone(&["types", "--ts", "-o", &types, "--", "node", &handlers]).await;
        assert_eq!(written.code, 0, "{written:?}");
        let folder = text(self.path(""));
        let program = |name: &str| format!("{MODULES}/node_modules/.bin/{name}");
        run(&folder, &program("tsc"), &["--noEmit"]).await;
        run(&folder, &program("vite"), &["build"]).await;
    }

    /// Starts a node that serves the page and runs its handlers.
    async fn node(&self) -> Node {
        let (files, folder) = (json!(self.path("dist")), json!(self.path("")));
        let file = format!(
            "welcome = false\n[state]\nwrite = [\"connection\"]\n[[mount]]\nstatic = {files}\nfallback = \"index.html\"\n\
             [[pool]]\nname = \"default\"\ncommand = [\"node\", \"handlers.mjs\"]\ndirectory = {folder}\n"
        );
        Node::setup().file(&file).start().await
    }
}

/// Runs a program to its end, which must be a success.
async fn run(folder: &str, program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Waits until React has drawn the page.
async fn drawn(browser: &Browser) {
    let statement =
        "while (!document.querySelector('[data-testid=state]')) await new Promise(requestAnimationFrame)";
    browser.printed(statement).await;
    browser.shows("state", "open").await;
}

#[tokio::test]
async fn the_packed_package_is_typed_and_built_by_a_vite_project_and_its_hooks_show_what_happens() {
    let project = Project::create().await;
    project.build().await;
    let node = project.node().await;
    let proxy = Proxy::start([node.address()]).await;
    let browser = Browser::start("react").await;
    browser.goto(&proxy.url()).await;
    drawn(&browser).await;
    browser.click("greet").await;
    browser.shows("greeting", "hello ada").await;
    browser.click("greet-none").await;
    browser.shows("greeting", "`name` has at least 1 characters").await;

    trees(&browser, &proxy).await;
    jobs(&browser).await;

    browser.shows("resets", "0").await;
    proxy.cut();
    browser.shows("state", "waiting").await;
    proxy.mend();
    browser.shows("state", "open").await;
    browser.shows("resets", "0").await;
    browser.screenshot("react").await;
    browser.close().await;
}

/// Two pages show one value, and a component shows another path or is gone.
async fn trees(browser: &Browser, proxy: &Proxy) {
    browser.shows("counter", "first is 0").await;
    browser.click("raise").await;
    browser.shows("counter", "first is 1").await;
    browser.open_window(&proxy.url()).await;
    browser.window(SECOND_WINDOW).await;
    drawn(browser).await;
    browser.shows("counter", "first is 1").await;
    browser.click("raise").await;
    browser.window(0).await;
    browser.shows("counter", "first is 2").await;
    browser.click("second").await;
    browser.shows("counter", "second is 0").await;
    browser.click("raise").await;
    browser.shows("counter", "second is 1").await;
    browser.click("none").await;
    browser.shows("counter", "no counter").await;
    browser.click("first").await;
    browser.shows("counter", "first is 2").await;
}

async fn jobs(browser: &Browser) {
    browser.shows("job", "idle").await;
    browser.click("count").await;
    browser.shows("job", "running").await;
    browser.shows("job", "succeeded").await;
    browser.shows("percent", "100 %").await;
    browser.shows("outcome", "counted 20").await;
    let first = browser.text("job-id").await;
    assert!(!first.is_empty());
    browser.click("count-long").await;
    browser.shows("job", "running").await;
    assert_eq!(browser.text("outcome").await, "", "the result of the job before is gone");
    browser.click("cancel").await;
    browser.shows("job", "cancelled").await;
    assert_ne!(browser.text("job-id").await, first);
}
