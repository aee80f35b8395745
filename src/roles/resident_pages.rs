//! Tells the executors what happens to the resident pages of this node.
//!
//! Owns: the order of the events of one page, and when an object is asked for because its executor has changed. Never: the
//! events themselves (`pages`), or the objects (`pagewire_worker`).
//!
//! An event that is not delivered is not lost for the page: its next message makes the object, and an object that is not used
//! any more is put aside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use pagewire_cluster::id::Key;
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::wire::PageEvent;
use pagewire_cluster::worker::{ExecMode, Workers};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, oneshot};

use super::services::Services;
use super::tasks::{TaskKind, Tasks};
use crate::calls::{CallRequest, ExecutorError, Executors};
use crate::command::Context;
use crate::pages::{PageStore, ResidentEvent};

/// Events that are delivered at the same time.
const DELIVERED: usize = 64;
/// Attempts to deliver an event that makes or ends an object.
const ATTEMPTS: u32 = 6;
/// Pause before the second attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// The worker that the messages of each resident page go to; `None` without one.
type Homes = HashMap<Key, Option<Key>>;

/// Spawns what tells the executors of the resident pages of a node.
pub(super) fn spawn(tasks: &Tasks, services: &Services, context: &Arc<Context>) {
    let Services { workers, rollouts, .. } = services;
    tasks.spawn("resident pages", TaskKind::Vital, deliver(context.clone()));
    let homes = follow_executors(context.clone(), workers.clone(), rollouts.clone());
    tasks.spawn("executors of resident pages", TaskKind::Vital, homes);
}

/// Delivers the events of the resident pages of a node. Never returns.
async fn deliver(context: Arc<Context>) {
    let store = context.pages.store.clone();
    let Some(mut events) = store.residents.receive() else { return std::future::pending().await };
    let delivery = Arc::new(Delivery {
        executors: context.executors.clone(),
        store,
        permits: Semaphore::new(DELIVERED),
    });
    // the last event of each page, which the next one waits for
    let mut last: HashMap<Key, oneshot::Receiver<()>> = HashMap::new();
    while let Some(event) = events.recv().await {
        if last.len().is_power_of_two() {
            last.retain(|_, delivered| delivered.now_or_never().is_none());
        }
        let (done, delivered) = oneshot::channel();
        let before = last.insert(event.page.key(), delivered);
        let delivery = delivery.clone();
        tokio::spawn(async move {
            if let Some(before) = before {
                // an error means that it was delivered
                let _ = before.await;
            }
            delivery.deliver(event).await;
            drop(done);
        });
    }
}

/// Asks for objects whenever the workers or the rollouts have changed. Never returns.
async fn follow_executors(context: Arc<Context>, workers: Workers, rollouts: Rollouts) {
    let (mut members, mut documents) = (workers.changes(), rollouts.document_changes());
    let mut homes = HashMap::new();
    let mut living = Vec::new();
    loop {
        let before = std::mem::replace(&mut living, living_workers(&workers));
        if before != living {
            // one that drains has woken the next worker of each of its objects
            let has_died = before.iter().any(|worker| !is_known(&workers, *worker));
            homes = wake_moved(&context, &homes, has_died);
        }
        tokio::select! {
            Ok(()) = members.changed() => {}
            Ok(()) = documents.changed() => living.clear(),
            else => return std::future::pending().await,
        }
    }
}

/// Asks for the objects of the pages of this node whose messages go to another executor than in `known`, or of all pages
/// when an executor has died. Returns where the messages of each page go.
fn wake_moved(context: &Context, known: &Homes, has_died: bool) -> Homes {
    let store = &context.pages.store;
    let mut homes = Homes::new();
    for page in store.pages() {
        let Some(class) = page.resident.clone() else { continue };
        let event = ResidentEvent { page, class, event: PageEvent::Wake };
        let (key, home) = (event.page.key(), context.executors.home_of(&call(store, &event)));
        // a page that has opened meanwhile is not known here, and an object that lives is not disturbed
        if (has_died || known.get(&key) != Some(&home)) && home.is_some() {
            store.residents.report(&event.page, event.event);
        }
        homes.insert(key, home);
    }
    homes
}

/// Returns the workers that accept new work.
fn living_workers(workers: &Workers) -> Vec<Key> {
    let roster = workers.roster();
    let mut living: Vec<Key> =
        roster.list().into_iter().filter(|(_, row)| !row.draining).map(|(id, _)| id.id).collect();
    living.sort_unstable();
    living
}

/// Returns whether a worker has its lease.
fn is_known(workers: &Workers, worker: Key) -> bool {
    workers.roster().row(worker).is_some()
}

struct Delivery {
    executors: Executors,
    store: Arc<PageStore>,
    permits: Semaphore,
}

impl Delivery {
    async fn deliver(&self, event: ResidentEvent) {
        // an error is not possible: it is never closed
        let _permit = self.permits.acquire().await;
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let placed = self.executors.place_call(call(&self.store, &event)).await;
            self.store.store_pins(&event.page);
            let Err(error) = self.executors.run(placed).await else { return };
            let (message, retryable) = match error {
                ExecutorError::Refused(error) => (error.message.into_owned(), error.code.retryable()),
                ExecutorError::Failed(error) => (error.message, error.retryable),
            };
            let (page, class) = (event.page.key(), &event.class.class);
            let is_repeated = matches!(event.event, PageEvent::Wake | PageEvent::Back | PageEvent::Close);
            if !retryable || !is_repeated || attempt == ATTEMPTS {
                tracing::info!(%page, class, event = ?event.event, "an executor is not told: {message}");
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

/// Returns the call that tells an executor of an event.
fn call(store: &PageStore, event: &ResidentEvent) -> CallRequest {
    let ResidentEvent { page, class, event } = event;
    CallRequest {
        method: class.class.clone(),
        params: RawValue::NULL.to_owned(),
        exec_mode: Some(ExecMode::Assigned),
        pool: class.pool.clone(),
        timeout: None,
        user: page.user(),
        connection: Some(page.connection().key),
        page: store.address(page),
        session: Some(page.session().key),
        pins: Some(page.pins.clone()),
        class: Some(class.class.clone()),
        event: Some(*event),
    }
}
