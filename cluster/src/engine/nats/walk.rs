//! Reading many keys, complete at any size.
//!
//! Owns: pages of a bucket in revision order. Never: single keys.
//!
//! Asking for the last message of each subject answers 413 beyond 1,024 matches before any page size applies,
//! so a walk asks for the next messages from a sequence on. A bucket keeps one message per key, so that is every
//! key once, in revision order. Pages come from any replica, and a replica may be behind: a walk is over only
//! when the leader has nothing after the last message seen. Then every key that the leader has was seen: the
//! replica that served the page around its sequence had it, because replicas apply in order.

use std::collections::HashMap;
use std::time::Instant;

use async_nats::Message as Raw;
use async_nats::header::{NATS_LAST_SEQUENCE, NATS_SEQUENCE};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::Failure;
use super::headers;
use super::kv::{Store, Stored};
use crate::engine::{Down, Entry};

/// Messages of one page, and about how many bytes. The server counts all matches for every page, so they are
/// large; the client library drops what exceeds its 65,536 messages of one subscription.
const PAGE: usize = 8192;
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Entries by key, the newest of each.
#[derive(Default)]
struct Seen {
    entries: HashMap<String, Entry>,
    /// The last sequence up to which everything was seen.
    upto: u64,
}

impl Seen {
    fn add(&mut self, key: String, stored: Stored) {
        match stored {
            Stored::Marker { seq, .. } => {
                self.entries.remove(&key);
                self.upto = self.upto.max(seq);
            }
            Stored::Entry(entry) => {
                self.upto = self.upto.max(entry.rev);
                self.entries.insert(key, entry);
            }
        }
    }
}

impl Store {
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Down> {
        let mut entries = self.walk(prefix, 0, usize::MAX).await?;
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    pub(super) async fn scan(&self, prefix: &str, after: u64, limit: usize) -> Result<Vec<Entry>, Down> {
        let mut entries = self.walk(prefix, after, limit).await?;
        entries.sort_unstable_by_key(|entry| entry.rev);
        entries.truncate(limit);
        Ok(entries)
    }

    /// At least the first `limit` entries after a revision, or all that there are.
    async fn walk(&self, prefix: &str, after: u64, limit: usize) -> Result<Vec<Entry>, Down> {
        let filter = self.subject(&format!("{prefix}>"));
        let mut seen = Seen { upto: after, ..Seen::default() };
        while seen.entries.len() < limit {
            let wanted = limit.saturating_sub(seen.entries.len()).min(PAGE);
            if !self.page(&filter, wanted, &mut seen).await?
                && !self.leader_has_more(&filter, seen.upto).await?
            {
                break;
            }
        }
        Ok(seen.entries.into_values().collect())
    }

    /// Whether a matching message stands after a sequence.
    async fn leader_has_more(&self, filter: &str, after: u64) -> Result<bool, Down> {
        let request = json!({ "next_by_subj": filter, "seq": after.saturating_add(1) });
        Ok(self.ask_leader(&request, self.deadline()).await?.is_some())
    }

    /// The next page; whether the replica had a full one.
    async fn page(&self, filter: &str, batch: usize, seen: &mut Seen) -> Result<bool, Down> {
        let deadline = self.deadline();
        let request = json!({
            "next_by_subj": filter,
            "seq": seen.upto.saturating_add(1),
            "batch": batch,
            "max_bytes": PAGE_BYTES,
        });
        loop {
            match self.read_page(&request.to_string(), seen, deadline).await {
                Ok(pending) => return Ok(pending > 0),
                // what was seen of a broken page is seen twice, which does no harm
                Err(failure @ (Failure::NoResponder | Failure::Lost)) => {
                    self.pause(deadline, &failure).await?
                }
                Err(_) => return Err(Down),
            }
        }
    }

    /// One page; how many matches the replica has after it. A page that lost a message on the way is `Lost`.
    async fn read_page(&self, request: &str, seen: &mut Seen, deadline: Instant) -> Result<u64, Failure> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream());
        let within = deadline.saturating_duration_since(Instant::now());
        let mut messages = self.control.ask_stream(subject, request.to_owned().into(), within).await?;
        let mut previous = 0;
        loop {
            let raw = next(&mut messages, deadline).await?;
            match raw.status.map(|status| status.as_u16()) {
                Some(404) => return Ok(0),
                Some(503) => return Err(Failure::NoResponder),
                // the end, with the sequence of the last message and what is pending after it
                Some(204) => {
                    let map = raw.headers.unwrap_or_default();
                    let pending = headers::number(&map, &headers::PENDING);
                    return match headers::number(&map, &NATS_LAST_SEQUENCE) {
                        Some(last) if last == previous => Ok(pending.unwrap_or(0)),
                        _ => Err(Failure::Lost),
                    };
                }
                Some(_) => return Err(Failure::Silence),
                None => {}
            }
            let map = raw.headers.as_ref().ok_or(Failure::Lost)?;
            // each message names the one before it in its page
            let follows = headers::number(map, &NATS_LAST_SEQUENCE) == Some(previous);
            previous = headers::number(map, &NATS_SEQUENCE).filter(|_| follows).ok_or(Failure::Lost)?;
            let (key, stored) = self.direct(raw).ok_or(Failure::Lost)?;
            seen.add(key, stored);
        }
    }
}

async fn next(messages: &mut mpsc::UnboundedReceiver<Raw>, deadline: Instant) -> Result<Raw, Failure> {
    match timeout(deadline.saturating_duration_since(Instant::now()), messages.recv()).await {
        Ok(raw) => raw.ok_or(Failure::Lost),
        Err(_) => Err(Failure::Silence),
    }
}
