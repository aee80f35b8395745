//! What a handler says about its progress.
//!
//! Owns: the channel to the attempt. Never: who is told, or how often (`attempt`).

use pagewire_cluster::wire::Progress;
use tokio::sync::watch;

/// Reports the progress of a handler. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Reporter(Option<watch::Sender<Option<Progress>>>);

impl Reporter {
    /// Returns a reporter to the receiver of `progress`.
    pub(crate) const fn new(progress: watch::Sender<Option<Progress>>) -> Self {
        Self(Some(progress))
    }

    /// Returns a reporter that discards all progress.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Reports `progress` from 0 to 1. Reports that come faster than pages are notified are skipped, and a message is cut to
    /// 8 KiB.
    pub fn report(&self, progress: f64, message: Option<String>) {
        let Some(sender) = &self.0 else { return };
        let progress = if progress.is_finite() { progress.clamp(0.0, 1.0) } else { 0.0 };
        sender.send_replace(Some(Progress { progress, message }.cut()));
    }
}
