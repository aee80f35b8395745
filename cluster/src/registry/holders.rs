//! Which nodes hold pages of a scope. Pure.
//!
//! Owns: the search for the nodes that a message is sent to. Never: how the view is updated.

use super::view::View;
use crate::id::{Holder, Scope};

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
