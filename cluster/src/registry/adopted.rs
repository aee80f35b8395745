//! Sessions and connections with ids of older deployments.
//!
//! Owns: the row that says that such an id was adopted, so that of several pages which name it only one gets it without
//! proof. Never: the sessions and connections themselves.

use std::time::Duration;

use super::{Expirable, Registry};
use crate::engine::{OperationId, Precondition, Put, Resolution, WriteError};
use crate::subject::page_key;

impl Expirable {
    /// Adopts this id of an older deployment. Returns whether it was adopted now: `false` means that it was before, at
    /// any node. This is kept for `kept`, in whole seconds.
    ///
    /// # Errors
    ///
    /// [`WriteError::Unknown`] and [`WriteError::Down`] when the engine does not reply: the id may have been adopted.
    pub async fn adopt(self, registry: &Registry, kept: Duration) -> Result<bool, WriteError> {
        let key = match self {
            Self::Session(session) => page_key::adopted_session(session),
            Self::Connection(connection) => page_key::adopted_connection(connection),
        };
        let op = OperationId::random();
        let put = Put { ttl: Some(kept), op, ..Put::new(key.clone(), "", Precondition::Absent) };
        match registry.rows.put(put).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict { .. }) => Ok(false),
            Err(WriteError::Unknown) => match registry.rows.resolve_unknown(&key, op).await {
                Ok(Resolution::Written { .. }) => Ok(true),
                _ => Err(WriteError::Unknown),
            },
            Err(error) => Err(error),
        }
    }
}
