//! Decides which of two nodes delivers a scoped message while a page migrates between them.
//!
//! Both nodes have a copy of such a page. The row that moved it divides the senders: a sender that has not seen this
//! row counts the page at the old node, every other sender at the new one. Each node decides by itself, and exactly one
//! takes the message.

/// The revisions of the rows that brought a page here and took it away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OwnershipWindow {
    /// `None` when no other node can have a copy.
    acquired: Option<u64>,
    released: Option<u64>,
}

impl OwnershipWindow {
    /// A window for a page from a node that may still take messages for it.
    pub(super) const fn since(acquired: Option<u64>) -> Self {
        Self { acquired, released: None }
    }

    /// Ends the window, because the page belongs to another node. Only the first call has an effect.
    pub(super) fn end(&mut self, released: u64) {
        self.released.get_or_insert(released);
    }

    /// Whether a sender with all rows up to `seen` counts the page here; `None` means that the sender has seen all
    /// rows.
    pub(super) fn counts(self, seen: Option<u64>) -> bool {
        let has_seen = |row: u64| seen.is_none_or(|seen| seen >= row);
        self.acquired.is_none_or(has_seen) && !self.released.is_some_and(has_seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sender_counts_a_page_at_exactly_one_of_its_nodes() {
        let mut nodes =
            [OwnershipWindow::default(), OwnershipWindow::since(Some(10)), OwnershipWindow::since(Some(20))];
        nodes[0].end(10);
        nodes[1].end(20);
        nodes[1].end(21);
        for (seen, at) in [(9, 0), (10, 1), (19, 1), (20, 2), (99, 2)] {
            let counted: Vec<_> = (0..3).filter(|node| nodes[*node].counts(Some(seen))).collect();
            assert_eq!(counted, [at], "{seen}");
        }
        assert!(nodes[2].counts(None) && !nodes[1].counts(None));
    }
}
