//! Whether a node can take traffic.

use tokio::sync::watch;

/// A latch that the node sets and anybody reads. Not ready at first.
#[derive(Debug, Clone)]
pub struct Ready(watch::Sender<bool>);

impl Default for Ready {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Ready {
    /// The node can take traffic, or cannot any more.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Whether it can now.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it can.
    pub async fn wait(&self) {
        // the sender is alive as long as `self` is
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }

    /// Returns when it cannot.
    pub async fn lost(&self) {
        let _ = self.0.subscribe().wait_for(|ready| !*ready).await;
    }
}
