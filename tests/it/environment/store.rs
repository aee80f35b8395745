//! The store room of `examples/migration`: its daemon, its database, its phases and its scripted visitors.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::{Application, Node, Postgres, Process, SOON, Setup, WebServer, eventually, free_port, venv};

/// The folder of the example.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/migration");
/// The Python package of this tree.
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/src");
/// The secret of the site, which its nodes have as well.
const SECRET: &str = "a secret of the tests of the store room";
/// A login takes no time.
const HASHER: (&str, &str) = ("STORE_PASSWORD_HASHER", "django.contrib.auth.hashers.MD5PasswordHasher");
/// The address of the daemon in the files of the example.
const DAEMON: &str = "127.0.0.1:8700";

/// The name of the file of SQLite.
const FILE: &str = "store.sqlite3";

/// A database with its users, made once for all tests of a process.
async fn database() -> &'static Path {
    static FIRST: OnceCell<TempDir> = OnceCell::const_new();
    let folder = FIRST.get_or_init(async || {
        let folder = tempfile::tempdir().expect("a folder");
        fill(&shown(&folder.path().join(FILE))).await;
        folder
    });
    folder.await.path()
}

/// Makes the tables of the store room in a database, with its items and users.
async fn fill(database: &str) {
    for command in ["migrate", "demo"] {
        let mut python = tokio::process::Command::new(venv().join("bin/python"));
        python.args(["manage.py", command]).current_dir(FOLDER).env("PYTHONDONTWRITEBYTECODE", "1");
        python.env("STORE_SECRET", SECRET).env("STORE_DATABASE", database).env(HASHER.0, HASHER.1);
        let output = python.output().await.expect("a Python");
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

/// One store room: what stays when its phase changes.
pub(crate) struct StoreRoom {
    folder: TempDir,
    /// The database, as the application takes it: a file, or a URL.
    database: String,
    daemon: SocketAddr,
    process: Option<Process>,
}

impl StoreRoom {
    /// Makes a room with the items and users of the example, and starts its daemon.
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        std::fs::copy(database().await.join(FILE), &file).expect("a copy");
        let daemon = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut room = Self { folder, database: shown(&file), daemon, process: None };
        room.start_daemon().await;
        room
    }

    /// Makes a room in an empty PostgreSQL, without its daemon.
    pub(crate) async fn open_on(postgres: &Postgres) -> Self {
        let (folder, database) = (tempfile::tempdir().expect("a folder"), postgres.url());
        fill(&database).await;
        let daemon = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        Self { folder, database, daemon, process: None }
    }

    /// Starts the daemon, with nothing in its memory.
    pub(crate) async fn start_daemon(&mut self) {
        let mut command = Command::new(venv().join("bin/python"));
        command.args(["daemon.py", &self.daemon.to_string()]).current_dir(FOLDER);
        let process = Process::start("the daemon", &mut command, self.folder.path().join("daemon.log"));
        eventually("the daemon listens", SOON, async || TcpStream::connect(self.daemon).await.ok()).await;
        self.process = Some(process);
    }

    /// Ends the daemon.
    pub(crate) fn stop_daemon(&mut self) {
        self.process.take().expect("a daemon").kill();
    }

    /// Starts the application with gunicorn, as it was before the move.
    pub(crate) async fn gunicorn(&self) -> WebServer {
        let variables = self.variables();
        let environment: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        WebServer::gunicorn(&Application { name: "store.wsgi", directory: FOLDER, environment: &environment })
            .await
    }

    /// Configures a node with the file of a phase; its address and folder are those of this room.
    pub(crate) fn phase(&self, name: &str) -> Setup {
        self.configured(&phase_file(name))
    }

    /// Configures a node with the file of a phase, without the lines of one key.
    pub(crate) fn phase_without(&self, name: &str, key: &str) -> Setup {
        let file = phase_file(name);
        let kept: Vec<&str> = file.lines().filter(|line| !line.starts_with(&format!("{key} = "))).collect();
        self.configured(&kept.join("\n"))
    }

    fn configured(&self, file: &str) -> Setup {
        let folder = format!("path = \"/\"\ndirectory = {}", json!(FOLDER));
        let data = format!("data_dir = {}", json!(self.folder.path().join("data")));
        let file = file.replacen("path = \"/\"", &folder, 1).replace(DAEMON, &self.daemon.to_string());
        let file =
            file.replace("data_dir = \"data\"", &data).replace("urls = [\"nats://127.0.0.1:4222\"]", "");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", venv().join("bin").display());
        // a process that is busy with a login is not lost
        let setup =
            Node::setup().real_timing().file(&file).set("auth.hs256_secret", SECRET).variable("PATH", &path);
        self.variables().iter().fold(setup, |setup, (name, value)| setup.variable(name, value))
    }

    /// Starts a node with a phase, and waits until it serves the application.
    pub(crate) async fn serve(&self, name: &str) -> Node {
        let node = self.phase(name).launch();
        opened(&node).await;
        node
    }

    /// Runs the scripted visitors, who log in at their first visit and never again. Returns the steps that they have taken.
    pub(crate) async fn visited(&self, url: &str) -> String {
        self.drive(&[url]).await
    }

    /// Runs the scripted visitors, each at a node of its own.
    pub(crate) async fn visited_at(&self, urls: [&str; 2]) -> String {
        self.drive(&urls).await
    }

    /// Runs the scripted visitors, where a tab that they have left open at their last visit goes on.
    pub(crate) async fn visited_again(&self, url: &str) -> String {
        self.drive(&[url, "--tab"]).await
    }

    /// Runs the scripted visitors and the program beside the site, which has the last address, as the files of a phase start
    /// it.
    pub(crate) async fn visited_with_program(&self, phase: &str, urls: &[&str]) -> String {
        let Program { command, mut environment } = Program::of(phase);
        for (name, value) in &mut environment {
            if name == "PAGEWIRE_URL" {
                *value = (*urls.last().expect("a node")).to_owned();
            }
        }
        environment.extend(self.variables().into_iter().map(|(name, value)| (name.to_owned(), value)));
        // the package of this tree, which a program has in its own virtualenv
        environment.push(("PYTHONPATH".to_owned(), PACKAGE.to_owned()));
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let jar = self.jar();
        let arguments = [&["drive.py"], urls, &["--restock", &command, "--jar", &jar]].concat();
        self.run(&arguments, &environment).await
    }

    /// Returns the path of the file with the cookies of the visitors.
    pub(crate) fn jar(&self) -> String {
        shown(&self.folder.path().join("jar"))
    }

    async fn drive(&self, own: &[&str]) -> String {
        let name = self.jar();
        let stay = if Path::new(&name).exists() { &["--stay"][..] } else { &[] };
        let arguments = [&["drive.py"], own, &["--jar", &name], stay].concat();
        self.run(&arguments, &[]).await
    }

    /// Runs the tests of the application itself.
    pub(crate) async fn tested(&self, url: &str) {
        self.run(&["-m", "unittest", "test_store"], &[("STORE_URL", url)]).await;
    }

    /// Runs a program of the example to its end, and returns what it prints.
    pub(crate) async fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let mut command = tokio::process::Command::new(venv().join("bin/python"));
        command.args(arguments).current_dir(FOLDER).kill_on_drop(true);
        command.env("PYTHONDONTWRITEBYTECODE", "1").envs(environment.iter().copied());
        let output = command.output().await.expect("a Python");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {printed}{errors}");
        printed
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("STORE_SECRET", SECRET.to_owned()),
            ("STORE_DATABASE", self.database.clone()),
            ("STORE_DAEMON", self.daemon.to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            (HASHER.0, HASHER.1.to_owned()),
        ]
    }
}

/// The program beside the site in the files of a phase.
struct Program {
    command: String,
    environment: Vec<(String, String)>,
}

impl Program {
    /// Reads it from the file for supervisord, for one run. That for systemd has to say the same.
    fn of(phase: &str) -> Self {
        let (name, systemd) =
            if phase == "before" { ("before".to_owned(), "0") } else { (format!("phase-{phase}"), phase) };
        let file = std::fs::read_to_string(format!("{FOLDER}/supervisord/{name}.conf")).expect("a file");
        let (_, section) = file.split_once("[program:restock]\n").expect("a program");
        let value = |key: &str| {
            let found = section.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            found.unwrap_or_else(|| panic!("{name} has no {key}")).to_owned()
        };
        let environment = value("environment").replace('"', "");
        let lines =
            std::fs::read_to_string(format!("{FOLDER}/systemd/programs-{systemd}.env")).expect("a file");
        assert_eq!(environment, lines.trim_end().replace('\n', ","), "{name}");
        let pairs = environment.split(',').filter_map(|pair| pair.split_once('='));
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let python = venv().join("bin/python").display().to_string();
        let command = value("command").replace("python3", &python).replace(" --every 60", "");
        Self { command, environment }
    }
}

/// Waits until a node serves the application, whose processes take many seconds to start while the machine is busy.
pub(crate) async fn opened(node: &Node) {
    eventually("the store room is open", SOON * 4, async || {
        let answer = node.api().request(Method::GET, "/login/").send().await.ok()?;
        (answer.status() == StatusCode::OK).then_some(())
    })
    .await;
}

fn phase_file(name: &str) -> String {
    std::fs::read_to_string(format!("{FOLDER}/phase-{name}.toml")).expect("a phase")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
