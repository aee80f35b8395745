//! Watches: a consumer of a bucket, managed by this engine.
//!
//! Owns: the consumers of a watch across gaps and reconnects. Never: the known keys (`known_keys`).
//!
//! Avoids: the ordered consumer of async-nats resumes after the last sequence, so it misses deletions with expired
//! delete markers, waits for ever behind a stream that was lost and restored, and is restarted endlessly when
//! flow-control messages are dropped; up to 0.49 it did not resume after a restart (nats.rs#1596). The number of
//! pending messages that the server reports can be wrong (nats-server#4824). Here every possible loss (a gap in the
//! consumer's sequence, missed heartbeats, a new generation of the link) ends the consumer. The next consumer
//! yields everything again, and only the difference is passed on.

use std::convert::Infallible;
use std::time::Duration;

use async_nats::header::NATS_LAST_CONSUMER;
use async_nats::{Message as Raw, Subscriber};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::api::{Delivered, api};
use super::connect::jitter;
use super::headers;
use super::known_keys::{KnownKeys, StreamPosition};
use super::kv::{KvStream, StoredEntry};
use super::streams::nanos;
use crate::engine::{ConnectionState, WatchEvent, WatchMode, WatchSender};

/// The number of heartbeat periods without any message after which a consumer is abandoned.
const MISSED_HEARTBEATS: u32 = 3;
/// The number of changes that are pulled at once.
const PULLED: usize = 2_000;

/// The task of a running watch.
pub(super) struct WatchTask {
    store: KvStream,
    prefixes: Vec<String>,
    mode: WatchMode,
    /// How often changes are pulled; `None` if the server sends each change at once.
    pace: Option<Duration>,
    watcher: WatchSender,
    held: KnownKeys,
}

/// The reason for leaving a consumer.
enum WatchEnd {
    /// The watch was dropped, or the engine was dropped.
    Closed,
    /// Messages may be missing: restart with a new consumer.
    Resync(&'static str),
}

/// A consumer, and the last consumer sequence that was received.
struct Consumer {
    name: String,
    messages: Subscriber,
    /// The subject of the messages.
    inbox: String,
    last: u64,
    /// Whether every entry that existed at its creation was yielded.
    through: bool,
}

impl WatchTask {
    pub(super) fn new(
        store: KvStream,
        prefixes: Vec<String>,
        mode: WatchMode,
        pace: Option<Duration>,
        watcher: WatchSender,
    ) -> Self {
        Self { store, prefixes, mode, pace, watcher, held: KnownKeys::default() }
    }

    pub(super) async fn run(mut self) {
        loop {
            let Err(end) = self.follow().await;
            match end {
                WatchEnd::Closed => break,
                WatchEnd::Resync(why) => {
                    tracing::debug!(why, bucket = self.store.bucket.name(), "a watch starts again");
                    // a random pause, so that the watches of a cluster do not all restart at once
                    tokio::time::sleep(jitter(self.store.control.timing.nats_reconnect)).await;
                }
            }
        }
    }

    /// Returns the heartbeat period. A consumer may run on another server than the connection; then only
    /// missing heartbeats reveal that it has ended.
    fn heartbeat_period(&self) -> Duration {
        self.store.control.timing.nats_ping / 2
    }

    /// Runs one consumer from its creation to the first possible loss.
    async fn follow(&mut self) -> Result<Infallible, WatchEnd> {
        let mut link = self.store.control.link.clone();
        let watcher = self.watcher.clone();
        let up = tokio::select! {
            up = link.wait_for(|link| matches!(link, ConnectionState::Up { .. })) => up.map(|link| *link),
            () = watcher.closed() => return Err(WatchEnd::Closed),
        };
        let generation = up.map_err(|_| WatchEnd::Closed)?;
        let info = self.store.streams.ensure_bucket(&self.store.control, self.store.bucket).await;
        let info = info.map_err(|_| WatchEnd::Resync("no leader"))?;
        self.held.restart(&StreamPosition { created: info.created, last_seq: info.state.last_seq });

        let mut consumer = self.create().await?;
        let end = tokio::select! {
            end = self.read(&mut consumer) => end,
            changed = link.wait_for(|link| *link != generation) => Err(match changed {
                Ok(_) => WatchEnd::Resync("the link changed"),
                Err(_) => WatchEnd::Closed,
            }),
            () = watcher.closed() => Err(WatchEnd::Closed),
        };
        self.remove(consumer);
        end
    }

    async fn create(&self) -> Result<Consumer, WatchEnd> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(default)]
            num_pending: u64,
        }
        let control = &self.store.control;
        let (stream, name) = (self.store.stream(), uuid::Uuid::new_v4().simple().to_string());
        let filters = self.prefixes.iter().map(|prefix| self.store.subject(&format!("{prefix}>")));
        let filters: Vec<String> = filters.collect();
        let (messages, inbox) = control.inbox().await.map_err(|_| WatchEnd::Resync("no subscription"))?;
        let mut config = json!({
            "name": name,
            "deliver_policy": "last_per_subject",
            "filter_subjects": filters,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "headers_only": self.mode == WatchMode::Meta,
            // the server removes a consumer that a killed process leaves behind
            "inactive_threshold": nanos(control.timing.lease_ttl),
            "num_replicas": 1,
            "mem_storage": true,
        });
        if self.pace.is_none() {
            config["deliver_subject"] = inbox.as_str().into();
            config["flow_control"] = true.into();
            config["idle_heartbeat"] = nanos(self.heartbeat_period()).into();
        }
        let method = format!("CONSUMER.CREATE.{stream}.{name}");
        let request = json!({ "stream_name": stream, "config": config, "action": "create" });
        match api::<Created>(control, &method, &request, control.timing.operation).await {
            Ok(created) => {
                let through = created.num_pending == 0 && self.pace.is_none();
                Ok(Consumer { name, messages, inbox, last: 0, through })
            }
            Err(error) => {
                tracing::warn!(?error, stream, "a watch has no consumer");
                Err(WatchEnd::Resync("no consumer"))
            }
        }
    }

    /// Deletes a consumer. Otherwise consumers would accumulate over reconnects until the server detects
    /// their inactivity.
    fn remove(&self, consumer: Consumer) {
        let control = self.store.control.clone();
        let method = format!("CONSUMER.DELETE.{}.{}", self.store.stream(), consumer.name);
        tokio::spawn(async move {
            drop(consumer.messages);
            // the consumer may be removed already
            let _ = api::<Value>(&control, &method, &json!({}), control.timing.operation).await;
        });
    }

    async fn read(&mut self, consumer: &mut Consumer) -> Result<Infallible, WatchEnd> {
        match self.pace {
            None => self.read_pushed(consumer).await,
            Some(pace) => self.read_at_pace(consumer, pace).await,
        }
    }

    async fn read_pushed(&mut self, consumer: &mut Consumer) -> Result<Infallible, WatchEnd> {
        if consumer.through {
            self.settle().await?;
        }
        let heartbeat_timeout = self.heartbeat_period() * MISSED_HEARTBEATS;
        loop {
            let raw = timeout(heartbeat_timeout, consumer.messages.next()).await;
            let raw = raw.map_err(|_| WatchEnd::Resync("no heartbeat"))?.ok_or(WatchEnd::Closed)?;
            let caught_up = match raw.status.map(|status| status.as_u16()) {
                None => self.take(consumer, raw)?,
                Some(100) => self.heartbeat(consumer, raw).await?,
                Some(_) => return Err(WatchEnd::Resync("the consumer is gone")),
            };
            if caught_up && !std::mem::replace(&mut consumer.through, true) {
                self.settle().await?;
            }
        }
    }

    /// Pulls the changes of each time of the pace together.
    async fn read_at_pace(
        &mut self,
        consumer: &mut Consumer,
        pace: Duration,
    ) -> Result<Infallible, WatchEnd> {
        loop {
            if !self.pull(consumer).await? {
                continue;
            }
            if !std::mem::replace(&mut consumer.through, true) {
                self.settle().await?;
            }
            tokio::time::sleep(pace).await;
        }
    }

    /// Sends one pull request and applies what it yields. Returns whether the consumer has nothing left to deliver.
    async fn pull(&mut self, consumer: &mut Consumer) -> Result<bool, WatchEnd> {
        let control = &self.store.control;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.store.stream(), consumer.name);
        let request = json!({ "batch": PULLED, "no_wait": true }).to_string();
        let within = control.timing.operation;
        let sent = control.send(subject, Some(consumer.inbox.clone()), None, request.into(), within).await;
        sent.map_err(|_| WatchEnd::Resync("a pull was not sent"))?;
        for _ in 0..PULLED {
            let raw = timeout(within, consumer.messages.next()).await;
            let raw = raw.map_err(|_| WatchEnd::Resync("no reply to a pull"))?.ok_or(WatchEnd::Closed)?;
            match raw.status.map(|status| status.as_u16()) {
                None => drop(self.take(consumer, raw)?),
                Some(100) => {}
                Some(404 | 408) => return Ok(true),
                Some(_) => return Err(WatchEnd::Resync("the consumer is gone")),
            }
        }
        Ok(false)
    }

    /// Applies an entry or a delete marker. Returns whether it is the last one for now.
    fn take(&mut self, consumer: &mut Consumer, raw: Raw) -> Result<bool, WatchEnd> {
        let delivered =
            raw.reply.as_deref().and_then(Delivered::parse).ok_or(WatchEnd::Resync("no sequence"))?;
        if delivered.consumer_seq != consumer.last + 1 {
            return Err(WatchEnd::Resync("a gap"));
        }
        consumer.last = delivered.consumer_seq;
        let keys = self.store.streams.keys(self.store.bucket);
        let key = raw.subject.strip_prefix(&keys).ok_or(WatchEnd::Resync("a foreign subject"))?.to_owned();
        let map = raw.headers.unwrap_or_default();
        let event = match StoredEntry::new(key.clone(), delivered.stream_seq, &map, raw.payload) {
            StoredEntry::Entry(entry) => self.held.put(entry),
            StoredEntry::Marker { seq, marker } => self.held.delete(&key, seq, marker),
        };
        self.notify(event)?;
        Ok(delivered.pending == 0)
    }

    /// Checks the server's position in a heartbeat, and replies to a flow-control request. Returns whether
    /// the consumer has nothing left to deliver.
    async fn heartbeat(&self, consumer: &Consumer, raw: Raw) -> Result<bool, WatchEnd> {
        let map = raw.headers.unwrap_or_default();
        let stalled = map.get("Nats-Consumer-Stalled").map(|subject| subject.as_str().to_owned());
        let flow_control = raw.reply.map(|reply| reply.into_string());
        let is_flow_control = flow_control.is_some();
        if let Some(subject) = flow_control.or(stalled) {
            let within = self.store.control.timing.operation;
            let sent = self.store.control.send(subject, None, None, Default::default(), within).await;
            sent.map_err(|_| WatchEnd::Resync("flow control message not sent"))?;
        }
        if is_flow_control {
            return Ok(false);
        }
        match headers::number(&map, &NATS_LAST_CONSUMER) {
            Some(last) if last != consumer.last => Err(WatchEnd::Resync("a gap before a heartbeat")),
            // a heartbeat means that nothing is left to deliver; the pending count of a message may be
            // inaccurate
            _ => Ok(true),
        }
    }

    /// Resolves the keys that the consumer did not yield, after it has yielded everything. Only the leader
    /// decides whether such a key is deleted, because the consumer may run on a replica that is behind.
    async fn settle(&mut self) -> Result<(), WatchEnd> {
        for key in self.held.unseen() {
            let stored = self.store.latest(&key, self.store.deadline()).await;
            let event = match stored.map_err(|_| WatchEnd::Resync("no leader"))? {
                Some(StoredEntry::Entry(mut entry)) => {
                    if self.mode == WatchMode::Meta {
                        entry.value.clear();
                    }
                    self.held.put(entry)
                }
                Some(StoredEntry::Marker { seq, marker }) => self.held.delete(&key, seq, marker),
                None => self.held.forget(&key),
            };
            self.notify(event)?;
        }
        let live = self.held.live();
        self.notify(live)
    }

    fn notify(&self, event: Option<WatchEvent>) -> Result<(), WatchEnd> {
        match event {
            Some(event) => self.watcher.send(event).map_err(|_| WatchEnd::Closed),
            None => Ok(()),
        }
    }
}
