//! The processes of the mounts of a node, by mount and lane.
//!
//! Owns: which pool runs the processes of a lane, and what the node publishes about them. Never: how a process is started
//! (`roles`), or which request it gets (`lanes`).

use std::collections::BTreeMap;
use std::sync::Arc;

use pagewire_cluster::lease::{MountLanes, MountPlaces};
use pagewire_worker::runtime::child::pool::ChildPool;

/// The processes of the mounts, by the path of the mount.
pub(crate) type MountPools = BTreeMap<String, MountPool>;

/// The processes of a mount.
#[derive(Clone)]
pub(crate) struct MountPool {
    /// Those of the mount itself.
    pub(crate) own: LanePool,
    /// Those of its other lanes, by name.
    pub(crate) others: BTreeMap<String, LanePool>,
    /// The pool of the rollout that decides the lane of a request; `None` for a mount without lanes.
    pub(crate) rollout: Option<String>,
    /// The name of the lane that is the mount itself.
    pub(crate) own_lane: &'static str,
}

/// The processes of one lane of a mount.
#[derive(Clone)]
pub(crate) struct LanePool {
    /// The name of the child processes.
    pub(crate) name: String,
    pub(crate) release: Arc<str>,
    pub(crate) children: ChildPool,
}

impl MountPool {
    /// Returns the pools with the name of their lane, the mount itself first.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (&str, &LanePool)> {
        let others = self.others.iter().map(|(name, lane)| (name.as_str(), lane));
        std::iter::once((self.own_lane, &self.own)).chain(others)
    }

    /// Returns the places of the mount itself.
    pub(crate) fn own_places(&self) -> MountPlaces {
        match self.rollout {
            Some(_) => self.own.places(),
            // other nodes need no release of a mount without lanes
            None => MountPlaces { release: String::new(), ..self.own.places() },
        }
    }

    /// Returns the lanes with the places of the other ones; `None` for a mount without lanes.
    pub(crate) fn other_places(&self) -> Option<MountLanes> {
        let others = self.others.iter().map(|(name, lane)| (name.clone(), lane.places()));
        let (pool, own) = (self.rollout.clone()?, self.own_lane.to_owned());
        Some(MountLanes { pool, own, others: others.collect() })
    }
}

impl LanePool {
    /// Returns the places for processes at this node.
    pub(crate) fn places(&self) -> MountPlaces {
        MountPlaces {
            count: self.children.place_count(),
            ready: self.children.http_places().borrow().clone(),
            release: self.release.to_string(),
        }
    }
}
