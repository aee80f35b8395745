//! Which process serves a unit. Pure.
//!
//! Owns: the decision, which is the same at every node that sees the same processes. Never: what a unit is (`unit`).
//!
//! Each place of a mount at each node has a weight for a unit, and the highest weight of the places with a process that is
//! ready wins (rendezvous hashing). So no row is written for a unit, and a place that is lost moves only its own units, which
//! come back when its next process is ready.

use pagewire_cluster::id::NodeNumber;
use pagewire_cluster::lease::MountPlaces;

use super::unit::Unit;

/// A place for a process of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: NodeNumber,
    pub(super) number: u32,
}

/// The place that serves a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlacedUnit {
    pub(super) place: Place,
    /// Whether the unit belongs to another place, which has no process that is ready.
    pub(super) is_displaced: bool,
}

/// Returns the place that serves a unit; `None` when no process is ready. The node of a unit comes before other ones.
pub(super) fn placement(unit: Unit, nodes: &[(NodeNumber, &MountPlaces)]) -> Option<PlacedUnit> {
    let is_own = |node: &NodeNumber| unit.node == Some(*node);
    let ready = |own: bool| {
        let nodes = nodes.iter().filter(move |(node, _)| !own || is_own(node));
        best(unit, nodes.flat_map(|(node, places)| places.ready.iter().map(|&number| (*node, number))))
    };
    let place = ready(true).or_else(|| ready(false))?;
    let all = nodes.iter().filter(|(node, _)| !is_own(&place.node) || is_own(node));
    let home = best(unit, all.flat_map(|(node, places)| (0..places.count).map(|number| (*node, number))));
    Some(PlacedUnit { place, is_displaced: home != Some(place) })
}

fn best(unit: Unit, places: impl Iterator<Item = (NodeNumber, u32)>) -> Option<Place> {
    let places = places.map(|(node, number)| Place { node, number });
    places.max_by_key(|place| (weight(unit, *place), place.node, place.number))
}

/// Returns the weight of a place for a unit. The key of a unit is a hash, so its bits need only be mixed with the place.
fn weight(unit: Unit, place: Place) -> u64 {
    let Place { node, number } = place;
    let place = (u64::from(node.get()) << 32) | u64::from(number);
    let key = unit.key.bits();
    mixed((key as u64) ^ mixed((key >> 64) as u64 ^ mixed(place)))
}

/// Spreads each bit over all bits (the finalizer of SplitMix64).
const fn mixed(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pagewire_cluster::id::Key;
    use proptest::prelude::*;

    use super::*;

    fn node(number: u16) -> NodeNumber {
        NodeNumber::new(number).unwrap()
    }

    fn placed(unit: Unit, nodes: &[(NodeNumber, MountPlaces)]) -> Option<PlacedUnit> {
        placement(unit, &nodes.iter().map(|(node, places)| (*node, places)).collect::<Vec<_>>())
    }

    fn unit(bits: u128) -> Unit {
        // as in a request, the key is spread over all bits
        let key = u128::from(mixed(bits as u64)) << 64 | u128::from(mixed(!bits as u64));
        Unit::of(Key::from_bits(key))
    }

    fn cluster(nodes: &[(u16, &[u32])]) -> Vec<(NodeNumber, MountPlaces)> {
        let places =
            |ready: &[u32]| MountPlaces { count: 2, ready: ready.to_vec(), ..MountPlaces::default() };
        nodes.iter().map(|(number, ready)| (node(*number), places(ready))).collect()
    }

    #[test]
    fn units_are_spread_evenly_over_all_processes_of_all_nodes() {
        let nodes = cluster(&[(1, &[0, 1]), (2, &[0, 1])]);
        let mut counts = BTreeMap::new();
        for number in 0..10_000 {
            let place = placed(unit(number), &nodes).unwrap().place;
            *counts.entry((place.node, place.number)).or_insert(0) += 1;
        }
        assert!(counts.len() == 4 && counts.values().all(|count| (2300..2700).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_node_of_a_page_comes_first_as_long_as_it_has_a_process() {
        let nodes = cluster(&[(1, &[0, 1]), (2, &[1])]);
        for number in 0..100 {
            let paged = Unit { node: Some(node(2)), ..unit(number) };
            assert_eq!(placed(paged, &nodes).unwrap().place, Place { node: node(2), number: 1 });
            let gone = Unit { node: Some(node(9)), ..unit(number) };
            assert_eq!(placed(gone, &nodes).map(|found| found.place), {
                placed(unit(number), &nodes).map(|found| found.place)
            });
        }
        assert_eq!(placed(unit(1), &cluster(&[(1, &[]), (2, &[])])), None);
    }

    proptest! {
        #[test]
        fn a_lost_place_moves_only_its_own_units_and_gets_them_back(bits: u128, lost_node in 1u16..3, lost in 0u32..2) {
            let all = cluster(&[(1, &[0, 1]), (2, &[0, 1])]);
            let mut without = all.clone();
            without[usize::from(lost_node) - 1].1.ready.retain(|number| *number != lost);
            let before = placed(unit(bits), &all).unwrap();
            let after = placed(unit(bits), &without).unwrap();
            prop_assert!(!before.is_displaced);
            let is_lost = before.place == Place { node: node(lost_node), number: lost };
            prop_assert_eq!(is_lost, after.is_displaced);
            prop_assert_eq!(is_lost, after.place != before.place);
        }

        #[test]
        fn a_node_that_joins_takes_units_and_moves_no_unit_between_others(bits: u128) {
            let before = placed(unit(bits), &cluster(&[(1, &[0, 1]), (2, &[0, 1])])).unwrap().place;
            let after = placed(unit(bits), &cluster(&[(1, &[0, 1]), (2, &[0, 1]), (3, &[0, 1])])).unwrap().place;
            prop_assert!(after == before || after.node == node(3));
        }
    }
}
