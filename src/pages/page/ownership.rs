//! Whose a message to many pages is while a page moves.
//!
//! Two nodes have a copy of such a page. The row that moved it divides the senders: who has not seen it yet counts the
//! page at the node that it left, everybody else where it came to. Each node decides by itself, and exactly one takes
//! the message.

/// The rows that brought a page here and took it away, by their revisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OwnershipWindow {
    /// `None` when no other node can have a copy.
    came: Option<u64>,
    went: Option<u64>,
}

impl OwnershipWindow {
    /// It came from a node that may still take messages for it.
    pub(super) const fn since(came: Option<u64>) -> Self {
        Self { came, went: None }
    }

    /// It belongs to another node; the first word counts.
    pub(super) fn end(&mut self, went: u64) {
        self.went.get_or_insert(went);
    }

    /// Whether a sender that has seen every row up to this one counts the page here; `None` has seen them all.
    pub(super) fn counts(self, seen: Option<u64>) -> bool {
        let has_seen = |row: u64| seen.is_none_or(|seen| seen >= row);
        self.came.is_none_or(has_seen) && !self.went.is_some_and(has_seen)
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
