//! The commands of a page that are in progress.
//!
//! Owns: their number, and the wait for their end when the page leaves. Never: what a command does.

use std::sync::Arc;

use super::Page;
use super::socket::AttachmentId;

/// A command of a counted frame. Dropping it ends the command.
pub struct RunningCommand(Arc<Page>);

impl RunningCommand {
    /// Counts a frame, whose command begins; `None` when another socket holds the page and the frame must be ignored.
    pub fn begin(page: &Arc<Page>, ticket: AttachmentId) -> Option<Self> {
        page.accept(ticket).then(|| Self(page.clone()))
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        if self.0.lock().finish() {
            self.0.idle.notify_waiters();
        }
    }
}

/// Resolves when no command is in progress, for a page that has left.
pub(in crate::pages) async fn idle(page: &Page) {
    let idle = page.idle.notified();
    // `notified` is created before the check, so that no end is missed between the two
    if !page.lock().is_idle() {
        idle.await;
    }
}
