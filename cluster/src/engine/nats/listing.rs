//! Reads of many keys, complete at any size.
//!
//! Owns: pages of a bucket in revision order. Never: single keys.
//!
//! Avoids: a request for the last message of each subject fails with 413 when more than 1,024 subjects match,
//! before any page size applies, and `keys` of async-nats reads a whole bucket. A walk therefore requests the next
//! messages after a sequence. A bucket keeps one message per key, so these are all keys, each once, in revision
//! order. Pages come from any replica, and a replica may be behind, so a walk ends only when the leader has nothing
//! after the last message seen. Then the walk has seen every key that the leader has, because replicas apply in
//! order: the replica that served the page around a key's sequence had the key.

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
struct ListedEntries {
    entries: HashMap<String, Entry>,
    /// The last sequence up to which everything was seen.
    upto: u64,
}

impl ListedEntries {
    /// Adds a message. One at or before `upto` changes nothing: it was seen, or a later write of its key was,
    /// because a page that broke is read again from any replica.
    fn add(&mut self, key: String, stored: StoredEntry) {
        let seq = match &stored {
            StoredEntry::Marker { seq, .. } => *seq,
            StoredEntry::Entry(entry) => entry.rev,
        };
        if seq <= self.upto {
            return;
        }
        self.upto = seq;
        match stored.live() {
            Some(entry) => drop(self.entries.insert(key, entry)),
            None => drop(self.entries.remove(&key)),
        }
    }
}

impl KvStream {
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Unavailable> {
        let mut entries = Walk::new(self, prefix, 0).run(usize::MAX).await?;
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    pub(super) async fn scan(
        &self,
        prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Unavailable> {
        let mut entries = Walk::new(self, prefix, after).run(limit).await?;
        entries.sort_unstable_by_key(|entry| entry.rev);
        entries.truncate(limit);
        Ok(entries)
    }
}

/// One walk over the entries of a bucket below a prefix.
struct Walk<'a> {
    kv: &'a KvStream,
    filter: String,
    seen: ListedEntries,
}

impl<'a> Walk<'a> {
    fn new(kv: &'a KvStream, prefix: &str, after: u64) -> Self {
        let filter = kv.subject(&format!("{prefix}>"));
        Self { kv, filter, seen: ListedEntries { upto: after, ..ListedEntries::default() } }
    }

    /// Returns at least the first `limit` entries, or all if there are fewer.
    async fn run(mut self, limit: usize) -> Result<Vec<Entry>, Unavailable> {
        while self.seen.entries.len() < limit {
            let wanted = limit.saturating_sub(self.seen.entries.len()).min(PAGE);
            if !self.page(wanted).await? && !self.leader_has_more().await? {
                break;
            }
        }
        Ok(self.seen.entries.into_values().collect())
    }

    /// Returns whether the leader has a message after those that were seen.
    async fn leader_has_more(&self) -> Result<bool, Unavailable> {
        let request = json!({ "next_by_subj": self.filter, "seq": self.seen.upto.saturating_add(1) });
        Ok(self.kv.request_leader(&request, self.kv.deadline()).await?.is_some())
    }

    /// Reads the next page. Returns whether the replica has more matches after it.
    async fn page(&mut self, batch: usize) -> Result<bool, Unavailable> {
        let deadline = self.kv.deadline();
        let request = json!({
            "next_by_subj": self.filter,
            "seq": self.seen.upto.saturating_add(1),
            "batch": batch,
            "max_bytes": PAGE_BYTES,
        });
        loop {
            match self.read_page(&request.to_string(), deadline).await {
                Ok(pending) => return Ok(pending > 0),
                // the next attempt reads the messages of the broken page again
                Err(failure @ (RequestFailure::NoResponder | RequestFailure::Lost)) => {
                    self.kv.pause(deadline, &failure).await?
                }
                Err(_) => return Err(Unavailable),
            }
        }
    }

    /// Reads one page. Returns the number of matches that the replica has after it. Returns `Lost` when a
    /// message of the page is missing.
    async fn read_page(&mut self, request: &str, deadline: Instant) -> Result<u64, RequestFailure> {
        let control = &self.kv.control;
        let subject = format!("$JS.API.DIRECT.GET.{}", self.kv.stream());
        let within = deadline.saturating_duration_since(Instant::now());
        let mut messages = control.request_stream(subject, request.to_owned().into(), within).await?;
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
            let (key, stored) = self.kv.direct(raw).ok_or(RequestFailure::Lost)?;
            self.seen.add(key, stored);
        }
    }
}

async fn next(messages: &mut mpsc::UnboundedReceiver<Raw>, deadline: Instant) -> Result<Raw, RequestFailure> {
    match timeout(deadline.saturating_duration_since(Instant::now()), messages.recv()).await {
        Ok(raw) => raw.ok_or(RequestFailure::Lost),
        Err(_) => Err(RequestFailure::Silence),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;
    use crate::engine::nats::streams::MARKER_TTL;

    #[test]
    fn a_page_that_is_read_again_from_a_replica_that_is_behind_changes_nothing() {
        let mut seen = ListedEntries::default();
        let stored = |seq| StoredEntry::new("k".into(), seq, &HeaderMap::new(), "".into());
        let deleted = |seq| StoredEntry::new("d".into(), seq, &headers::deletion(MARKER_TTL), "".into());
        seen.add("k".into(), stored(8));
        seen.add("d".into(), deleted(9));
        // the page broke here, and another replica has neither of the two writes yet
        seen.add("k".into(), stored(4));
        seen.add("d".into(), stored(5));
        assert_eq!(seen.entries.values().map(|entry| entry.rev).collect::<Vec<_>>(), [8]);
        seen.add("k".into(), stored(10));
        assert_eq!((seen.entries["k"].rev, seen.upto), (10, 10));
    }
}
