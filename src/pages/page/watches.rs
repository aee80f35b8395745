//! The watches of a page on state trees. Pure.
//!
//! Owns: the list of watches and the last revision that the page got of each. Never: the delivery of an update.

use pagewire_cluster::id::Level;
use pagewire_cluster::state::Path;
use pagewire_cluster::wire::WatchedPath;

/// The maximum number of paths that a page watches.
const MAX_WATCHES: usize = 64;

/// A path of a tree that a page watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageWatch {
    /// The level of the tree: the page itself, or its session, connection or user.
    pub level: Level,
    /// The path in the tree; empty for the whole tree.
    pub path: Path,
    /// The last revision that was sent to the page.
    pub(in crate::pages) revision: u64,
}

impl PageWatch {
    /// A watch without a delivered update.
    pub fn new(level: Level, path: Path) -> Self {
        Self { level, path, revision: 0 }
    }

    /// The wire form, for a page that moves to another node.
    pub(super) fn to_wire(&self) -> WatchedPath {
        let (level, path) = (self.level.name().to_owned(), self.path.to_string());
        WatchedPath { level, path, revision: self.revision }
    }

    /// The watch in a wire form; `None` for a level or path that this release does not know.
    pub(super) fn from_wire(watched: &WatchedPath) -> Option<Self> {
        let level = Level::ALL.into_iter().find(|level| level.name() == watched.level)?;
        Some(Self { level, path: watched.path.parse().ok()?, revision: watched.revision })
    }
}

/// The watches of one page.
#[derive(Debug, Default)]
pub(super) struct PageWatches(Vec<PageWatch>);

impl PageWatches {
    /// Adds or replaces a watch; `false` when the page has the maximum number of watches.
    pub(super) fn add(&mut self, watch: PageWatch) -> bool {
        match self.0.iter().position(|known| known.level == watch.level && known.path == watch.path) {
            Some(place) => self.0[place] = watch,
            None if self.0.len() == MAX_WATCHES => return false,
            None => self.0.push(watch),
        }
        true
    }

    pub(super) fn remove(&mut self, level: Level, path: &Path) {
        self.0.retain(|watch| watch.level != level || watch.path != *path);
    }

    pub(super) fn list(&self) -> &[PageWatch] {
        &self.0
    }

    /// Records that the page gets an update of a path; `false` when it does not watch the path.
    pub(super) fn advance(&mut self, level: Level, path: &Path, revision: Option<u64>) -> bool {
        let Some(watch) = self.0.iter_mut().find(|watch| watch.level == level && watch.path == *path) else {
            return false;
        };
        watch.revision = revision.unwrap_or(watch.revision);
        true
    }
}

impl From<Vec<PageWatch>> for PageWatches {
    fn from(watches: Vec<PageWatch>) -> Self {
        Self(watches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> Path {
        format!("p{number}").parse().unwrap()
    }

    #[test]
    fn a_path_is_watched_once_and_a_page_watches_a_limited_number() {
        let mut watches = PageWatches::default();
        for number in 0..MAX_WATCHES {
            assert!(watches.add(PageWatch::new(Level::Page, path(number))));
        }
        assert!(watches.add(PageWatch::new(Level::Page, path(0))), "known: replaced");
        assert!(!watches.add(PageWatch::new(Level::Session, path(0))), "another level is another watch");
        watches.remove(Level::Page, &path(0));
        assert!(watches.add(PageWatch::new(Level::Session, path(0))));
    }

    #[test]
    fn a_watch_remembers_the_last_revision_and_a_removal_has_none() {
        let mut watches = PageWatches::default();
        watches.add(PageWatch::new(Level::Page, path(1)));
        assert!(watches.advance(Level::Page, &path(1), Some(7)));
        assert!(watches.advance(Level::Page, &path(1), None));
        assert!(!watches.advance(Level::User, &path(1), Some(9)));
        assert_eq!(watches.list()[0].revision, 7);
    }
}
