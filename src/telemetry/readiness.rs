//! Whether a node can take traffic.
//!
//! Owns: a set of named latches; a node is ready while every latch is open. Never: the condition behind a latch, which
//! the part that holds the latch decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The latches of one node. Cheap to clone; all clones share the latches.
#[derive(Clone)]
pub struct Readiness(Arc<watch::Sender<BTreeMap<&'static str, bool>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Readiness {
    /// A new closed latch. Its name is what `/readyz` reports while the latch is closed.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.set(name, false);
        Latch { name, readiness: self.clone() }
    }

    /// The names of the closed latches, in alphabetical order; empty when the node is ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let latches = self.0.borrow();
        latches.iter().filter(|(_, open)| !**open).map(|(name, _)| *name).collect()
    }

    /// Returns when every latch is open.
    pub async fn wait(&self) {
        // never an error: `self` keeps the sender alive
        let _ = self.0.subscribe().wait_for(all_open).await;
    }

    /// Returns when a latch is closed.
    pub async fn lost(&self) {
        // never an error: `self` keeps the sender alive
        let _ = self.0.subscribe().wait_for(|latches| !all_open(latches)).await;
    }

    fn set(&self, name: &'static str, open: bool) {
        self.0.send_if_modified(|latches| latches.insert(name, open) != Some(open));
    }
}

fn all_open(latches: &BTreeMap<&'static str, bool>) -> bool {
    latches.values().all(|open| *open)
}

/// One condition of readiness, held by the part that knows it. Dropping it closes it: a part that has ended is not
/// ready.
pub struct Latch {
    name: &'static str,
    readiness: Readiness,
}

impl Latch {
    /// The condition holds, or does not hold any more.
    pub fn set(&self, open: bool) {
        self.readiness.set(self.name, open);
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_ready_while_every_latch_is_open_and_names_those_that_are_not() {
        let readiness = Readiness::default();
        let (lease, view) = (readiness.latch("lease"), readiness.latch("view"));
        assert_eq!(readiness.missing(), ["lease", "view"]);
        view.set(true);
        assert_eq!(readiness.missing(), ["lease"]);
        lease.set(true);
        readiness.wait().await;
        drop(view);
        readiness.lost().await;
        assert_eq!(readiness.missing(), ["view"]);
    }
}
