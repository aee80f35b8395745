//! How a handler is asked to stop.

use tokio::sync::watch;

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The job is cancelled.
    Cancelled,
    /// The worker shuts down.
    Drain,
}

/// Asks a handler to stop. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Option<watch::Receiver<Option<StopReason>>>);

impl StopSignal {
    /// Creates a signal and its sender.
    pub fn new() -> (watch::Sender<Option<StopReason>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(Some(receiver)))
    }

    /// Resolves when the handler is asked to stop.
    pub async fn requested(&mut self) -> StopReason {
        if let Some(signal) = &mut self.0
            && let Ok(reason) = signal.wait_for(Option::is_some).await
            && let Some(reason) = *reason
        {
            return reason;
        }
        std::future::pending().await
    }
}
