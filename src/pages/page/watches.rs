//! What a page watches of state trees.

use pagewire_cluster::state::{Level, Path};

use super::{HoldState, Page};
use crate::pages::state_watch::{MAX_WATCHES, PageWatch};
use crate::protocol::FrameBody;

impl Page {
    /// `false` when it watches as much as it may.
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

    /// What it watches.
    pub fn watches(&self) -> Vec<PageWatch> {
        self.lock().watches.clone()
    }

    /// News of a path that it watches. A page that has gone to another node is told there.
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
