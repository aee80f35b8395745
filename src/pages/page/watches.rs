//! The watches of a page on state trees. Pure.
//!
//! Owns: the list of watches and the last revision that the page got of each. Never: the delivery of an update.

use pagewire_cluster::id::Level;
use pagewire_cluster::state::Path;

use crate::pages::state_watch::{MAX_WATCHES, PageWatch};

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
