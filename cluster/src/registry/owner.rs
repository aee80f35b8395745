//! The owner rows: the user that has claimed an anonymous connection.
//!
//! Owns: the compare-and-set that decides the claim, and the read that sees it. Never: pages, or the rights of an
//! owner.
//!
//! A page token proves that its client held a page, and a token from before a login names no user. So the first login
//! in a connection writes `owner.<connection>`, and the row is kept for longer than the lifetime of any token from
//! before it. A page that enters the connection with such a token writes its own row first and reads the owner row
//! after it. Either it finds the owner, or its row is older than the owner row, and then the nodes that receive the
//! owner row find the page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Registry;
use crate::engine::{Consistency, OperationId, Precondition, Put, Resolution, Unavailable, WriteError};
use crate::id::Key;
use crate::subject::page_key;
use crate::wire;

/// How often a claim is tried while other processes write or delete the row.
const ATTEMPTS: usize = 4;

/// The row `owner.<connection>` in the bucket `pages`, stored in the entry's meta. It expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnerRow {
    pub(super) owner: String,
}

impl OwnerRow {
    pub(super) fn decode(meta: &[u8]) -> Option<Self> {
        serde_json::from_slice(meta).ok()
    }
}

/// The owner of a connection after a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerClaim {
    /// User of the first claim.
    pub owner: String,
    /// Revision of the owner row.
    pub rev: u64,
}

impl Registry {
    /// Claims an anonymous connection for a user, unless another user has claimed it already. The row is kept for
    /// `kept`, in whole seconds.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unknown`] and [`WriteError::Down`] when the engine does not reply: the claim may have been
    /// written.
    pub async fn claim_connection(
        &self,
        connection: Key,
        user: &str,
        kept: Duration,
    ) -> Result<OwnerClaim, WriteError> {
        let key = page_key::owner(connection);
        for _ in 0..ATTEMPTS {
            if let Some(owned) = self.owned(connection).await.map_err(|Unavailable| WriteError::Down)? {
                return Ok(owned);
            }
            let op = OperationId::random();
            let meta = wire::encode(&OwnerRow { owner: user.to_owned() });
            let put = Put { meta, ttl: Some(kept), op, ..Put::new(key.clone(), "", Precondition::Absent) };
            let written = match self.rows.put(put).await {
                Err(WriteError::Unknown) => match self.rows.resolve_unknown(&key, op).await {
                    Ok(Resolution::Written { rev }) => Ok(rev),
                    _ => Err(WriteError::Unknown),
                },
                written => written,
            };
            match written {
                Ok(rev) => return Ok(OwnerClaim { owner: user.to_owned(), rev }),
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(WriteError::Unknown)
    }

    /// Returns the user that has claimed an anonymous connection, read from the latest state. Returns `None` for a
    /// connection without a login, and also for one that had a user from its first page on.
    pub async fn owner(&self, connection: Key) -> Result<Option<String>, Unavailable> {
        Ok(self.owned(connection).await?.map(|owned| owned.owner))
    }

    async fn owned(&self, connection: Key) -> Result<Option<OwnerClaim>, Unavailable> {
        let entry = self.rows.get(&page_key::owner(connection), Consistency::Latest).await?;
        Ok(entry.and_then(|entry| {
            OwnerRow::decode(&entry.meta).map(|row| OwnerClaim { owner: row.owner, rev: entry.rev })
        }))
    }
}

#[cfg(test)]
mod tests;
