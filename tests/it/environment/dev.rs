//! A `pagewire dev` process in a folder of its own, with all that it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus};

use rustix::process::Signal;
use tempfile::TempDir;

use super::children::PROGRAM;
use super::{Api, Process, SOON, eventually, free_port};

/// Name of the program of the tests in the folder.
const FILE: &str = "program.py";

/// A development set-up, which ends with its test.
pub(crate) struct Dev {
    process: Option<Process>,
    address: SocketAddr,
    folder: TempDir,
}

impl Dev {
    /// Creates a folder with the program of the tests in version 1.
    pub(crate) fn setup() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let this = Self { process: None, address, folder: tempfile::tempdir().expect("a folder") };
        this.write_version("1");
        this
    }

    /// Starts `pagewire dev` with these arguments and the program of the tests.
    pub(crate) fn with_program(self, arguments: &[&str]) -> Self {
        self.launch(&[arguments, &["--", "python3", FILE]].concat())
    }

    /// Starts `pagewire dev` with these arguments.
    pub(crate) fn launch(mut self, arguments: &[&str]) -> Self {
        let mut command = self.command(arguments);
        self.process = Some(Process::start("pagewire dev", &mut command, self.folder.path().join("dev.log")));
        self
    }

    /// Returns the command that starts `pagewire dev` with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let temporary = self.folder.path().join(".temporary");
        std::fs::create_dir_all(&temporary).expect("a folder");
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/src");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagewire"));
        command
            .args(["dev", "--listen", &self.address.to_string()])
            .args(arguments)
            .env("PAGEWIRE_TIMING", "short")
            .env("PYTHONPATH", package)
            .env("TMPDIR", temporary)
            .env_remove("VIRTUAL_ENV")
            .env_remove("PAGEWIRE_CONFIG")
            .current_dir(self.folder.path());
        command
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn api(&self) -> Api {
        Api::of(format!("http://{}", self.address))
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.path().join(file), text).expect("a file");
    }

    /// Writes the program whose handler `version` returns this version.
    pub(crate) fn write_version(&self, version: &str) {
        let source = std::fs::read_to_string(PROGRAM).expect("the program");
        self.write(FILE, &source.replace("default=\"1\"", &format!("default=\"{version}\"")));
    }

    /// Writes a program that Python refuses.
    pub(crate) fn write_mistake(&self) {
        self.write(FILE, "def main(:\n");
    }

    /// Waits until it shows a text.
    pub(crate) async fn shows(&self, text: &str) {
        eventually(&format!("it shows {text:?}"), SOON * 2, async || self.log().contains(text).then_some(()))
            .await;
    }

    pub(crate) fn log(&self) -> String {
        self.process.as_ref().expect("a process").log()
    }

    /// Does what Ctrl-C does, and waits for the end.
    pub(crate) async fn interrupt(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("a process");
        process.signal(Signal::INT);
        process.exit(SOON).await
    }

    /// Kills the process that has started the others (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.process.as_mut().expect("a process").kill();
    }

    /// Returns the number of processes that work in the folder.
    pub(crate) fn processes(&self) -> usize {
        let all = std::fs::read_dir("/proc").expect("processes").flatten();
        let works_here = |path: &Path| {
            std::fs::read_link(path.join("cwd")).is_ok_and(|folder| folder == self.folder.path())
        };
        all.filter(|process| works_here(&process.path())).count()
    }

    /// Waits until no process works in the folder.
    pub(crate) async fn is_gone(&self) {
        eventually("no process is left", SOON, async || (self.processes() == 0).then_some(())).await;
    }
}
