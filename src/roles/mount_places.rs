//! What nodes publish about the processes of their mounts.
//!
//! Owns: the note of this node, and the count of processes that are lost. Never: which process serves a unit
//! (`mount`), or the row that has the note (`pagewire_cluster::lease`).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{pending, select_all};
use pagewire_cluster::id::Holder;
use pagewire_cluster::lease::{MountPlaces, NodeNote};
use pagewire_cluster::registry::Registry;
use pagewire_worker::runtime::child::http_lease::LostChildren;
use tokio::sync::watch;

use super::pools::{NodePools, PoolServices};
use super::tasks::TaskKind;
use crate::mount::MountPools;
use crate::telemetry::MountMetrics;

/// Starts the tasks of a node with processes of mounts.
pub(super) fn spawn(
    services: &PoolServices,
    registry: &Registry,
    pools: &NodePools,
    note: watch::Sender<NodeNote>,
) {
    let PoolServices { config, metrics, tasks, jobs, .. } = services;
    let mounts = pools.children.mount_pools().clone();
    if mounts.is_empty() {
        return;
    }
    let paths = mounts.keys().cloned().collect();
    let nodes = watch_nodes(registry.clone(), paths, jobs.timing.lease_renew, metrics.mounts.clone());
    tasks.spawn("nodes of mounts", TaskKind::Vital, nodes);
    let (internal, metrics) = (config.node.internal.clone(), metrics.mounts.clone());
    tasks.spawn(
        "mount places",
        TaskKind::Vital,
        publish(mounts, internal, pools.draining.subscribe(), note, metrics),
    );
}

/// Publishes which processes of these pools, of which there is at least one, are ready. A node that drains publishes none.
/// Never returns.
async fn publish(
    pools: MountPools,
    internal: String,
    mut draining: watch::Receiver<bool>,
    note: watch::Sender<NodeNote>,
    metrics: MountMetrics,
) {
    let mut places: Vec<_> = pools.values().map(|pool| pool.http_places()).collect();
    let (mut shown, mut lost) = (NodeNote::default(), BTreeMap::new());
    loop {
        let is_draining = *draining.borrow_and_update();
        let ready = places.iter_mut().map(|places| places.borrow_and_update().clone());
        let of_pools = pools.iter().zip(ready).map(|((path, pool), ready)| {
            let ready = if is_draining { Vec::new() } else { ready };
            (path.clone(), MountPlaces { count: pool.place_count(), ready })
        });
        let mounts = of_pools.collect();
        let next = NodeNote { draining: is_draining, internal: internal.clone(), mounts };
        if !is_draining {
            report_lost(&pools, &mut lost, &metrics);
        }
        if next != shown {
            note.send_replace(next.clone());
            shown = next;
        }
        let changes: Vec<_> = places.iter_mut().map(|places| Box::pin(places.changed())).collect();
        tokio::select! {
            _ = select_all(changes) => {}
            Ok(()) = draining.changed() => {}
            else => pending().await,
        }
    }
}

/// Logs and counts the processes that are lost since the last time.
fn report_lost(pools: &MountPools, known: &mut BTreeMap<String, u64>, metrics: &MountMetrics) {
    for (path, pool) in pools {
        let LostChildren { count, reason } = pool.lost();
        let more = count - known.insert(path.clone(), count).unwrap_or_default();
        if more > 0 {
            tracing::warn!(mount = path, more, reason, "a process is lost: its units go to other processes");
            metrics.lost(path, "process", more);
        }
    }
}

/// Logs and counts the processes of other nodes that have left the cluster without draining. Never returns.
async fn watch_nodes(registry: Registry, mounts: Vec<String>, period: Duration, metrics: MountMetrics) {
    let mut known = BTreeMap::new();
    loop {
        let nodes = ready_at_nodes(&registry, &mounts);
        for (holder, processes) in known.iter().filter(|(holder, _)| !nodes.contains_key(holder)) {
            report_left(*holder, processes, &metrics);
        }
        known = nodes;
        tokio::time::sleep(period).await;
    }
}

/// The number of ready processes of each mount.
type ReadyCounts = BTreeMap<String, u64>;

fn ready_at_nodes(registry: &Registry, mounts: &[String]) -> BTreeMap<Holder, ReadyCounts> {
    let view = registry.view();
    let counts = |note: &NodeNote| {
        let own = note.mounts.iter().filter(|(path, _)| mounts.contains(path));
        own.map(|(path, places)| (path.clone(), places.ready.len() as u64)).collect()
    };
    view.nodes().into_iter().map(|(holder, row)| (holder, counts(&row.note))).collect()
}

fn report_left(holder: Holder, processes: &ReadyCounts, metrics: &MountMetrics) {
    for (mount, count) in processes.iter().filter(|(_, count)| **count > 0) {
        let node = holder.node.to_string();
        tracing::warn!(mount, node, processes = count, "a node has left: its units go to other processes");
        metrics.lost(mount, "node", *count);
    }
}
