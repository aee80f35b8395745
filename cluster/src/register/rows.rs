//! Writes of single rows.
//!
//! Owns: a write that is sent again after an unknown outcome. Never: what a row contains.

use crate::engine::{Kv, Put, Resolution, Unavailable, WriteError};

/// Writes a row. It is the same write each time, so at most one of them is stored. Returns its revision, or `None` if another
/// write is there.
///
/// # Errors
///
/// [`WriteError::Unknown`] if it may be stored; after any other error it is not.
pub(super) async fn put(store: &Kv, put: &Put, attempts: usize) -> Result<Option<u64>, WriteError> {
    let mut was_sent = false;
    for _ in 0..attempts {
        match store.put(put.clone()).await {
            Ok(rev) => return Ok(Some(rev)),
            Err(WriteError::Conflict { .. }) => {
                return match store.resolve_unknown(&put.key, put.op).await {
                    Ok(Resolution::Written { rev }) => Ok(Some(rev)),
                    Ok(Resolution::Other { .. }) => Ok(None),
                    Err(Unavailable) => Err(WriteError::Unknown),
                };
            }
            Err(WriteError::Unknown) => was_sent = true,
            Err(WriteError::Down) if was_sent => {}
            Err(error) => return Err(error),
        }
    }
    Err(WriteError::Unknown)
}
