//! What nodes publish about the processes of their mounts.
//!
//! Owns: the note of this node, the count of processes that are lost, and the part of this node in the limits of a lane. Never: which process serves a unit
//! (`mount`), or the row that has the note (`pagewire_cluster::lease`).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{pending, select_all};
use pagewire_cluster::id::Holder;
use pagewire_cluster::lease::{MountPlaces, NodeNote};
use pagewire_cluster::registry::Registry;
use pagewire_cluster::rollout::Rollouts;
use pagewire_worker::runtime::child::http_lease::LostChildren;
use tokio::sync::watch;

use super::pools::{NodePools, PoolServices};
use super::tasks::TaskKind;
use crate::mount::{MountPool, MountPools};
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
    let limits =
        follow_limits(mounts.clone(), services.rollouts.clone(), registry.clone(), jobs.timing.lease_renew);
    tasks.spawn("limits of mounts", TaskKind::Vital, limits);
    let (internal, metrics) = (config.node.internal.clone(), metrics.mounts.clone());
    tasks.spawn(
        "mount places",
        TaskKind::Vital,
        publish(mounts, internal, pools.draining.subscribe(), note, metrics),
    );
}

/// Keeps the processes of each lane within their part of the limits of the lane, which all nodes with processes of it share.
/// Never returns.
async fn follow_limits(pools: MountPools, rollouts: Rollouts, registry: Registry, period: Duration) {
    let mut documents = rollouts.document_changes();
    loop {
        for (path, mount) in &pools {
            let Some(rollout) = &mount.rollout else { continue };
            for (name, lane) in mount.lanes() {
                let nodes = nodes_with_lane(&registry, path, name);
                lane.children.narrow(rollouts.limits(rollout, name).share(nodes));
            }
        }
        // the rows of nodes have no signal of their own
        tokio::select! {
            Ok(()) = documents.changed() => {}
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// Returns how many nodes have processes of a lane of a mount.
fn nodes_with_lane(registry: &Registry, path: &str, lane: &str) -> usize {
    let has = |note: &NodeNote| {
        let lanes = note.lanes.get(path).filter(|_| !note.draining);
        lanes.is_some_and(|lanes| lanes.own == lane || lanes.others.contains_key(lane))
    };
    registry.view().nodes().into_iter().filter(|(_, row)| has(&row.note)).count()
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
    let lanes = pools.values().flat_map(MountPool::lanes);
    let mut places: Vec<_> = lanes.map(|(_, lane)| lane.children.http_places()).collect();
    let (mut shown, mut lost) = (NodeNote::default(), BTreeMap::new());
    loop {
        let is_draining = *draining.borrow_and_update();
        places.iter_mut().for_each(watch::Receiver::mark_unchanged);
        let next = note_of(&pools, &internal, is_draining);
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

/// Returns the note of a node with these pools.
fn note_of(pools: &MountPools, internal: &str, is_draining: bool) -> NodeNote {
    let shown = |places: MountPlaces| match is_draining {
        true => MountPlaces { ready: Vec::new(), ..places },
        false => places,
    };
    let lanes = pools.iter().filter_map(|(path, pool)| {
        let mut lanes = pool.other_places()?;
        lanes.others.values_mut().for_each(|places| *places = shown(std::mem::take(places)));
        Some((path.clone(), lanes))
    });
    NodeNote {
        draining: is_draining,
        internal: internal.to_owned(),
        mounts: pools.iter().map(|(path, pool)| (path.clone(), shown(pool.own_places()))).collect(),
        lanes: lanes.collect(),
    }
}

/// The number of processes that each lane of each mount has lost.
type LostCounts<'a> = BTreeMap<(&'a str, &'a str), u64>;

/// Logs and counts the processes that are lost since the last time.
fn report_lost<'a>(pools: &'a MountPools, known: &mut LostCounts<'a>, metrics: &MountMetrics) {
    let lanes =
        pools.iter().flat_map(|(path, pool)| pool.lanes().map(move |(name, lane)| (path, name, lane)));
    for (path, name, lane) in lanes {
        let LostChildren { count, reason } = lane.children.lost();
        let more = count - known.insert((path, name), count).unwrap_or_default();
        if more > 0 {
            let lane = pools.get(path).and_then(|pool| pool.rollout.as_ref()).map(|_| name);
            tracing::warn!(
                mount = path,
                lane,
                more,
                reason,
                "a process is lost: its units go to other processes"
            );
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
        let others = |path| note.lanes.get(path).into_iter().flat_map(|lanes| lanes.others.values());
        let ready = |path, own: &MountPlaces| {
            own.ready.len() + others(path).map(|places| places.ready.len()).sum::<usize>()
        };
        own.map(|(path, places)| (path.clone(), ready(path, places) as u64)).collect()
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
