//! What serves the lanes of a pool: its workers, or the processes of the mounts that have the pool.
//!
//! Owns: how many there are in each lane, and their releases. Never: the lane of a user (`pagewire_cluster::rollout`).

use pagewire_cluster::id::Key;
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
    /// Workers that accept work, and processes of mounts that are ready.
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
        if self.are_processes() { "ready processes" } else { "living workers" }
    }

    /// Returns what becomes of the work of a lane that has none, for people.
    pub(super) fn consequence(self) -> &'static str {
        match self.are_processes() {
            true => "the requests of its users are refused",
            false => "the calls of its users are refused and their jobs wait",
        }
    }

    /// Returns whether the pool is that of a mount.
    fn are_processes(self) -> bool {
        let view = self.parts.registry.view();
        let nodes = view.nodes();
        nodes.iter().any(|(_, row)| row.note.lanes.values().any(|lanes| lanes.pool == self.pool))
    }
}
