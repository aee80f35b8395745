//! The run of a node, from binding its address to giving back its number.
//!
//! Owns: the order of binding, starting, serving, draining and stopping. Never: how a socket is closed.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use pagewire_cluster::timing::Timing;
use pagewire_worker::handlers::Handlers;
use tokio::net::TcpListener;

use super::listen::{InnerListeners, bind, unusable};
use super::tasks::TaskFailure;
use super::{Node, StartError};
use crate::api;
use crate::config::{Config, is_mount_path};
use crate::edge::{Edge, StartupServer};
use crate::mount::{MountCluster, Mounts, OwnMount, SiteListener};

/// What a program that uses this crate adds to a node.
#[derive(Debug, Clone, Default)]
pub struct OwnProgram {
    /// Its mounts, beside those of the configuration.
    pub mounts: Vec<OwnMount>,
    /// Its handlers. A worker inside the node runs them, unless the configuration has pools.
    pub handlers: Handlers,
}

/// Runs a node until `stop`, then drains it: clients are advised to reconnect to another node, and the number is given
/// back. The address is bound first, so that a process that cannot serve never claims a number.
///
/// # Errors
/// [`StartError`] when the address or the engine cannot be used, or when a task that the node needs has ended.
pub async fn run(config: Config, timing: Timing, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    run_with(config, OwnProgram::default(), timing, |_| {}, stop).await
}

/// Runs a node like [`run`], with what a program adds to it. `ready` is called with the address of the node when it takes
/// traffic. A program that has child processes, for example of a mount with `wsgi`, calls
/// [`run_guard`](crate::run_guard) first.
///
/// # Errors
/// [`StartError`] as for [`run`], and for a configuration or a mount in code that cannot work.
pub async fn run_with(
    mut config: Config,
    own: OwnProgram,
    timing: Timing,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let OwnProgram { mounts, handlers } = own;
    // it may have been built in code as well
    config.check()?;
    check(&mounts, &config)?;
    let listener = bind(config.listen).await?;
    config.listen = listener.local_addr().map_err(|source| unusable(config.listen, source))?;
    let inner = InnerListeners::bind(&mut config).await?;
    if config.node.advertise.is_empty() {
        config.node.advertise = config.local_url();
    }
    let mut stop = std::pin::pin!(stop);
    let startup = StartupServer::new(listener, &config, timing, api::not_ready());
    let mut node = tokio::select! {
        node = startup.serve_until(Node::start_with(config, handlers, timing)) => node?,
        () = &mut stop => return Ok(()),
    };
    node.own_mounts = mounts;
    let ready = || ready(node.config.listen);
    let failure = until_stopped(&node, startup, inner, ready, stop).await;
    node.stop().await;
    tracing::info!("stopped");
    failure.map_or(Ok(()), |failure| Err(StartError::Task(failure.name)))
}

/// Checks that each mount in code has a path of its own.
fn check(mounts: &[OwnMount], config: &Config) -> Result<(), StartError> {
    for (index, mount) in mounts.iter().enumerate() {
        let path = mount.path();
        let refused = |problem| Err(StartError::Mount { path: path.to_owned(), problem });
        if !is_mount_path(path) {
            return refused("is not / or a path such as /shop");
        }
        let others = mounts[..index].iter().map(OwnMount::path);
        if others.chain(config.mount.iter().map(|mount| mount.path.as_str())).any(|other| other == path) {
            return refused("is mounted twice");
        }
    }
    Ok(())
}

/// Serves the sites that push to their pages. Never returns.
async fn serve_sites(mounts: Option<Arc<Mounts>>, sites: Vec<(String, SiteListener)>) {
    if let Some(mounts) = mounts {
        let served = sites.into_iter().map(|(path, listener)| {
            let mounts = mounts.clone();
            async move { mounts.serve_site(&path, listener).await }
        });
        join_all(served).await;
    }
    std::future::pending().await
}

/// Serves until `stop` or until a vital task ends; `ready` is called in between. Returns the failure of that task.
async fn until_stopped(
    node: &Node,
    startup: StartupServer,
    inner: InnerListeners,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Option<TaskFailure> {
    let mut failure = None;
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = node.context.pages.relocator.drain_requested() => {}
            failed = node.tasks.failed() => failure = Some(failed),
        }
    };
    {
        let mut stop = std::pin::pin!(stop);
        tokio::select! {
            () = startup.serve_until(node.ready.wait()) => {
                ready();
                node.serve(startup, inner, stop).await;
            }
            () = &mut stop => node.accepting.set(false),
        }
    }
    failure
}

impl Node {
    async fn serve(&self, startup: StartupServer, inner: InnerListeners, stop: impl Future<Output = ()>) {
        let edge = Edge::new(&self.config, self.timing, self.context.clone(), self.metrics.clone());
        let native = edge.routes().merge(api::router(self.parts()));
        let mounts = self.mounts();
        let router = edge.with_mounts(native, mounts.clone());
        let node = self.lease.holder().map(|holder| holder.node.to_string());
        tracing::info!(url = self.config.local_url(), node, cluster = self.config.cluster, "ready");
        let stop = async {
            stop.await;
            self.accepting.set(false);
            // other nodes send no page here from now on
            self.note.send_modify(|note| note.draining = true);
            self.pools.begin_drain();
            tracing::info!(pages = self.hub.len(), "draining: pages move to other nodes");
        };
        let InnerListeners { internal, sites } = inner;
        let nodes = async {
            tokio::join!(edge.serve(startup, router, stop), self.serve_nodes(internal, mounts.clone()))
        };
        tokio::select! {
            _ = nodes => {}
            () = serve_sites(mounts.clone(), sites) => {}
        }
        self.await_migration().await;
    }

    /// Serves requests of other nodes for the processes of this one, until this node has drained and others know of it.
    async fn serve_nodes(&self, internal: Option<TcpListener>, mounts: Option<Arc<Mounts>>) {
        let (Some(listener), Some(mounts)) = (internal, mounts) else { return };
        let mut draining = self.pools.draining.subscribe();
        let stop = async {
            // an error means that the node is gone
            let _ = draining.wait_for(|draining| *draining).await;
            tokio::time::sleep(self.timing.hop_drain).await;
        };
        StartupServer::internal(listener, &self.config, self.timing, mounts).serve_nodes(stop).await;
    }

    fn mounts(&self) -> Option<Arc<Mounts>> {
        let cluster = MountCluster {
            registry: self.registry.clone(),
            lease: self.lease.clone(),
            keyring: self.keyring.clone(),
            clock: self.clock.clone(),
            rollouts: self.context.rollouts.clone(),
            outcomes: self.context.analysis.outcomes().clone(),
            registers: self.registers.clone(),
            draining: self.pools.draining.subscribe(),
        };
        let (config, metrics) = (&self.config, self.metrics.mounts.clone());
        let pools = self.pools.children.mount_pools();
        Mounts::new(config, &self.timing, metrics, pools, cluster, &self.own_mounts)
    }

    /// Returns the parts that the API uses.
    pub(crate) fn parts(&self) -> api::ApiState {
        api::ApiState {
            config: self.config.clone(),
            timing: self.timing,
            context: self.context.clone(),
            hub: self.hub.clone(),
            registry: self.registry.clone(),
            lease: self.lease.clone(),
            ready: self.ready.clone(),
            metrics: self.metrics.clone(),
            callbacks: self.callbacks.clone(),
            registers: self.registers.clone(),
            programs: self.programs.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::tasks::TaskKind;

    #[tokio::test]
    async fn an_address_that_is_taken_is_said_before_anything_else() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = crate::config::load(&crate::config::Sources::default()).unwrap();
        config.listen = taken.local_addr().unwrap();
        let error = run(config, Timing::TEST, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on {}", taken.local_addr().unwrap())));
    }

    #[tokio::test]
    async fn a_node_becomes_unready_and_drains_when_a_task_that_it_needs_panics() {
        let mut config = crate::config::load(&crate::config::Sources::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.listen = listener.local_addr().unwrap();
        let startup = StartupServer::new(listener, &config, Timing::TEST, api::not_ready());
        let inner = InnerListeners::bind(&mut config).await.unwrap();
        let node = Node::start(config, Timing::TEST).await.unwrap();
        node.ready.wait().await;
        node.tasks.spawn("test", TaskKind::Vital, async { panic!("a fault of this test") });
        let failure = until_stopped(&node, startup, inner, || {}, std::future::pending()).await;
        assert_eq!(failure, Some(TaskFailure { name: "test", panicked: true }));
        assert_eq!(node.ready.missing(), ["accepting"]);
        node.stop().await;
    }
}
