//! What is remembered of users beside the document: the rules that their pages have met.
//!
//! Owns: one row per user or anonymous connection in the bucket `config` (`enrolled.<pool>.…`), which all processes watch, and when one
//! is written. Never: what follows from it (`targeting`).
//!
//! A rule about a claim, header or address is met by a page, but the jobs of its user are placed where the page is not known. So the
//! node that opens a page writes down which rules it has met. The last page of a user wins. A row ends when no page of the
//! user has opened for a long time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Rollouts;
use super::applied::AppliedRollouts;
use super::lane::RoutingKey;
use super::targeting::PageFacts;
use crate::clock;
use crate::engine::{Entry, Kv, OperationId, Precondition, Put, Unavailable};
use crate::id::Key;
use crate::subject::{SubjectToken, config_key};
use crate::timing::{CONNECTION_ENROLLED, USER_ENROLLED};
use crate::wire;

/// Maximum number of rows of a pool.
const MAX_ENROLLED: usize = 5000;

/// The row of a user or connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Enrolment {
    /// The pool.
    pool: String,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The connection of an anonymous browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<Key>,
    /// The keys of the rules that the last page has met.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) matches: BTreeSet<String>,
    /// When it was written, in milliseconds since the Unix epoch.
    at: u64,
}

impl Enrolment {
    pub(super) fn new(pool: &str, unit: RoutingKey<'_>, matches: BTreeSet<String>, at: u64) -> Self {
        let (user, connection) = match unit {
            RoutingKey::User(user) => (Some(user.to_owned()), None),
            RoutingKey::Connection(connection) => (None, Some(connection)),
        };
        Self { pool: pool.to_owned(), user, connection, matches, at }
    }

    fn encode(&self) -> Bytes {
        wire::encode(self)
    }
}

/// The rows of all pools, as this process has applied them.
#[derive(Debug, Default)]
pub(super) struct EnrolmentTable {
    rows: HashMap<String, Arc<Enrolment>>,
    /// Number of rows of each pool.
    pools: HashMap<String, usize>,
}

impl EnrolmentTable {
    /// Applies an entry. Returns whether it changes something; one that cannot be read does not.
    pub(super) fn put(&mut self, entry: &Entry) -> bool {
        let Ok(row) = serde_json::from_slice::<Enrolment>(&entry.value) else { return false };
        let pool = row.pool.clone();
        match self.rows.insert(entry.key.clone(), Arc::new(row.clone())) {
            Some(before) => *before != row,
            None => {
                *self.pools.entry(pool).or_default() += 1;
                true
            }
        }
    }

    /// Takes a row away.
    pub(super) fn delete(&mut self, key: &str) -> bool {
        let Some(row) = self.rows.remove(key) else { return false };
        if let Some(count) = self.pools.get_mut(&row.pool) {
            *count -= 1;
        }
        true
    }

    pub(super) fn find(&self, pool: &str, unit: RoutingKey<'_>) -> Option<Arc<Enrolment>> {
        if self.rows.is_empty() { None } else { self.rows.get(&key(pool, unit)).cloned() }
    }

    pub(super) fn is_full(&self, pool: &str) -> bool {
        self.pools.get(pool).is_some_and(|count| *count >= MAX_ENROLLED)
    }
}

fn key(pool: &str, unit: RoutingKey<'_>) -> String {
    match unit {
        RoutingKey::User(user) => config_key::enrolled_user(pool, &SubjectToken::new(user)),
        RoutingKey::Connection(connection) => config_key::enrolled_connection(pool, connection),
    }
}

/// Writes down which rules pages have met. Cheap to clone.
#[derive(Clone)]
pub struct Enrolments {
    store: Kv,
    applied: Arc<AppliedRollouts>,
}

impl Rollouts {
    /// Returns the rows of users beside the documents.
    pub fn enrolments(&self) -> Enrolments {
        Enrolments { store: self.store.clone(), applied: self.applied.clone() }
    }
}

impl Enrolments {
    /// Returns the headers that rules of any pool name, in lower case.
    pub fn named_headers(&self) -> BTreeSet<String> {
        self.applied
            .splits()
            .iter()
            .flat_map(|split| split.document.named_headers().collect::<Vec<_>>())
            .collect()
    }

    /// Writes down which rules a page meets that opens for this unit.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable; the row may have been written.
    pub async fn page_opened(&self, unit: RoutingKey<'_>, facts: &PageFacts) -> Result<(), Unavailable> {
        for split in self.applied.splits() {
            if split.document.needs_facts() {
                self.record(&split.document.pool, unit, facts.matches(&split.document)).await?;
            }
        }
        Ok(())
    }

    /// Writes down which rules a user meets whose anonymous connection has logged in: those that its pages have met, and those about
    /// the claims of the token.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable; the row may have been written.
    pub async fn logged_in(&self, user: &str, connection: Key, token: &PageFacts) -> Result<(), Unavailable> {
        for split in self.applied.splits() {
            let document = &split.document;
            if document.needs_facts() {
                let mut matches = token.matches(document);
                let before = self.applied.enrolment(&document.pool, RoutingKey::Connection(connection));
                matches.extend(before.into_iter().flat_map(|row| row.matches.clone()));
                self.record(&document.pool, RoutingKey::User(user), matches).await?;
            }
        }
        Ok(())
    }

    async fn record(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        matches: BTreeSet<String>,
    ) -> Result<(), Unavailable> {
        let (known, now) = (self.applied.enrolment(pool, unit), clock::unix_ms());
        let kept = match unit {
            RoutingKey::User(_) => USER_ENROLLED,
            RoutingKey::Connection(_) => CONNECTION_ENROLLED,
        };
        let key = key(pool, unit);
        match &known {
            None if matches.is_empty() => return Ok(()),
            Some(known) if known.matches == matches => {
                // a row that ends soon is written again
                let age = u128::from(now.saturating_sub(known.at));
                if age < kept.as_millis() / 2 {
                    return Ok(());
                }
            }
            Some(_) if matches.is_empty() => {
                self.store.delete(&key, Precondition::Any).await.map_err(|_| Unavailable)?;
                self.applied.unenrol(&key);
                return Ok(());
            }
            None if self.applied.is_full(pool) => {
                tracing::warn!(
                    pool,
                    "as many users as possible have met rules of this rollout; one more is not sent to its lane"
                );
                return Ok(());
            }
            _ => {}
        }
        let row = Enrolment::new(pool, unit, matches, now).encode();
        let put = Put { ttl: Some(kept), ..Put::new(key.as_str(), row.clone(), Precondition::Any) };
        let rev = match self.store.put(put).await {
            Ok(rev) => rev,
            Err(_) => return Err(Unavailable),
        };
        // so that the next call of this page sees it; the watch brings it to the others
        let op = OperationId::default();
        self.applied.enrol(&Entry { key, rev, op, meta: Bytes::new(), value: row });
        Ok(())
    }
}
