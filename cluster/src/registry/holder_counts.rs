//! Which nodes hold rows. Pure.
//!
//! Owns: the number of rows of each holder, living or not. Never: the rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::id::Holder;

/// Number of rows of each holder.
#[derive(Debug, Default)]
pub(super) struct HolderCounts(HashMap<Holder, usize>);

impl HolderCounts {
    pub(super) fn add(&mut self, holder: Holder) {
        *self.0.entry(holder).or_default() += 1;
    }

    pub(super) fn remove(&mut self, holder: Holder) {
        if let Entry::Occupied(mut count) = self.0.entry(holder) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    pub(super) fn contains(&self, holder: Holder) -> bool {
        self.0.contains_key(&holder)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Holder> {
        self.0.keys().copied()
    }
}
