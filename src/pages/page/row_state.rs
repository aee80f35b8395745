//! The newest row of a page that this node knows, and the rows that this node has tried to write. Pure.
//!
//! Owns: which of two rows is newer, and which generation of the page's token the client has. Never: writing a row.

use std::sync::Arc;

/// The state of a page that its row depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pages) struct RowVersion {
    /// The row's revision.
    pub(in crate::pages) rev: u64,
    /// The generation in the row.
    pub(in crate::pages) generation: u32,
    /// The newest generation with a token that a socket of this node received. A write with a lost result may have left
    /// a row of a later generation; no client has its token.
    pub(in crate::pages) issued: u32,
    /// Whether the client is known to have that token, because the present socket has sent a frame.
    pub(in crate::pages) confirmed: bool,
    /// The page's user; absent for anonymous.
    pub(in crate::pages) user: Option<Arc<str>>,
    /// The page's topics.
    pub(in crate::pages) topics: Vec<Arc<str>>,
}

/// The newest known row of a page.
#[derive(Debug)]
pub(super) struct RowState {
    known: RowVersion,
    /// The newest generation that this node has tried to write for the page.
    written: u32,
}

impl RowState {
    /// A row of this node whose token no socket has received yet.
    pub(super) fn new(rev: u64, generation: u32, user: Option<Arc<str>>, topics: Vec<Arc<str>>) -> Self {
        let (issued, confirmed) = (generation.saturating_sub(1), false);
        Self { known: RowVersion { rev, generation, issued, confirmed, user, topics }, written: generation }
    }

    pub(super) fn known(&self) -> &RowVersion {
        &self.known
    }

    /// Records a row that was written; `false` when a later one is already known.
    pub(super) fn record(&mut self, rev: u64, generation: u32, user: Option<Arc<str>>) -> bool {
        let newer = self.known.rev < rev;
        if newer {
            (self.known.rev, self.known.generation, self.known.user) = (rev, generation, user);
            self.written = self.written.max(generation);
        }
        newer
    }

    /// Records that a row of this generation is about to be written.
    pub(super) fn will_write(&mut self, generation: u32) {
        self.written = self.written.max(generation);
    }

    /// Whether a row of this node with this generation may be the page's own.
    pub(super) fn has_written(&self, generation: u32) -> bool {
        (self.known.generation..=self.written).contains(&generation)
    }

    /// Records that a socket receives the token of the present generation. Returns that generation.
    pub(super) fn give_token(&mut self) -> u32 {
        (self.known.issued, self.known.confirmed) = (self.known.generation, false);
        self.known.generation
    }

    /// Records that the client has the newest token.
    pub(super) fn confirm(&mut self) {
        self.known.confirmed = true;
    }

    pub(super) fn set_topics(&mut self, topics: Vec<Arc<str>>) {
        self.known.topics = topics;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> RowState {
        RowState::new(5, 3, None, Vec::new())
    }

    #[test]
    fn an_older_row_changes_nothing() {
        let mut row = row();
        assert!(row.record(7, 4, Some("ann".into())));
        assert!(!row.record(6, 9, None) && !row.record(7, 9, None));
        assert_eq!(
            (row.known().rev, row.known().generation, row.known().user.as_deref()),
            (7, 4, Some("ann"))
        );
    }

    #[test]
    fn a_row_is_the_pages_own_from_the_known_generation_to_the_last_attempt() {
        let mut row = row();
        row.will_write(5);
        let own: Vec<u32> = (0..9).filter(|generation| row.has_written(*generation)).collect();
        assert_eq!(own, [3, 4, 5]);
        row.record(8, 5, None);
        assert!(!row.has_written(4), "an earlier generation cannot come back");
    }

    #[test]
    fn a_later_row_without_a_socket_gives_no_token() {
        let mut row = row();
        assert_eq!((row.known().issued, row.known().confirmed), (2, false));
        assert_eq!(row.give_token(), 3);
        row.confirm();
        row.record(6, 4, None);
        assert_eq!((row.known().issued, row.known().confirmed), (3, true));
        row.give_token();
        assert_eq!((row.known().issued, row.known().confirmed), (4, false));
    }
}
