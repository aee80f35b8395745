//! The clock of the server that leads a stream: now, or when it stored a message.
//!
//! Owns: the reads of that clock. Never: what is concluded from it (`clock`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::{JetStreamFailure, NOTHING_STORED, api};
use super::kv::KvStream;
use crate::clock::{self, ClockSample};
use crate::engine::Unavailable;

impl KvStream {
    /// Returns when a revision was stored, as a time since the Unix epoch. `None` when it is stored no longer.
    pub(super) async fn stored_at(&self, rev: u64) -> Result<Option<Duration>, Unavailable> {
        #[derive(Deserialize)]
        struct Response {
            message: Stored,
        }
        #[derive(Deserialize)]
        struct Stored {
            time: String,
        }
        let method = format!("STREAM.MSG.GET.{}", self.stream());
        let within = self.control.timing.operation;
        match api::<Response>(&self.control, &method, &json!({ "seq": rev }), within).await {
            Ok(response) => Ok(since_epoch(&response.message.time)),
            Err(JetStreamFailure::Refusal(refusal)) if refusal.err_code == NOTHING_STORED => Ok(None),
            Err(error) => {
                tracing::debug!(?error, "the time of a message is not known");
                Err(Unavailable)
            }
        }
    }

    /// Returns the name of the leader of the stream, and its clock between two times of the boot clock. `None` from a
    /// server that does not tell.
    pub(super) async fn leader_clock(&self) -> Result<Option<(String, ClockSample)>, Unavailable> {
        #[derive(Deserialize)]
        struct Response {
            #[serde(default)]
            ts: String,
            cluster: Option<Group>,
        }
        #[derive(Deserialize)]
        struct Group {
            #[serde(default)]
            leader: String,
        }
        let method = format!("STREAM.INFO.{}", self.stream());
        let (within, sent) = (self.control.timing.operation, clock::boot());
        let response = api::<Response>(&self.control, &method, &json!({}), within).await;
        let (received, response) = (clock::boot(), response.map_err(|_| Unavailable)?);
        let leader = response.cluster.map(|group| group.leader).unwrap_or_default();
        Ok(since_epoch(&response.ts).map(|shown| (leader, ClockSample { sent, received, shown })))
    }
}

fn since_epoch(text: &str) -> Option<Duration> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    SystemTime::from(time).duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_message_has_nanoseconds() {
        let expected = Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(since_epoch("2023-11-14T22:13:20.123456789Z"), Some(expected));
        assert_eq!(since_epoch("2023-11-14T22:13:20Z"), Some(Duration::from_secs(1_700_000_000)));
        assert_eq!(since_epoch("yesterday"), None);
    }
}
