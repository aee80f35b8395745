//! What serves the lanes of a pool: its workers, the processes of the mounts that have the pool, or the nodes themselves for
//! the pool of pages.
//!
//! Owns: how many there are in each lane, and their releases. Never: the lane of a user (`pagewire_cluster::rollout`).

use std::collections::BTreeSet;

use pagewire_cluster::id::Key;
use pagewire_cluster::rollout::EDGE;
use pagewire_cluster::worker::{WorkerGroup, WorkerRow};

use super::super::ApiState;

/// What serves the lanes of one pool.
#[derive(Clone, Copy)]
pub(super) struct LaneServers<'a> {
    parts: &'a ApiState,
    pool: &'a str,
}

/// What serves one lane.
pub(super) struct LaneService {
    /// Workers that accept work, processes of mounts that are ready, or nodes that accept pages.
    pub(super) count: usize,
    /// Their releases, the newest worker's first.
    pub(super) releases: Vec<String>,
}

impl<'a> LaneServers<'a> {
    pub(super) const fn new(parts: &'a ApiState, pool: &'a str) -> Self {
        Self { parts, pool }
    }

    /// Returns what serves a lane; `is_base` is whether it is the base of the pool.
    pub(super) fn of_lane(self, lane: &str, is_base: bool) -> LaneService {
        if self.pool == EDGE {
            return self.nodes_of(lane);
        }
        let group = WorkerGroup::new(self.pool, lane);
        let mut served = {
            let roster = self.parts.context.workers.roster();
            let (count, releases) = roster.available_releases(&group);
            LaneService { count, releases: releases.into_iter().map(str::to_owned).collect() }
        };
        let view = self.parts.registry.view();
        for (_, row) in view.nodes() {
            for places in row.note.places_in_pool(self.pool, lane, is_base) {
                served.count += places.ready.len();
                if !(places.ready.is_empty() || served.releases.contains(&places.release)) {
                    served.releases.push(places.release.clone());
                }
            }
        }
        served
    }

    fn nodes_of(self, lane: &str) -> LaneService {
        let view = self.parts.registry.view();
        let nodes = view.nodes().into_iter().map(|(_, row)| row);
        let own = nodes.filter(|row| row.lane == lane && !row.note.draining);
        let releases: BTreeSet<_> = own.clone().map(|row| row.release.clone()).collect();
        LaneService { count: own.count(), releases: releases.into_iter().collect() }
    }

    /// Returns the row of a worker of the pool.
    pub(super) fn worker(self, worker: Key) -> Option<WorkerRow> {
        self.parts.context.workers.roster().row(worker).cloned()
    }

    /// Returns whether a lane beside the base is served.
    pub(super) fn serve(self, lane: &str) -> bool {
        self.of_lane(lane, false).count > 0
    }

    /// Returns what a lane lacks that has none, for people.
    pub(super) fn lacking(self) -> &'static str {
        match self.kind() {
            ServerKind::Workers => "living workers",
            ServerKind::Processes => "ready processes",
            ServerKind::Nodes => "living nodes",
        }
    }

    /// Returns what becomes of the work of a lane that has none, for people.
    pub(super) fn consequence(self) -> &'static str {
        match self.kind() {
            ServerKind::Workers => "the calls of its users are refused and their jobs wait",
            ServerKind::Processes => "the requests of its users are refused",
            ServerKind::Nodes => "their pages are opened where they arrive",
        }
    }

    fn kind(self) -> ServerKind {
        if self.pool == EDGE {
            return ServerKind::Nodes;
        }
        let view = self.parts.registry.view();
        let nodes = view.nodes();
        let is_of_mount =
            nodes.iter().any(|(_, row)| row.note.lanes.values().any(|lanes| lanes.pool == self.pool));
        if is_of_mount { ServerKind::Processes } else { ServerKind::Workers }
    }
}

/// What serves a pool.
enum ServerKind {
    Workers,
    /// Processes of mounts.
    Processes,
    /// The nodes themselves, which hold the pages.
    Nodes,
}
