//! What happens to the resident pages of this node, for the executors that have their objects.
//!
//! Owns: the queue of events. Never: what an executor does with one, or whether it is reached.

use std::sync::{Arc, Mutex, PoisonError};

use pagewire_cluster::wire::PageEvent;
use pagewire_cluster::wire::ResidentClass;
use tokio::sync::mpsc;

use super::page::Page;

/// Something that has happened to a resident page.
pub struct ResidentEvent {
    /// The page.
    pub page: Arc<Page>,
    /// The class of its object.
    pub class: Arc<ResidentClass>,
    /// What has happened.
    pub event: PageEvent,
}

/// The events of the resident pages of this node, in their order.
pub struct ResidentFeed {
    events: mpsc::UnboundedSender<ResidentEvent>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<ResidentEvent>>>,
}

impl Default for ResidentFeed {
    fn default() -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        Self { events, receiver: Mutex::new(Some(receiver)) }
    }
}

impl ResidentFeed {
    /// Returns the receiver of all events, once.
    pub fn receive(&self) -> Option<mpsc::UnboundedReceiver<ResidentEvent>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reports what has happened to a page, if it is a resident one.
    pub fn report(&self, page: &Arc<Page>, event: PageEvent) {
        if let Some(class) = page.resident.clone() {
            // an error means that the node has ended
            let _ = self.events.send(ResidentEvent { page: page.clone(), class, event });
        }
    }
}
