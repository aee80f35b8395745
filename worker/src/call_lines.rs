//! Calls that run one after the other.
//!
//! Owns: who is next among the calls of one user or page of a serial handler. Never: slots; a call that waits here has
//! none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The most calls of one line, the one that runs included. Further calls are refused at once.
pub(crate) const MAX_LINE: usize = 64;

/// The calls that share a line: the name of their handler, and their user or page.
pub(crate) type LineKey = (String, String);

type TurnLock = Arc<tokio::sync::Mutex<()>>;

/// The lines of a worker. A line without calls takes no memory. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallLines(Arc<Mutex<HashMap<LineKey, Line>>>);

#[derive(Debug, Default)]
struct Line {
    calls: usize,
    turn: TurnLock,
}

/// A place in a line, until this is dropped.
#[derive(Debug)]
pub(crate) struct LinePlace {
    lines: CallLines,
    key: LineKey,
    turn: TurnLock,
}

impl CallLines {
    fn lines(&self) -> MutexGuard<'_, HashMap<LineKey, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a line. Returns `None` when it is full.
    pub(crate) fn enter(&self, key: LineKey) -> Option<LinePlace> {
        let mut lines = self.lines();
        let line = lines.entry(key.clone()).or_default();
        if line.calls >= MAX_LINE {
            return None;
        }
        line.calls += 1;
        Some(LinePlace { lines: self.clone(), key, turn: line.turn.clone() })
    }
}

impl LinePlace {
    /// Returns the turn if no call is before this one.
    pub(crate) fn try_turn(&self) -> Option<OwnedMutexGuard<()>> {
        self.turn.clone().try_lock_owned().ok()
    }

    /// Waits for the turn, in the order in which calls began to wait.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }
}

impl Drop for LinePlace {
    fn drop(&mut self) {
        let mut lines = self.lines.lines();
        if let Some(line) = lines.get_mut(&self.key) {
            line.calls -= 1;
            if line.calls == 0 {
                lines.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn key(user: &str) -> LineKey {
        ("report".to_owned(), user.to_owned())
    }

    #[tokio::test]
    async fn a_line_is_bounded_in_order_and_leaves_nothing_behind() {
        let lines = CallLines::default();
        let places: Vec<_> = std::iter::from_fn(|| lines.enter(key("ann"))).collect();
        assert_eq!(places.len(), MAX_LINE);
        assert!(lines.enter(key("bob")).is_some_and(|bob| bob.try_turn().is_some()), "a line of its own");
        let first = places[0].try_turn().expect("no call is before it");
        let (mut second, mut third) = (Box::pin(places[1].turn()), Box::pin(places[2].turn()));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "the second one is before it");
        assert!(places[3].try_turn().is_none());
        // a call that no one waits for gives its turn up
        drop(second);
        drop(third.await);
        drop(places);
        assert!(lines.lines().is_empty());
    }
}
