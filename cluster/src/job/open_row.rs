//! The row of an open assigned job.
//!
//! Owns: the shape of its metadata. Never: who may run the job (`turn`), or whether it has ended; the record decides.

use serde::{Deserialize, Serialize};

use super::record::is_zero;
use super::stored::StoredJob;

/// The metadata of the row `open.<pool>.<partition>.<user>.<id>` of an open assigned job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenJobRow {
    /// User whose jobs run one after the other.
    pub user: String,
    /// Earliest time to run when the row was written, in milliseconds since the Unix epoch.
    pub due: u64,
    /// Kind of the job: the handler that its worker needs. Empty in a row of an older release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The run of the job that the row belongs to: how often an operator had run the job again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retried: u32,
    /// A small record as it was when the row was written, so that a claim needs no read before it. The claim fails when
    /// the record has changed since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<StoredJob>,
}
