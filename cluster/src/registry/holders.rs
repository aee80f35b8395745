//! Which nodes hold rows, and which of them hold pages of a scope. Pure.
//!
//! Owns: the number of rows of each holder, and the search for the nodes that a message is sent to. Never: pages.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::view::View;
use crate::id::{Holder, Scope};

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

/// Maximum number of pages that are scanned to find the nodes of a scope. Above it, a request to a node without pages
/// costs less than scanning more.
const MAX_SCANNED: usize = 1024;

impl View {
    /// Returns the living nodes that hold pages of a scope, each once, ordered by number.
    pub fn holders(&self, scope: &Scope) -> Vec<Holder> {
        within(self, scope, usize::MAX)
    }

    /// Returns the nodes like [`View::holders`], but for a scope of very many pages also nodes that may hold none of
    /// them.
    pub fn candidate_holders(&self, scope: &Scope) -> Vec<Holder> {
        within(self, scope, MAX_SCANNED)
    }
}

/// Returns the holders of a scope, or all holders if the scope has more than `max_checks` pages.
fn within(view: &View, scope: &Scope, max_checks: usize) -> Vec<Holder> {
    let all = || view.held.iter().filter(|holder| view.is_alive(*holder)).collect();
    let mut holders: Vec<Holder> = match scope {
        Scope::All => all(),
        Scope::Page(address) => view.page(address.key).map(|seen| seen.holder).into_iter().collect(),
        _ => {
            let mut pages = view.pages_of(scope);
            let mut holders = Vec::new();
            for (_, seen) in pages.by_ref().take(max_checks) {
                // few nodes, so that a linear search is faster than a set
                if !holders.contains(&seen.holder) {
                    holders.push(seen.holder);
                }
            }
            if pages.next().is_some() { all() } else { holders }
        }
    };
    holders.sort_unstable();
    holders
}
