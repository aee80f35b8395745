//! Changes a document by compare-and-set, and writes its history in the same commit. The commit is an atomic batch, which
//! is slow on a NATS server with file storage; it is rare, because only an operator changes a rollout.

use std::time::Instant;

use super::Rollouts;
use super::spec::{RolloutSpec, RolloutUpdate, SpecError};
use crate::clock;
use crate::engine::{BatchOp, Consistency, Kv, Precondition, Put, Resolution, Unavailable, WriteError};
use crate::id::Key;
use crate::subject::config_key;

/// Number of revisions of a pool that are kept.
const MAX_HISTORY: u64 = 100;

/// A change that was acknowledged.
#[derive(Debug)]
pub struct RolloutChange {
    /// The new document.
    pub document: RolloutSpec,
    /// When the change was sent.
    pub sent: Instant,
}

/// Errors of changing a document.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The new document would be invalid.
    #[error(transparent)]
    Invalid(#[from] SpecError),
    /// The document is at another revision, because another change was first.
    #[error("the pool is at revision {}, written by {}", .0.rev, .0.updated_by)]
    Conflict(Box<RolloutSpec>),
    /// The engine is unavailable; the change may have happened.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
    /// The document is one of a newer release, which this one cannot read and must not overwrite.
    #[error("a newer release has written the rollout of this pool: change it at a node of that release")]
    Newer,
}

impl From<Unavailable> for ChangeError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl Rollouts {
    /// Reads the document of a pool as last acknowledged; the default document when none was written.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unavailable`] when the engine is unavailable, [`ChangeError::Newer`] when this release cannot read the
    /// document.
    pub async fn document(&self, pool: &str) -> Result<RolloutSpec, ChangeError> {
        Ok(self.current(pool).await?.0)
    }

    async fn current(&self, pool: &str) -> Result<(RolloutSpec, Precondition), ChangeError> {
        let entry = self.store.get(&config_key::rollout(pool), Consistency::Latest).await?;
        let Some(entry) = entry else { return Ok((RolloutSpec::unwritten(pool), Precondition::Absent)) };
        match RolloutSpec::decode(&entry.value) {
            Some(document) => Ok((document, Precondition::Rev(entry.rev))),
            None => Err(ChangeError::Newer),
        }
    }

    /// Changes a document. With `expected` it changes only that revision, so that of two concurrent changes of one
    /// revision only one succeeds. Without `expected` it changes the current revision.
    ///
    /// # Errors
    ///
    /// - [`ChangeError::Invalid`] when the new document would be invalid.
    /// - [`ChangeError::Conflict`] when the document is not at revision `expected`.
    /// - [`ChangeError::Newer`] when this release cannot read the document.
    /// - [`ChangeError::Unavailable`] when the engine is unavailable. The change may have happened.
    pub async fn change(
        &self,
        pool: &str,
        expected: Option<u64>,
        wanted: RolloutUpdate,
        by: &str,
    ) -> Result<RolloutChange, ChangeError> {
        loop {
            let (document, expect) = self.current(pool).await?;
            if expected.is_some_and(|expected| expected != document.rev) {
                return Err(ChangeError::Conflict(Box::new(document)));
            }
            let salt = Key::random().to_string();
            let next = document.revise(wanted.clone(), salt, by, clock::unix_ms())?;
            let sent = Instant::now();
            if commit(&self.store, &next, expect).await? {
                return Ok(RolloutChange { document: next, sent });
            }
        }
    }

    /// Returns the revisions of a pool that are kept, the newest first.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn history(&self, pool: &str) -> Result<Vec<RolloutSpec>, Unavailable> {
        let entries = self.store.list(&config_key::history(pool)).await?;
        let mut past: Vec<_> = entries.iter().filter_map(|entry| RolloutSpec::decode(&entry.value)).collect();
        past.sort_by_key(|document| std::cmp::Reverse(document.rev));
        Ok(past)
    }
}

/// Writes the document and its history. Returns `false` when another change was first.
async fn commit(store: &Kv, document: &RolloutSpec, expect: Precondition) -> Result<bool, Unavailable> {
    let key = config_key::rollout(&document.pool);
    let past = |rev| config_key::past(&document.pool, rev);
    let put = Put::new(key.as_str(), document.encode(), expect);
    let op = put.op;
    // `Precondition::Any`, because a bucket that was created again may still contain this revision
    let mut batch = vec![
        BatchOp::Put(put),
        BatchOp::Put(Put::new(past(document.rev), document.encode(), Precondition::Any)),
    ];
    if let Some(oldest) = document.rev.checked_sub(MAX_HISTORY).filter(|rev| *rev > 0) {
        batch.push(BatchOp::Delete { key: past(oldest), expect: Precondition::Any });
    }
    match store.commit(batch).await {
        Ok(_) => Ok(true),
        Err(WriteError::Conflict { .. }) => Ok(false),
        Err(WriteError::Unknown) => match store.resolve_unknown(&key, op).await? {
            Resolution::Written { .. } => Ok(true),
            Resolution::Other { .. } => Err(Unavailable),
        },
        Err(WriteError::Down | WriteError::Invalid) => Err(Unavailable),
    }
}
