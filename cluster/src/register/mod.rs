//! Registers: what a legacy application keeps of its users, connections and pages.
//!
//! Owns: the bucket `register`: items with fields and data, the index of fields that each process keeps, the log of what is
//! published to pages, and how far each page has taken it. Never: permissions; only processes of an
//! application reach a register, pages and the server API do not.
//!
//! An [`Item`] is one row. Its fields are the meta of the row, so a watch without values keeps the index of all items
//! (`index`); its data is the value, which only the reader of the item receives. A change ([`ItemEdit`]) is applied to
//! the present item and written by compare-and-set, again after each conflict.
//!
//! What is published is one row per message in the log, which expires. Each process watches the log and finds the entries of a
//! page by the fields of its item ([`Recipients`]). A page has one cursor, which is a row: the process that moves it has
//! taken the entries before it, so that an entry is taken once over all processes.
//!
//! Pure: `name` `item` `edit` `index` `entry` `log` `view` `plan`. Shells: `rows`, `items`, `cursors`, `taking`, `news`, `transfer`,
//! `page_state`, `registers`.

mod cursors;
mod edit;
mod entry;
mod error;
mod index;
mod item;
mod items;
mod log;
mod name;
mod news;
mod page_state;
mod plan;
mod recent;
mod registers;
mod rows;
mod taking;
#[cfg(test)]
mod tests;
mod transfer;
mod view;

pub use edit::{Creation, ItemEdit};
pub use entry::{LogEntry, Publication, Recipients};
pub use error::RegisterError;
pub use index::{IndexedItem, ItemFilter};
pub use item::{Data, Fields, Item, ItemVersion};
pub use name::{ItemKey, ItemLevel, RegisterName};
pub use news::PageNews;
pub use page_state::PageState;
pub use plan::{Relabel, Removal};
pub use registers::{Register, Registers};
pub use taking::Taken;
pub use transfer::items_after;

/// Maximum size of the fields of an item as JSON, in bytes.
pub const MAX_FIELDS: usize = 3 * 1024;
/// Maximum size of the data of an item as JSON, in bytes.
pub const MAX_DATA: usize = 400 * 1024;
/// Maximum size of one published message, in bytes.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// Maximum number of edits, or of publications, in one request.
pub const MAX_PARTS: usize = 100;
/// Maximum number of pages that one publication names.
pub const MAX_NAMED_PAGES: usize = 5000;
/// Maximum number of entries of the log that a process keeps.
pub const MAX_ENTRIES: usize = 20_000;
/// Maximum number of items in one answer of a list.
pub const MAX_LISTED: usize = 10_000;
