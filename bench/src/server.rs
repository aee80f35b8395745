//! The measured node, as a process.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::Stdio;

use pagewire_worker::tls;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;

use crate::batches::ProcessBatches;
use crate::child;
use crate::cluster::{Cluster, random};
use crate::nats::Nats;
use crate::scratch::{free_address, scratch_directory, until};

/// A node of this build.
pub(crate) struct Node {
    /// The address that it listens on.
    pub(crate) address: SocketAddr,
    /// The process id.
    pub(crate) pid: u32,
    cluster: Cluster,
    /// A key of the server API.
    pub(crate) api_key: String,
    http: reqwest::Client,
    batches: ProcessBatches,
    _child: Child,
    _directory: TempDir,
}

impl Node {
    /// Starts a node in a cluster of its own. Returns when it is ready.
    pub(crate) async fn start(nats: Option<&Nats>, core: Option<usize>) -> io::Result<Self> {
        Self::join(&Cluster::new(nats), core).await
    }

    /// Starts another node in the same cluster.
    pub(crate) async fn neighbour(&self, core: Option<usize>) -> io::Result<Self> {
        Self::join(&self.cluster, core).await
    }

    /// Starts `pagewire serve` with the defaults, except for the limits that would keep one machine from running all
    /// clients.
    pub(crate) async fn join(cluster: &Cluster, core: Option<usize>) -> io::Result<Self> {
        Self::with(cluster, core, &[]).await
    }

    /// The same with these variables beside the defaults.
    pub(crate) async fn with(
        cluster: &Cluster,
        core: Option<usize>,
        settings: &[(&str, &str)],
    ) -> io::Result<Self> {
        Self::launch(cluster, core, settings, "").await
    }

    /// The same with a configuration file.
    pub(crate) async fn with_file(cluster: &Cluster, file: &str) -> io::Result<Self> {
        Self::launch(cluster, None, &[], file).await
    }

    async fn launch(
        cluster: &Cluster,
        core: Option<usize>,
        settings: &[(&str, &str)],
        file: &str,
    ) -> io::Result<Self> {
        let (directory, address, api_key) = (scratch_directory()?, free_address()?, random());
        // read from the directory in which the node starts
        std::fs::write(directory.path().join("pagewire.toml"), file)?;
        let mut command = cluster.pagewire(&["serve"])?;
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("PAGEWIRE_LISTEN", address.to_string());
        command.env("PAGEWIRE_NODE__ADVERTISE", format!("http://{address}"));
        command.env("PAGEWIRE_AUTH__API_KEYS", &api_key);
        command.envs(settings.iter().copied());
        let child = child::start(command, core)?;
        let http = client()?;
        let (pid, cluster) = (child::pid(&child)?, cluster.clone());
        let metrics = http.get(format!("http://{address}/metrics")).bearer_auth(&api_key);
        let batches = ProcessBatches::of(metrics);
        let node =
            Self { address, pid, cluster, api_key, http, batches, _child: child, _directory: directory };
        until("the node", async || Ok(node.is_ready().await)).await?;
        Ok(node)
    }

    /// Returns its cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Counts the node's atomic batches, then stops it.
    pub(crate) async fn stop(self) -> io::Result<()> {
        self.batches.count().await
    }

    /// Returns whether the node responds and takes traffic.
    pub(crate) async fn is_ready(&self) -> bool {
        let ready = self.http.get(format!("http://{}/readyz", self.address)).send().await;
        ready.is_ok_and(|ready| ready.status().is_success())
    }

    /// Creates a token for each of these users, all with the role `push`.
    pub(crate) fn tokens(&self, users: Range<u64>) -> io::Result<Vec<String>> {
        self.cluster.tokens(users)
    }

    /// Sends `POST` to the server API.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> io::Result<T> {
        let url = format!("http://{}/api/v1{path}", self.address);
        let request = self.http.post(url).bearer_auth(&self.api_key).json(body);
        read_response(request).await
    }

    /// Sends `GET` to the server API.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> io::Result<T> {
        let url = format!("http://{}/api/v1{path}", self.address);
        read_response(self.http.get(url).bearer_auth(&self.api_key)).await
    }

    /// Sends `PUT` to the server API; replaces the resource at any revision.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> io::Result<T> {
        let url = format!("http://{}/api/v1{path}", self.address);
        let request = self.http.put(url).bearer_auth(&self.api_key).header("if-match", "*").json(body);
        read_response(request).await
    }

    /// Waits until the node's view has that many nodes.
    pub(crate) async fn sees_nodes(&self, nodes: u64) -> io::Result<()> {
        self.lists("/nodes", nodes).await
    }

    /// Waits until the node's view has that many workers.
    pub(crate) async fn sees_workers(&self, workers: u64) -> io::Result<()> {
        self.lists("/workers", workers).await
    }

    async fn lists(&self, path: &str, items: u64) -> io::Result<()> {
        let url = format!("http://{}/api/v1{path}", self.address);
        until("the view", async || {
            let list: Value = read_response(self.http.get(&url).bearer_auth(&self.api_key)).await?;
            Ok(list["items"].as_array().map(Vec::len) == usize::try_from(items).ok())
        })
        .await
    }

    /// Waits until the node's view has that many pages.
    pub(crate) async fn sees(&self, pages: usize) -> io::Result<()> {
        until("the view", async || Ok(self.stats().await?["pages"].as_u64() == u64::try_from(pages).ok()))
            .await
    }

    /// Its counts.
    pub(crate) async fn stats(&self) -> io::Result<Value> {
        let url = format!("http://{}/api/v1/stats", self.address);
        read_response(self.http.get(&url).bearer_auth(&self.api_key)).await
    }
}

/// Creates an HTTP client that uses no proxy, so that all requests stay on this machine.
pub(crate) fn client() -> io::Result<reqwest::Client> {
    tls::install();
    reqwest::Client::builder().no_proxy().build().map_err(io::Error::other)
}

async fn read_response<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> io::Result<T> {
    let response = request.send().await.and_then(reqwest::Response::error_for_status);
    response.map_err(io::Error::other)?.json().await.map_err(io::Error::other)
}
