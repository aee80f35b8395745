//! A real PostgreSQL server in its own folder, at a Unix socket.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::{Process, SOON, eventually};

/// The user of the system that Debian creates with PostgreSQL, which refuses to run as root.
const ACCOUNT: &str = "postgres";

/// A server with an empty database. Ends with its test.
pub(crate) struct Postgres {
    _process: Process,
    folder: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts its server.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        if is_root() {
            done(Command::new("chown").arg(format!("{ACCOUNT}:")).arg(folder.path()));
        }
        let data = folder.path().join("data");
        let options = ["--username=store", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
        done(command("initdb").args(options).arg("--pgdata").arg(&data));
        let mut server = command("postgres");
        // it ends with the test: nothing has to be on the disk
        server.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        let process = Process::start("PostgreSQL", &mut server, folder.path().join("server.log"));
        let postgres = Self { _process: process, folder };
        eventually("PostgreSQL accepts connections", SOON, async || {
            let mut ready = command("pg_isready");
            ready.arg("--host").arg(postgres.folder.path()).output().ok()?.status.success().then_some(())
        })
        .await;
        postgres
    }

    /// Returns the URL of the database.
    pub(crate) fn url(&self) -> String {
        format!("postgresql://store@/postgres?host={}", self.folder.path().display())
    }
}

/// Returns a program of PostgreSQL, which is run by another user than root.
fn command(program: &str) -> Command {
    let folder = std::env::var_os("POSTGRES_BIN").map(PathBuf::from);
    let path =
        folder.expect("POSTGRES_BIN, which tests/run.py sets to the programs of PostgreSQL").join(program);
    let mut command = match is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"]).arg(path);
            command
        }
        false => Command::new(path),
    };
    // a folder that this user may enter
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
