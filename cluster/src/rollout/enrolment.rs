//! What is remembered of users beside the document: the rules that their pages have met, and the lane that they have chosen or
//! stay in.
//!
//! Owns: one row per user or anonymous connection in the bucket `config` (`enrolled.<pool>.…`), which all processes watch, and when one
//! is written. Never: what follows from it (`targeting`, `enrolment_rules`).
//!
//! A rule about a claim, header or address is met by a page, but the jobs of its user are placed where the page is not known. So the
//! node that opens a page writes down which rules it has met. The last page of a user wins. A row ends when no page of the
//! user has opened for a long time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Rollouts;
use super::applied::AppliedRollouts;
use super::lane::RoutingKey;
use super::spec::RolloutSpec;
use super::targeting::PageFacts;
use crate::clock;
use crate::engine::{Consistency, Entry, Kv, Precondition, Put, Unavailable, WriteError};
use crate::id::Key;
use crate::subject::{SubjectToken, config_key};
use crate::timing::{CONNECTION_ENROLLED, USER_ENROLLED};
use crate::wire;

/// Maximum number of rows of a pool.
const MAX_ENROLLED: usize = 5000;

/// Number of rows without an effect that are deleted at once when there is no room for another one.
const COLLECTED: usize = 100;

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
    /// The lane that a page has chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) choice: Option<EnrolledLane>,
    /// The lane that the user stays in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) latched: Option<EnrolledLane>,
    /// When it was written, in milliseconds since the Unix epoch.
    at: u64,
}

/// A lane from one of its starts on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EnrolledLane {
    /// Name of the lane.
    pub(super) lane: String,
    /// The revision of the start; 0 for the base lane, which has none.
    #[serde(default)]
    pub(super) since: u64,
}

impl Enrolment {
    pub(super) fn new(pool: &str, unit: RoutingKey<'_>) -> Self {
        let (user, connection) = match unit {
            RoutingKey::User(user) => (Some(user.to_owned()), None),
            RoutingKey::Connection(connection) => (None, Some(connection)),
        };
        let matches = BTreeSet::new();
        Self { pool: pool.to_owned(), user, connection, matches, choice: None, latched: None, at: 0 }
    }

    #[cfg(test)]
    pub(super) fn having_met(self, matches: BTreeSet<String>) -> Self {
        Self { matches, ..self }
    }

    /// Whether the user is known to stay in a lane since this start of it.
    pub(super) fn stays_in(&self, lane: &str, since: u64) -> bool {
        self.latched.as_ref().is_some_and(|latched| latched.lane == lane && latched.since == since)
    }

    fn is_empty(&self) -> bool {
        self.matches.is_empty() && self.choice.is_none() && self.latched.is_none()
    }

    fn encode(&self) -> Bytes {
        wire::encode(self)
    }
}

/// A row, and the revision of its entry.
type KnownRow = (u64, Arc<Enrolment>);

/// The rows of all pools, as this process has applied them.
#[derive(Debug, Default)]
pub(super) struct EnrolmentTable {
    rows: HashMap<String, KnownRow>,
    /// Number of rows of each pool.
    pools: HashMap<String, usize>,
}

impl EnrolmentTable {
    /// Applies an entry. Returns whether it changes something; one that cannot be read does not.
    pub(super) fn put(&mut self, entry: &Entry) -> bool {
        let Ok(row) = serde_json::from_slice::<Enrolment>(&entry.value) else { return false };
        let pool = row.pool.clone();
        match self.rows.insert(entry.key.clone(), (entry.rev, Arc::new(row.clone()))) {
            Some((_, before)) => *before != row,
            None => {
                *self.pools.entry(pool).or_default() += 1;
                true
            }
        }
    }

    /// Takes a row away.
    pub(super) fn delete(&mut self, key: &str) -> bool {
        let Some((_, row)) = self.rows.remove(key) else { return false };
        if let Some(count) = self.pools.get_mut(&row.pool) {
            *count -= 1;
        }
        true
    }

    pub(super) fn find(&self, pool: &str, unit: RoutingKey<'_>) -> Option<KnownRow> {
        if self.rows.is_empty() { None } else { self.rows.get(&key(pool, unit)).cloned() }
    }

    /// Returns the rows of a pool that have no effect any more, with their revisions.
    pub(super) fn stale(&self, document: &RolloutSpec) -> Vec<(String, u64)> {
        let own = self.rows.iter().filter(|(_, (_, row))| row.pool == document.pool);
        let stale = own.filter(|(_, (_, row))| !document.remembers(row));
        stale.take(COLLECTED).map(|(key, (rev, _))| (key.clone(), *rev)).collect()
    }

    /// Returns the users of a pool who are known to stay in a lane since this start of it.
    pub(super) fn latched(&self, pool: &str, lane: &str, since: u64) -> impl Iterator<Item = String> {
        let own = self.rows.values().filter(move |(_, row)| row.pool == pool && row.stays_in(lane, since));
        own.filter_map(|(_, row)| row.user.clone())
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

/// Maximum attempts to change a row that others change at the same time.
const ATTEMPTS: usize = 8;

/// Why a page cannot choose a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The rollout of the pool does not allow it.
    #[error("the rollout of this pool lets no page choose a lane")]
    Closed,
    /// The pool has no such lane.
    #[error("the pool has no such lane")]
    UnknownLane,
    /// The pool has no room for another row.
    #[error("as many users as possible have chosen a lane")]
    Full,
    /// The engine is unavailable; the choice may have been written.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
}

/// Writes down what is remembered of users. Cheap to clone.
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
    /// Writes the users who have got a lane in which they stay. Never returns.
    pub(super) async fn write_entered(self) {
        loop {
            let (pool, lane, user) = self.applied.entered.next().await;
            if let Err(error) = self.latch(&pool, RoutingKey::User(&user), &lane).await {
                tracing::debug!(pool, %error, "a user who stays in a lane is not written");
            }
        }
    }

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
                let matches = facts.matches(&split.document);
                self.record(&split.document.pool, unit, |row| row.matches.clone_from(&matches)).await?;
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
                let unit = RoutingKey::User(user);
                self.record(&document.pool, unit, |row| row.matches.clone_from(&matches)).await?;
            }
        }
        Ok(())
    }

    /// Writes that a user is in a lane by its bucket, if users of the pool stay in their lanes.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable; the row may have been written.
    async fn latch(&self, pool: &str, unit: RoutingKey<'_>, lane: &str) -> Result<(), Unavailable> {
        let Some(split) = self.applied.split(pool) else { return Ok(()) };
        let Some(start) = split.document.enrolment.started.get(lane) else { return Ok(()) };
        let latched = EnrolledLane { lane: lane.to_owned(), since: start.rev };
        self.record(pool, unit, |row| row.latched = Some(latched.clone())).await.map(drop)
    }

    /// Writes the lane that a page has chosen for its user or connection, which may be the base; `None` for no choice.
    ///
    /// # Errors
    ///
    /// See [`ChoiceError`].
    pub async fn choose(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        lane: Option<&str>,
    ) -> Result<(), ChoiceError> {
        let split = self.applied.split(pool).filter(|split| split.document.enrolment.self_service);
        let document = split.as_ref().map(|split| &split.document).ok_or(ChoiceError::Closed)?;
        let choice = match lane {
            None => None,
            Some(lane) if lane == document.base => Some(EnrolledLane { lane: lane.to_owned(), since: 0 }),
            Some(lane) => {
                let start = document.enrolment.started.get(lane).ok_or(ChoiceError::UnknownLane)?;
                Some(EnrolledLane { lane: lane.to_owned(), since: start.rev })
            }
        };
        match self.record(pool, unit, |row| row.choice.clone_from(&choice)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ChoiceError::Full),
            Err(Unavailable) => Err(ChoiceError::Unavailable),
        }
    }

    /// Changes the row of a unit. Returns `false` when the pool has no room for another row.
    async fn record(
        &self,
        pool: &str,
        unit: RoutingKey<'_>,
        change: impl Fn(&mut Enrolment),
    ) -> Result<bool, Unavailable> {
        let kept = match unit {
            RoutingKey::User(_) => USER_ENROLLED,
            RoutingKey::Connection(_) => CONNECTION_ENROLLED,
        };
        let key = key(pool, unit);
        for _ in 0..ATTEMPTS {
            let (known, now) = (self.applied.row(pool, unit), clock::unix_ms());
            let before =
                known.as_ref().map_or_else(|| Enrolment::new(pool, unit), |(_, row)| (**row).clone());
            let mut row = before.clone();
            change(&mut row);
            // a row that ends soon is written again
            let is_fresh = u128::from(now.saturating_sub(before.at)) < kept.as_millis() / 2;
            if row == before && (known.is_none() || is_fresh) {
                return Ok(true);
            }
            if known.is_none() && self.applied.is_full(pool) && !self.collect(pool).await? {
                tracing::warn!(pool, "the rollout remembers as many users as it may");
                return Ok(false);
            }
            let expect = known.map_or(Precondition::Absent, |(rev, _)| Precondition::Rev(rev));
            row.at = now;
            match self.write(&key, &row, expect, kept).await {
                Ok(()) => return Ok(true),
                Err(WriteError::Conflict { .. }) => match self.store.get(&key, Consistency::Latest).await? {
                    Some(entry) => self.applied.enrol(&entry),
                    None => self.applied.unenrol(&key),
                },
                Err(WriteError::Unknown | WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
        }
        Err(Unavailable)
    }

    /// Deletes rows of a pool that have no effect any more. Returns whether there is room for another row.
    async fn collect(&self, pool: &str) -> Result<bool, Unavailable> {
        let Some(split) = self.applied.split(pool) else { return Ok(false) };
        for (key, rev) in self.applied.stale(&split.document) {
            match self.store.delete(&key, Precondition::Rev(rev)).await {
                Ok(()) => self.applied.unenrol(&key),
                // another process has changed it
                Err(WriteError::Conflict { .. }) => {}
                Err(WriteError::Unknown | WriteError::Down | WriteError::Invalid) => return Err(Unavailable),
            }
        }
        Ok(!self.applied.is_full(pool))
    }

    /// Writes a row, or deletes it if it says nothing, and applies it here, so that the next call of the page sees it; the watch
    /// brings it to the others.
    async fn write(
        &self,
        key: &str,
        row: &Enrolment,
        expect: Precondition,
        kept: Duration,
    ) -> Result<(), WriteError> {
        if row.is_empty() {
            self.store.delete(key, expect).await?;
            self.applied.unenrol(key);
            return Ok(());
        }
        let put = Put { ttl: Some(kept), ..Put::new(key, row.encode(), expect) };
        let (op, value) = (put.op, put.value.clone());
        let rev = self.store.put(put).await?;
        self.applied.enrol(&Entry { key: key.to_owned(), rev, op, meta: Bytes::new(), value });
        Ok(())
    }
}
