//! Notifies the pages that wait for a job, and its watchers.
//!
//! Owns: how often a page is notified of an end. Never: the end itself; a page or a watcher that was not notified finds
//! it in the record.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::value::to_raw_value;
use tokio::time::{Instant, timeout, timeout_at};

use super::dispatch::JobDispatcher;
use super::record::{Record, Waiter};
use super::records::JobRecords;
use super::stored::{MAX_HINT, StoredJob};
use crate::engine::{BusEvent, ConnectionState, Engine, Message, Subscription, Unavailable};
use crate::id::Key;
use crate::peer::{PeerClient, PeerError};
use crate::subject::Subjects;
use crate::wire::{self, JobEvent, JobNotification, JobUpdate, Progress};

/// How often a page is notified of an end; after that, the page has to request it.
const MAX_NOTIFY_ATTEMPTS: u32 = 5;
/// Maximum unread bytes of a watcher.
const WATCH_BYTES: usize = 64 * 1024;

/// A subscription to one job's events.
pub struct JobWatch {
    records: Arc<JobRecords>,
    job: Key,
    events: Subscription,
    /// Revision of the record that was seen last; 0 for none.
    seen: u64,
}

impl JobWatch {
    /// How long [`JobWatch::next`] waits at most.
    pub fn pace(&self) -> Duration {
        self.records.timing.lease_renew
    }

    /// Reads the current record.
    pub async fn read(&mut self) -> Result<Option<StoredJob>, Unavailable> {
        let stored = self.records.get(self.job).await?;
        self.seen = stored.as_ref().map_or(0, |stored| stored.rev);
        Ok(stored)
    }

    /// Waits for the next event. Returns the record periodically even without one, because published events may be lost.
    pub async fn next(&mut self) -> Result<JobNews, Unavailable> {
        if let Ok(Some(BusEvent::Message(message))) = timeout(self.pace(), self.events.next()).await
            && let Ok(JobEvent { progress, ended, .. }) = serde_json::from_slice(&message.payload)
        {
            if let Some(progress) = progress {
                return Ok(JobNews::Progress(progress));
            }
            let ended = ended.and_then(|text| serde_json::from_str::<Box<StoredJob>>(text.get()).ok());
            // an older end is that of an earlier run
            if let Some(ended) = ended.filter(|ended| ended.rev > self.seen) {
                self.seen = ended.rev;
                return Ok(JobNews::Record(Some(ended)));
            }
        }
        Ok(JobNews::Record(self.read().await?.map(Box::new)))
    }
}

/// What a watcher of a job learns.
#[derive(Debug)]
pub enum JobNews {
    /// The handler reports progress.
    Progress(Progress),
    /// The record as it is now; `None` if there is no such job.
    Record(Option<Box<StoredJob>>),
}

/// Notifies the pages that wait for a job, and its watchers.
pub struct JobNotifier {
    pub(super) engine: Engine,
    pub(super) records: Arc<JobRecords>,
    /// Brings a job to a worker again when a page could not be notified.
    pub(super) dispatcher: Arc<JobDispatcher>,
    pub(super) subjects: Subjects,
    pub(super) post: PeerClient,
}

impl JobNotifier {
    /// Watches a job. Read, then wait, then read again: no change after this call is missed.
    pub async fn watch(&self, job: Key) -> Result<JobWatch, Unavailable> {
        let events = self.engine.subscribe(&self.subjects.job(job), None, WATCH_BYTES).await?;
        Ok(JobWatch { records: self.records.clone(), job, events, seen: 0 })
    }

    /// Waits for the end of a job. Returns the record after the end, or the current record when `within` has passed;
    /// `None` if there is no such job.
    pub async fn wait(&self, job: Key, within: Duration) -> Result<Option<Record>, Unavailable> {
        let until = Instant::now() + within;
        let mut watching = self.watch(job).await?;
        let Some(mut stored) = watching.read().await? else { return Ok(None) };
        while !stored.record.state.is_terminal() {
            match timeout_at(until, watching.next()).await {
                Ok(news) => match news? {
                    JobNews::Progress(_) => {}
                    JobNews::Record(Some(current)) => stored = *current,
                    JobNews::Record(None) => return Ok(None),
                },
                Err(_) => break,
            }
        }
        Ok(Some(stored.record))
    }

    /// Notifies watchers, without waiting.
    pub fn publish(&self, record: &Record) {
        self.publish_event(record.id, JobEvent::of_state(record.state.text()));
    }

    /// Notifies watchers of an end, without waiting. A small record goes with the event, so that they need not read it.
    pub(super) fn publish_end(&self, stored: &StoredJob) {
        let ended = to_raw_value(stored).ok().filter(|text| text.get().len() <= MAX_HINT);
        let event = JobEvent { ended, ..JobEvent::of_state(stored.record.state.text()) };
        self.publish_event(stored.record.id, event);
    }

    /// Publishes an event to the watchers of a job, without waiting.
    pub fn publish_event(&self, job: Key, event: JobEvent) {
        let message = Message::new(self.subjects.job(job), wire::encode(&event));
        let engine = self.engine.clone();
        let mut telling = Box::pin(async move {
            if let Err(error) = engine.publish(message).await {
                tracing::debug!(%job, %error, "watchers of a job not told");
            }
        });
        // the channel nearly always has room: no task for a publish that completes at once
        if telling.as_mut().now_or_never().is_none() {
            tokio::spawn(telling);
        }
    }

    /// Notifies every page that waits for a job of its end. If the node of a page did not reply, a work item brings the
    /// job to a worker again.
    pub async fn notify_pages(&self, stored: &StoredJob) {
        let record = &stored.record;
        let told = record.askers.iter().map(|asker| self.tell_end(record, asker));
        if futures_util::future::join_all(told).await.contains(&false) {
            tracing::info!(job = %record.id, "a page has not received the end of its job yet");
            while !self.dispatcher.push(stored, self.records.timing.redelivery).await {
                self.records.wait_to_retry().await;
            }
        }
    }

    /// Notifies one page of an end, until the node of the page has replied or the page does not exist on any node: then
    /// the page finds the end in the record when it reconnects. A repeated notification is safe, because the node
    /// tracks which ends a page has received. Returns `false` when the node did not reply. Time without a connection of
    /// this process does not count.
    async fn tell_end(&self, record: &Record, asker: &Waiter) -> bool {
        let Some(note) = record.ending(asker.page.key, &asker.frame) else { return true };
        let link = self.engine.link();
        let mut telling = 0;
        while telling < MAX_NOTIFY_ATTEMPTS {
            match self.post.find_page(asker.page, &note, record.trace.clone()).await {
                Ok(_) => return true,
                Err(PeerError::Gone | PeerError::TooLarge) => {
                    tracing::debug!(job = %record.id, page = %asker.page, "page not told how its job ended");
                    return true;
                }
                answer => tracing::debug!(job = %record.id, ?answer, "page not told yet"),
            }
            if matches!(*link.borrow(), ConnectionState::Down { .. }) {
                self.records.wait_to_retry().await;
                continue;
            }
            tokio::time::sleep(self.records.timing.lease_renew / 3 * telling).await;
            telling += 1;
        }
        false
    }

    /// Notifies the waiting pages of progress, once without retries, because the next progress follows soon.
    pub async fn tell_progress(&self, record: &Record, progress: &Progress) {
        let notes = record.askers.iter().map(|asker| {
            let note: JobNotification =
                record.note(asker.page.key, &asker.frame, JobUpdate::Progress(progress.clone()));
            async move { self.post.find_page(asker.page, &note, record.trace.clone()).await }
        });
        futures_util::future::join_all(notes).await;
    }
}
