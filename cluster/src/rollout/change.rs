//! Changing a document: compare-and-set, with the history in the same commit.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Rollouts;
use super::document::{Document, Invalid, Wanted};
use crate::engine::{Batch, Consistency, Down, Expect, Put, Settled, WriteError};
use crate::id::Key;
use crate::subject::config_key;

/// How many revisions of a pool are kept.
const KEPT: u64 = 100;

/// A change that stands.
#[derive(Debug)]
pub struct Changed {
    /// What holds now.
    pub document: Document,
    /// When it was sent.
    pub sent: Instant,
}

/// Why a document was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It cannot say that.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Another revision stands there: somebody else was first.
    #[error("revision {} by {} stands there", .0.rev, .0.updated_by)]
    Conflict(Box<Document>),
    /// The engine does not answer; it may have happened.
    #[error("the cluster's engine is unavailable")]
    Unavailable,
}

impl From<Down> for ChangeError {
    fn from(Down: Down) -> Self {
        Self::Unavailable
    }
}

impl Rollouts {
    /// The document of a pool, as acknowledged last.
    pub async fn document(&self, pool: &str) -> Result<Document, Down> {
        Ok(self.standing(pool).await?.0)
    }

    async fn standing(&self, pool: &str) -> Result<(Document, Expect), Down> {
        let entry = self.store.get(&config_key::rollout(pool), Consistency::Latest).await?;
        let Some(entry) = entry else { return Ok((Document::unwritten(pool), Expect::Absent)) };
        match Document::decode(&entry.value) {
            Some(document) => Ok((document, Expect::Rev(entry.rev))),
            // a newer release's: nothing that this one may overwrite
            None => Err(Down),
        }
    }

    /// Changes a document. With `expected`, only that revision: two who change the same one do not both succeed.
    pub async fn change(
        &self,
        pool: &str,
        expected: Option<u64>,
        wanted: Wanted,
        by: &str,
    ) -> Result<Changed, ChangeError> {
        loop {
            let (document, expect) = self.standing(pool).await?;
            if expected.is_some_and(|expected| expected != document.rev) {
                return Err(ChangeError::Conflict(Box::new(document)));
            }
            let now =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            let next = document.revise(wanted.clone(), Key::random().to_string(), by, now)?;
            let sent = Instant::now();
            if self.commit(&next, expect).await? {
                return Ok(Changed { document: next, sent });
            }
        }
    }

    /// `false` when something else stands there by now.
    async fn commit(&self, document: &Document, expect: Expect) -> Result<bool, Down> {
        let key = config_key::rollout(&document.pool);
        let past = |rev| config_key::past(&document.pool, rev);
        let put = Put::new(key.as_str(), document.encode(), expect);
        let op = put.op;
        // a revision of an earlier life of the bucket may be left under this number
        let mut batch =
            vec![Batch::Put(put), Batch::Put(Put::new(past(document.rev), document.encode(), Expect::Any))];
        if let Some(oldest) = document.rev.checked_sub(KEPT).filter(|rev| *rev > 0) {
            batch.push(Batch::Delete { key: past(oldest), expect: Expect::Any });
        }
        match self.store.commit(batch).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict { .. }) => Ok(false),
            Err(WriteError::Unknown) => match self.store.settle(&key, op).await? {
                Settled::Written { .. } => Ok(true),
                Settled::Other { .. } => Err(Down),
            },
            Err(WriteError::Down | WriteError::Invalid) => Err(Down),
        }
    }

    /// The revisions of a pool that are kept, the newest first.
    pub async fn history(&self, pool: &str) -> Result<Vec<Document>, Down> {
        let entries = self.store.list(&config_key::history(pool)).await?;
        let mut past: Vec<_> = entries.iter().filter_map(|entry| Document::decode(&entry.value)).collect();
        past.sort_by_key(|document| std::cmp::Reverse(document.rev));
        Ok(past)
    }
}
