//! The content of a node's lease row.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::proto::Proto;
use crate::wire;

/// The row `lease.<pNN>` in the bucket `nodes`, stored in the entry's meta.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The epoch of the node. Absent in the claim itself, because the revision of the claim is the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The configured name. A process with the same name may take the number over at once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The lane of the node.
    pub lane: String,
    /// The release of the node.
    pub release: String,
    /// The address at which browsers reach the node.
    pub advertise: String,
    /// The wire versions that the node supports.
    #[serde(default)]
    pub proto: Proto,
    /// How far its wall clock is ahead of the cluster's, in milliseconds; absent in the first write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_ms: Option<i64>,
    /// It counts the sockets that break, by which lanes of nodes are compared; absent for a node of a release before that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts_closes: bool,
    /// The part that changes while the node runs.
    #[serde(flatten)]
    pub note: NodeNote,
}

/// The part of a node's row that changes while the node runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNote {
    /// It takes no new pages, and its pages leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The address at which other nodes reach its processes, as `host:port`; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub internal: String,
    /// The processes of its mounts, by the path of the mount.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mounts: BTreeMap<String, MountPlaces>,
    /// The lanes of its mounts, by the path of the mount. The places of a mount itself are in `mounts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lanes: BTreeMap<String, MountLanes>,
}

/// The places for processes of a mount at one node. A process that is replaced has the place of the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlaces {
    /// The number of places. They are numbered from 0.
    pub count: u32,
    /// The places with a process that is ready, in order.
    pub ready: Vec<u32>,
    /// The release that the processes run; empty for a mount without lanes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
}

/// The lanes of a mount at one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountLanes {
    /// The pool of the rollout that decides the lane of a request.
    pub pool: String,
    /// The name of the lane that is the mount itself.
    pub own: String,
    /// The places of the other lanes, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, MountPlaces>,
}

impl NodeNote {
    /// Returns the places of a lane of a mount. The mount itself is also the base lane of a rollout, unless another lane
    /// has that name; `is_base` is whether `lane` is the base.
    pub fn places(&self, mount: &str, lane: &str, is_base: bool) -> Option<&MountPlaces> {
        let own = self.mounts.get(mount)?;
        match self.lanes.get(mount) {
            Some(lanes) => lanes.others.get(lane).or_else(|| (is_base || lanes.own == lane).then_some(own)),
            None => is_base.then_some(own),
        }
    }

    /// Returns the places of a lane of a pool, in each of its mounts.
    pub fn places_in_pool<'a>(
        &'a self,
        pool: &str,
        lane: &str,
        is_base: bool,
    ) -> impl Iterator<Item = &'a MountPlaces> {
        let mounts = self.lanes.iter().filter(move |(_, lanes)| lanes.pool == pool);
        mounts.filter_map(move |(mount, _)| self.places(mount, lane, is_base))
    }
}

impl NodeRow {
    /// Returns the epoch of the row, given the revision at which it was read.
    pub fn epoch_at(&self, rev: u64) -> u64 {
        self.epoch.unwrap_or(rev)
    }

    /// Encodes the row as the meta of its entry.
    pub fn encode(&self) -> Bytes {
        wire::encode(self)
    }

    /// Returns `None` when the bytes are not a row of any known release.
    pub fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(count: u32, release: &str) -> MountPlaces {
        MountPlaces { count, ready: vec![0], release: release.to_owned() }
    }

    fn note() -> NodeNote {
        let others = [("canary".to_owned(), places(2, "2"))].into();
        let lanes = MountLanes { pool: "shop".to_owned(), own: "stable".to_owned(), others };
        NodeNote {
            mounts: [("/shop".to_owned(), places(1, "1")), ("/".to_owned(), places(4, ""))].into(),
            lanes: [("/shop".to_owned(), lanes)].into(),
            ..NodeNote::default()
        }
    }

    #[test]
    fn a_mount_is_its_own_lane_and_the_base_that_no_other_lane_is() {
        let note = note();
        let count = |mount, lane, is_base| note.places(mount, lane, is_base).map(|places| places.count);
        assert_eq!((count("/shop", "stable", true), count("/shop", "canary", false)), (Some(1), Some(2)));
        assert_eq!(count("/shop", "canary", true), Some(2), "the canary is the base after a switch");
        assert_eq!(count("/shop", "stable", false), Some(1), "and the mount itself is the lane before it");
        assert_eq!((count("/shop", "blue", true), count("/shop", "green", false)), (Some(1), None));
        assert_eq!((count("/", "stable", true), count("/", "canary", false)), (Some(4), None));
        assert_eq!(count("/other", "stable", true), None);
        let releases = |lane| {
            let places = note.places_in_pool("shop", lane, lane == "stable");
            places.map(|places| places.release.clone()).collect::<Vec<_>>()
        };
        assert_eq!((releases("stable"), releases("canary")), (vec!["1".to_owned()], vec!["2".to_owned()]));
        assert_eq!(note.places_in_pool("other", "stable", true).count(), 0);
    }

    #[test]
    fn a_row_without_lanes_is_read_and_one_with_lanes_is_read_by_a_release_that_knows_none() {
        let before = r#"{"lane":"a","release":"1","advertise":"","mounts":{"/":{"count":2,"ready":[1]}}}"#;
        let row = NodeRow::decode(before.as_bytes()).unwrap();
        assert_eq!(row.note.places("/", "stable", true).map(|places| places.count), Some(2));
        let written = serde_json::to_value(&row).unwrap();
        assert_eq!(written["mounts"]["/"], serde_json::json!({"count": 2, "ready": [1]}));
        assert!(written.get("lanes").is_none());
        let after = serde_json::to_value(NodeRow { note: note(), ..row }).unwrap();
        assert_eq!((&after["mounts"]["/shop"]["count"], &after["lane"]), (&1.into(), &"a".into()));
    }
}
