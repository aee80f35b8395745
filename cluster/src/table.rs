//! Hash tables that give memory back.
//!
//! Owns: when a table that has lost most of its entries becomes smaller. A table of the standard library keeps the memory
//! of its largest size for ever, so whatever grows with a crowd calls this where it removes entries.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// Below this capacity a table is left alone.
const SMALL: usize = 1024;
/// A table shrinks when this many places stand against each entry.
const SPARSE: usize = 8;

/// Makes a table smaller after a removal, when it has become sparse. Room for as many entries again stays. Moving `n`
/// entries takes at least 3 `n` removals or insertions before it happens again, so a removal stays cheap on average.
pub fn shrink<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > SMALL && table.len() * SPARSE < table.capacity() {
        table.shrink_to((table.len() * 2).max(SMALL / 2));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the order, what is in it stays, and no more than a few places stand against each entry.
        #[test]
        fn a_table_follows_its_entries_and_keeps_each(steps in prop::collection::vec((0u32..5_000, 0u32..5_000), 1..6)) {
            let mut table = HashMap::new();
            for (most, least) in steps {
                table.extend((0..most).map(|n| (n, n)));
                for n in (least.min(most)..most).rev() {
                    table.remove(&n);
                    shrink(&mut table);
                    prop_assert!(table.capacity() <= SMALL.max(table.len() * SPARSE));
                }
                prop_assert!((0..least.min(most)).all(|n| table.get(&n) == Some(&n)));
            }
        }
    }

    #[test]
    fn entries_are_seldom_moved() {
        let mut table: HashMap<u32, ()> = (0..100_000).map(|n| (n, ())).collect();
        let mut moves = 0;
        for n in 0..100_000 {
            table.remove(&n);
            let before = table.capacity();
            shrink(&mut table);
            moves += if table.capacity() == before { 0 } else { table.len() };
        }
        assert!(moves < 50_000, "{moves}");
    }
}
