//! The pools of a process whose handlers are behind HTTP.
//!
//! Owns: the clients of their backends, one for each lane. Never: how a request is sent (`pagewire_worker::runtime::http`),
//! or the workers that give them work (`pools`).

use std::time::Duration;

use pagewire_cluster::timing::Timing;
use pagewire_cluster::worker::{WorkerGroup, WorkerType};
use pagewire_worker::runtime::http::callbacks::Callbacks;
use pagewire_worker::runtime::http::options::HttpOptions;
use pagewire_worker::runtime::http::pool::HttpPool;
use pagewire_worker::slots::SlotOptions;
use tokio::sync::watch;

use super::StartError;
use super::pools::{PoolPart, PoolServices};
use super::worker::WorkProcesses;
use crate::config::{PoolConfig, PoolRuntime};

/// Returns the workers of the pools with a `url`: one for each lane that has a backend.
///
/// # Errors
/// [`StartError::Pool`] for a pool that cannot be used.
pub(super) fn parts(services: &PoolServices) -> Result<Vec<PoolPart>, StartError> {
    let PoolServices { config, jobs, callbacks, local, .. } = services;
    let mut parts = Vec::new();
    for pool in config.pool.iter().filter(|pool| pool.runtime() == PoolRuntime::Http) {
        for (lane, url) in pool.backends(&config.node.lane) {
            let backend = backend(pool, &url, jobs.timing, callbacks)?;
            // without its sender the set stays as it is
            let (_, handlers) = watch::channel(Some(backend.handlers()));
            let group = WorkerGroup::new(pool.name.as_str(), lane.as_str());
            local.add_backend(group, backend);
            let (pool, slots) = (pool.name.clone(), SlotOptions::new(pool.slots()));
            parts.push(PoolPart {
                pool,
                lane: Some(lane),
                kind: WorkerType::Both,
                slots,
                handlers,
                processes: WorkProcesses::Itself,
            });
        }
    }
    Ok(parts)
}

fn backend(
    pool: &PoolConfig,
    url: &str,
    timing: Timing,
    callbacks: &Callbacks,
) -> Result<HttpPool, StartError> {
    let refused = |problem: String| StartError::Pool { pool: pool.name.clone(), problem };
    let options = HttpOptions {
        pool: pool.name.clone(),
        url: url.to_owned(),
        methods: pool.methods.clone(),
        secret: secret(pool).map_err(refused)?,
        timeout: pool.timeout_ms.map(Duration::from_millis),
        slots: pool.slots(),
        callback: pool.callback.clone(),
    };
    HttpPool::new(options, callbacks.clone(), timing).map_err(|error| refused(error.to_string()))
}

/// Returns the key of signatures; empty for none.
fn secret(pool: &PoolConfig) -> Result<String, String> {
    let path = &pool.secret_file;
    if path.as_os_str().is_empty() {
        return Ok(pool.secret.expose().to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{} is empty, so that requests would not be signed", path.display())),
        secret => Ok(secret.to_owned()),
    }
}
