//! Checks that every command, file and statement of `docs/tutorial.md` works, in its order, in an empty folder.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command as Shell;

use super::chromium::Browser;
use crate::environment::{Api, Process, SOON, eventually, free_port};

/// A block of the document: its language and its text.
struct Block {
    language: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let parts = document.split("\n```").skip(1).step_by(2);
    let block = |part: &str| {
        let (language, text) = part.split_once('\n').expect("a language");
        Block { language: language.to_owned(), text: text.to_owned() }
    };
    parts.map(block).collect()
}

/// What the reader of the document has: a folder, terminals and a browser.
struct Reader {
    folder: TempDir,
    /// The processes that serve, with their lines.
    terminals: Vec<(String, Process)>,
    url: String,
    browser: Browser,
    path: String,
    /// What was printed, block by block.
    printed: Vec<String>,
}

impl Reader {
    async fn new(port: u16) -> Self {
        let folder = tempfile::Builder::new().prefix("tutorial").tempdir().expect("a folder");
        // the package of the document carries the program
        let installed = folder.path().join(".venv/bin");
        let nats = std::env::var_os("NATS_SERVER");
        let nats = nats.as_deref().and_then(|file| Path::new(file).parent()).map(Path::to_owned);
        let folders = [Some(installed), nats].into_iter().flatten();
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&inherited))).expect("a PATH");
        Self {
            folder,
            terminals: Vec::new(),
            url: format!("http://127.0.0.1:{port}"),
            browser: Browser::start("tutorial").await,
            path: path.into_string().expect("UTF-8"),
            printed: Vec::new(),
        }
    }

    async fn follow(&mut self, block: &Block) {
        match block.language.as_str() {
            "python" => self.save(&block.text).await,
            "sh" => {
                for line in block.text.lines() {
                    self.enter(line).await;
                }
            }
            "js" => {
                self.browser.goto(&self.url).await;
                let lines = self.browser.printed(&block.text).await;
                self.printed.push(lines.join("\n"));
            }
            other => panic!("a block of an unknown language: {other}"),
        }
    }

    /// Saves a file, whose name is in its first line, and waits until a server that reloads serves its handlers.
    async fn save(&self, text: &str) {
        let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a name");
        std::fs::write(self.folder.path().join(name), text).expect("a file");
        if self.terminals.iter().any(|(line, _)| line.contains("--reload")) {
            self.serves(text.lines().filter_map(|line| line.strip_prefix("def ")?.split('(').next())).await;
        }
    }

    async fn serves(&self, handlers: impl Iterator<Item = &str>) {
        let api = Api::of(self.url.clone());
        let names: Vec<String> = handlers.map(|name| format!("{name:?}")).collect();
        eventually(&format!("{names:?} are served"), SOON * 2, async || {
            let response = api.request(reqwest::Method::GET, "/api/v1/executors").send().await.ok()?;
            let executors = response.json::<Value>().await.ok()?["items"].to_string();
            names.iter().all(|name| executors.contains(name)).then_some(())
        })
        .await;
    }

    /// Runs a command to its end, or leaves it running in a terminal if it serves.
    async fn enter(&mut self, line: &str) {
        let command = line.rsplit("&& ").next().expect("a command");
        let serves = ["pagewire dev", "pagewire serve", "pagewire worker ", "nats-server"];
        if serves.iter().any(|start| command.starts_with(start)) {
            return self.serve(line).await;
        }
        let mut shell = Shell::new("sh");
        shell.args(["-c", line]).current_dir(self.folder.path()).kill_on_drop(true);
        shell.env("PATH", &self.path).env("PAGEWIRE_URL", &self.url);
        shell.env("CLONE", env!("CARGO_MANIFEST_DIR"));
        shell.env("PAGEWIRE_BINARY", env!("CARGO_BIN_EXE_pagewire"));
        let output = shell.output().await.expect("a shell");
        assert!(output.status.success(), "{line}: {output:?}");
        self.printed.push(String::from_utf8(output.stdout).expect("UTF-8"));
    }

    async fn serve(&mut self, line: &str) {
        if line.starts_with("nats-server") {
            self.stop().await;
        }
        let mut command = std::process::Command::new("sh");
        // the shell becomes the program, which then gets the signals
        let line = match line.rsplit_once("&& ") {
            Some((before, last)) => format!("{before}&& exec {last}"),
            None => format!("exec {line}"),
        };
        // the default is an address of the document
        let address = self.url.strip_prefix("http://").expect("a URL");
        let line = line.replace("pagewire dev", &format!("pagewire dev --listen {address}"));
        command.args(["-c", &line]).current_dir(self.folder.path()).env("PATH", &self.path);
        command.env("PAGEWIRE_TIMING", "short");
        let log = self.folder.path().join(format!("terminal-{}.log", self.terminals.len()));
        let process = Process::start(&line, &mut command, log);
        self.ready(&line, &process).await;
        self.terminals.push((line, process));
    }

    async fn ready(&self, line: &str, process: &Process) {
        let api = Api::of(self.url.clone());
        eventually(&format!("{line} is ready"), SOON * 2, async || match line {
            line if line.contains("pagewire worker") => {
                process.log().contains("\"message\":\"ready\"").then_some(())
            }
            line if line.contains("nats-server") => process.log().contains("Server is ready").then_some(()),
            _ => api.is_ready().await.then_some(()),
        })
        .await;
    }

    /// Stops what serves, as with Ctrl-C.
    async fn stop(&mut self) {
        for (_, mut process) in self.terminals.drain(..) {
            process.signal(rustix::process::Signal::INT);
            process.exit(SOON * 2).await;
        }
    }

    /// Returns how many of the blocks and commands have printed this text.
    fn times(&self, text: &str) -> usize {
        self.printed.iter().filter(|printed| printed.contains(text)).count()
    }
}

#[tokio::test]
async fn every_command_of_the_tutorial_works() {
    let (port, nats) = (free_port(), free_port());
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tutorial.md"));
    let document = document.expect("a tutorial");
    let document = document.replace(":8080", &format!(":{port}")).replace("4222", &nats.to_string());
    let mut reader = Reader::new(port).await;
    for block in blocks(&document) {
        reader.follow(&block).await;
    }
    let printed = &reader.printed;
    assert_eq!(
        reader.times("\"Hello, Ada!\""),
        2,
        "over HTTP, from the node and from the worker: {printed:?}"
    );
    assert_eq!(reader.times("malformed"), 1, "{printed:?}");
    assert_eq!(reader.times("pushed: Grace\nwatched: Grace"), 1, "{printed:?}");
    assert_eq!(reader.times("%\ncounted to 10"), 1, "{printed:?}");
    let shares: Vec<&String> = printed.iter().filter(|text| text.contains("Hello, you!")).collect();
    assert!(shares[0].contains("Good day, you!"), "{shares:?}");
    assert_eq!(shares[1].trim(), "100 Hello, you!");
    reader.stop().await;
    reader.browser.close().await;
}
