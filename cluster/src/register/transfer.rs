//! Items on their way from one register to another one.
//!
//! Owns: reading all items of a level in parts. Never: data, which only the application reads.

use super::index::IndexedItem;
use super::registers::Register;
use super::{ItemFilter, ItemLevel};

/// Returns items of a level in the order of their ids, those behind an id, at most `limit`.
pub fn items_after(
    register: &Register,
    level: ItemLevel,
    after: Option<&str>,
    limit: usize,
) -> Vec<IndexedItem> {
    let all = register.view(|view| view.index.list(level, &ItemFilter::default(), usize::MAX));
    all.into_iter().filter(|item| after.is_none_or(|after| &*item.key.id > after)).take(limit).collect()
}
