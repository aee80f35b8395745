//! Readiness of a node for traffic.

use tokio::sync::watch;

/// A flag that the node sets and every clone reads. Initially not ready.
#[derive(Debug, Clone)]
pub struct Ready(watch::Sender<bool>);

impl Default for Ready {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Ready {
    /// Sets whether the node can take traffic.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// Returns whether the node can take traffic now.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the node can take traffic.
    pub async fn wait(&self) {
        // the sender is alive as long as `self` is
        let _ = self.0.subscribe().wait_for(|ready| *ready).await;
    }

    /// Waits until the node cannot take traffic.
    pub async fn lost(&self) {
        let _ = self.0.subscribe().wait_for(|ready| !*ready).await;
    }
}
