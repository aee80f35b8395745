//! A real `nats-server` for the suite.
//!
//! The tests of a run share one server; each uses a cluster name of its own. The first test that needs the
//! server starts it, and it ends when the last test releases it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running server. Dropping it kills the process.
pub(crate) struct Server {
    process: Child,
    /// The URL for clients.
    pub(crate) url: String,
    /// The streams and the log. Deleted after the process has ended.
    _files: TempDir,
}

impl Server {
    /// Returns the server of this run.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// Starts a server on a port of its own choice, and waits until it reports that it is ready.
    fn start() -> Self {
        let program = std::env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let files = tempfile::tempdir().expect("a directory for the server's files");
        let mut process = Command::new(&program)
            .args(["-js", "-a", "127.0.0.1", "-p", "-1"])
            .arg("-sd")
            .arg(files.path().join("streams"))
            .arg("--ports_file_dir")
            .arg(files.path())
            .arg("-l")
            .arg(files.path().join("log"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} (set NATS_SERVER to its path): {error}"));
        let begun = Instant::now();
        let url = loop {
            if let Some(url) = port_file(files.path()) {
                break url;
            }
            let ended = process.try_wait().expect("asks for its child");
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(20), "{program} did not start");
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { process, url, _files: files }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // the process may have ended already; after the wait it has ended in any case
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the address from the ports file, which a server writes when it listens.
fn port_file(directory: &Path) -> Option<String> {
    let mut files = std::fs::read_dir(directory).ok()?.filter_map(Result::ok).map(|file| file.path());
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "ports"))?;
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
}
