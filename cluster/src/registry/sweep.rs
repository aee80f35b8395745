//! The removal of the rows of dead nodes.
//!
//! Owns: the order for many pages: the idle rows of all of them, each once, then their own rows. Never: when it runs.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt;
use futures_util::stream;

use super::Registry;
use super::idle::{Expirable, IdleState, PageRemoval};
use crate::engine::{Precondition, WriteError};
use crate::subject::page_key;

/// Rows of dead nodes that are deleted concurrently.
const SWEEPERS: usize = 16;

/// Removes the rows of dead pages and returns how many.
pub(super) async fn sweep(registry: &Registry) -> usize {
    let dead: Vec<PageRemoval> = registry.view().dead().into_iter().map(PageRemoval::of_dead).collect();
    let of: HashMap<Expirable, PageRemoval> =
        dead.iter().flat_map(|page| page.expirable().into_iter().map(|of| (of, page.clone()))).collect();
    let idle = stream::iter(of).map(async |(of, leaving)| {
        let seen = registry.view().idle.states(&[of]);
        let mut created = None;
        for state in registry.idle_writer().current(seen).await.ok()? {
            created = registry.idle_writer().write(&leaving, state).await.ok()?;
        }
        Some((of, created))
    });
    let idle = idle.buffer_unordered(SWEEPERS).filter_map(std::future::ready);
    let idle: HashMap<Expirable, Option<IdleState>> = idle.collect().await;
    // the others wait for the next sweep
    let safe = dead.into_iter().filter(|page| page.expirable().iter().all(|of| idle.contains_key(of)));
    let swept = stream::iter(safe).map(async |page| {
        let removed = registry.rows.delete(&page_key::page(page.page), Precondition::Rev(page.rev)).await;
        (page, removed)
    });
    let swept: Vec<_> = swept.buffer_unordered(SWEEPERS).collect().await;
    let is_gone = |removed: &Result<(), WriteError>| matches!(removed, Err(WriteError::Conflict { .. }));
    let had_row = swept.iter().filter(|(_, removed)| !is_gone(removed));
    let had_row: HashSet<Expirable> = had_row.flat_map(|(page, _)| page.expirable()).collect();
    for (_, created) in idle.iter().filter(|(of, _)| !had_row.contains(of)) {
        if let Some(created) = *created {
            registry.idle_writer().take_back(created).await;
        }
    }
    swept.iter().filter(|(_, removed)| removed.is_ok()).count()
}
