//! Whether a node can take traffic.
//!
//! Owns: a set of named latches; a node is ready while every latch is open. Never: the condition behind a latch, which
//! the part that holds the latch decides.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The latches of one node. Cheap to clone; all clones share the latches.
#[derive(Clone)]
pub struct Readiness(Arc<watch::Sender<BTreeMap<LatchName, bool>>>);

/// The name of a latch. The latches of pools are the last ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum LatchName {
    /// A part without which the node serves nothing.
    Part(&'static str),
    /// A pool. The node serves everything else without it.
    Pool(String),
}

impl LatchName {
    fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Part(name) => Cow::Borrowed(name),
            Self::Pool(pool) => Cow::Owned(format!("pool {pool}")),
        }
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Readiness {
    /// A new closed latch. Its name is what `/readyz` reports while the latch is closed.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.closed(LatchName::Part(name))
    }

    /// A new closed latch of a pool, which `/readyz` reports as `pool NAME`. The node serves while it is closed.
    pub fn pool_latch(&self, pool: &str) -> Latch {
        self.closed(LatchName::Pool(pool.to_owned()))
    }

    fn closed(&self, name: LatchName) -> Latch {
        self.set(&name, false);
        Latch { name, readiness: self.clone() }
    }

    /// The names of the closed latches, in alphabetical order, those of pools last; empty when the node is ready.
    pub fn missing(&self) -> Vec<Cow<'static, str>> {
        let latches = self.0.borrow();
        latches.iter().filter(|(_, open)| !**open).map(|(name, _)| name.text()).collect()
    }

    /// Returns when the node can serve: every latch is open, except those of pools.
    pub async fn wait(&self) {
        // never an error: `self` keeps the sender alive
        let _ = self.0.subscribe().wait_for(can_serve).await;
    }

    /// Returns when the node cannot serve any more.
    pub async fn lost(&self) {
        // never an error: `self` keeps the sender alive
        let _ = self.0.subscribe().wait_for(|latches| !can_serve(latches)).await;
    }

    fn set(&self, name: &LatchName, open: bool) {
        self.0.send_if_modified(|latches| latches.insert(name.clone(), open) != Some(open));
    }
}

fn can_serve(latches: &BTreeMap<LatchName, bool>) -> bool {
    latches.iter().all(|(name, open)| *open || matches!(name, LatchName::Pool(_)))
}

/// One condition of readiness, held by the part that knows it. Dropping it closes it: a part that has ended is not
/// ready.
pub struct Latch {
    name: LatchName,
    readiness: Readiness,
}

impl Latch {
    /// The condition holds, or does not hold any more.
    pub fn set(&self, open: bool) {
        self.readiness.set(&self.name, open);
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

    #[tokio::test]
    async fn a_node_serves_without_a_pool_and_names_it() {
        let readiness = Readiness::default();
        let (lease, pool) = (readiness.latch("lease"), readiness.pool_latch("mail"));
        lease.set(true);
        readiness.wait().await;
        assert_eq!(readiness.missing(), ["pool mail"]);
        pool.set(true);
        assert!(readiness.missing().is_empty());
    }
}
