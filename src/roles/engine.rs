//! The engine of a process, as its configuration chooses it.
//!
//! Owns: the choice between NATS and the embedded engine. Never: what is stored.

use pagewire_cluster::engine::{Engine, Memory, Nats, NatsOptions};
use pagewire_cluster::timing::Timing;

use super::StartError;
use crate::config::Config;

/// Connects to NATS, or opens the embedded engine when no server is configured.
pub(super) async fn engine(config: &Config, timing: Timing) -> Result<Engine, StartError> {
    if config.nats.urls.is_empty() {
        return embedded(config, timing).await;
    }
    let options = NatsOptions {
        urls: config.nats.urls.clone(),
        replicas: config.nats.replicas,
        cluster: config.cluster.clone(),
        client_name: format!("pagewire {}", config.node.name),
        timing,
    };
    Ok(Engine::Nats(Nats::connect(options).await?))
}

async fn embedded(config: &Config, timing: Timing) -> Result<Engine, StartError> {
    if config.data_dir.as_os_str().is_empty() {
        tracing::info!(
            "embedded engine in memory: all state is lost when this process exits; set data_dir to keep it"
        );
        return Ok(Engine::Memory(Memory::with_timing(&timing)));
    }
    let (memory, kept) = Memory::open(&config.data_dir, &timing).await?;
    let path = config.data_dir.display();
    tracing::info!(%path, rows = kept.rows, work_items = kept.work_items, "embedded engine with a data directory");
    Ok(Engine::Memory(memory))
}
