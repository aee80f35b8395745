//! The watches of a page on state trees.

use pagewire_cluster::id::Level;
use pagewire_cluster::state::Path;

use super::{HoldState, Page};
use crate::pages::state_watch::{MAX_WATCHES, PageWatch};
use crate::protocol::FrameBody;

impl Page {
    /// Adds or replaces a watch; `false` when the page has the maximum number of watches.
    pub(in crate::pages) fn watch(&self, watch: PageWatch) -> bool {
        let watches = &mut self.lock().watches;
        match watches.iter().position(|w| w.level == watch.level && w.path == watch.path) {
            Some(place) => watches[place] = watch,
            None if watches.len() == MAX_WATCHES => return false,
            None => watches.push(watch),
        }
        true
    }

    pub(in crate::pages) fn unwatch(&self, level: Level, path: &Path) {
        self.lock().watches.retain(|watch| watch.level != level || watch.path != *path);
    }

    pub(in crate::pages) fn unwatch_all(&self) {
        self.lock().watches = Vec::new();
    }

    /// The watches of the page.
    pub fn watches(&self) -> Vec<PageWatch> {
        self.lock().watches.clone()
    }

    /// Delivers an update of a watched path. A page that has moved to another node gets the update there.
    pub(in crate::pages) fn deliver_update(
        &self,
        level: Level,
        path: &Path,
        revision: Option<u64>,
        tail: &FrameBody,
    ) {
        let mut state = self.lock();
        if matches!(state.holding, HoldState::Frozen(_) | HoldState::Installing) {
            return;
        }
        let watch = state.watches.iter_mut().find(|watch| watch.level == level && watch.path == *path);
        let Some(watch) = watch else { return };
        watch.revision = revision.unwrap_or(watch.revision);
        drop(state);
        self.push(tail);
    }
}
