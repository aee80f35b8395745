//! Reads of many keys, complete at any size.
//!
//! Owns: pages of a bucket in revision order. Never: single keys.
//!
//! A request for the last message of each subject fails with 413 when more than 1,024 subjects match, before
//! any page size applies. A walk therefore requests the next messages after a sequence. A bucket keeps one
//! message per key, so these are all keys, each once, in revision order. Pages come from any replica, and a
//! replica may be behind, so a walk ends only when the leader has nothing after the last message seen. Then
//! the walk has seen every key that the leader has, because replicas apply in order: the replica that served
//! the page around a key's sequence had the key.

use std::collections::HashMap;
use std::time::Instant;

use async_nats::Message as Raw;
use async_nats::header::{NATS_LAST_SEQUENCE, NATS_SEQUENCE};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::RequestFailure;
use super::headers;
use super::kv::{KvStream, StoredEntry};
use crate::engine::{Entry, Unavailable};

/// The most messages of one page, and its size in bytes. The server counts all matches for every page, so
/// pages are large. The client library drops messages beyond 65,536 waiting ones of one subscription.
const PAGE: usize = 8192;
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Entries by key, the newest of each.
#[derive(Default)]
struct ListedKey {
    entries: HashMap<String, Entry>,
    /// The last sequence up to which everything was seen.
    upto: u64,
}

impl ListedKey {
    fn add(&mut self, key: String, stored: StoredEntry) {
        match stored {
            StoredEntry::Marker { seq, .. } => {
                self.entries.remove(&key);
                self.upto = self.upto.max(seq);
            }
            StoredEntry::Entry(entry) => {
                self.upto = self.upto.max(entry.rev);
                self.entries.insert(key, entry);
            }
        }
    }
}

impl KvStream {
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Unavailable> {
        let mut entries = self.walk(prefix, 0, usize::MAX).await?;
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    pub(super) async fn scan(
        &self,
        prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        let mut entries = self.walk(prefix, after, limit).await?;
        entries.sort_unstable_by_key(|entry| entry.rev);
        entries.truncate(limit);
        Ok(entries)
    }

    /// Returns at least the first `limit` entries after a revision, or all if there are fewer.
    async fn walk(&self, prefix: &str, after: u64, limit: usize) -> Result<Vec<Entry>, Unavailable> {
        let filter = self.subject(&format!("{prefix}>"));
        let mut seen = ListedKey { upto: after, ..ListedKey::default() };
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

    /// Returns whether the leader has a matching message after a sequence.
    async fn leader_has_more(&self, filter: &str, after: u64) -> Result<bool, Unavailable> {
        let request = json!({ "next_by_subj": filter, "seq": after.saturating_add(1) });
        Ok(self.ask_leader(&request, self.deadline()).await?.is_some())
    }

    /// Reads the next page. Returns whether the replica has more matches after it.
    async fn page(&self, filter: &str, batch: usize, seen: &mut ListedKey) -> Result<bool, Unavailable> {
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
                // the next attempt reads the messages of the broken page again
                Err(failure @ (RequestFailure::NoResponder | RequestFailure::Lost)) => {
                    self.pause(deadline, &failure).await?
                }
                Err(_) => return Err(Unavailable),
            }
        }
    }

    /// Reads one page. Returns the number of matches that the replica has after it. Returns `Lost` when a
    /// message of the page is missing.
    async fn read_page(
        &self,
        request: &str,
        seen: &mut ListedKey,
        deadline: Instant,
    ) -> Result<u64, RequestFailure> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream());
        let within = deadline.saturating_duration_since(Instant::now());
        let mut messages = self.control.ask_stream(subject, request.to_owned().into(), within).await?;
        let mut previous = 0;
        loop {
            let raw = next(&mut messages, deadline).await?;
            match raw.status.map(|status| status.as_u16()) {
                Some(404) => return Ok(0),
                Some(503) => return Err(RequestFailure::NoResponder),
                // the end of the page, with the sequence of the last message and the number of matches after
                // it
                Some(204) => {
                    let map = raw.headers.unwrap_or_default();
                    let pending = headers::number(&map, &headers::PENDING);
                    return match headers::number(&map, &NATS_LAST_SEQUENCE) {
                        Some(last) if last == previous => Ok(pending.unwrap_or(0)),
                        _ => Err(RequestFailure::Lost),
                    };
                }
                Some(_) => return Err(RequestFailure::Silence),
                None => {}
            }
            let map = raw.headers.as_ref().ok_or(RequestFailure::Lost)?;
            // each message names the sequence of the previous one in its page
            let follows = headers::number(map, &NATS_LAST_SEQUENCE) == Some(previous);
            previous =
                headers::number(map, &NATS_SEQUENCE).filter(|_| follows).ok_or(RequestFailure::Lost)?;
            let (key, stored) = self.direct(raw).ok_or(RequestFailure::Lost)?;
            seen.add(key, stored);
        }
    }
}

async fn next(messages: &mut mpsc::UnboundedReceiver<Raw>, deadline: Instant) -> Result<Raw, RequestFailure> {
    match timeout(deadline.saturating_duration_since(Instant::now()), messages.recv()).await {
        Ok(raw) => raw.ok_or(RequestFailure::Lost),
        Err(_) => Err(RequestFailure::Silence),
    }
}
