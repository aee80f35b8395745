//! The streams of a cluster.
//!
//! Owns: their names, subjects and configuration, and that they exist. Never: what is written to them.
//!
//! They are created raw: the library's own bucket configuration has no `max_consumers`, and since 2.15 a stream
//! without it takes 1,000 consumers at most.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{ApiError, STREAM_EXISTS, STREAM_NOT_FOUND, api};
use super::connect::jitter;
use super::connection::{Connection, Failure};
use crate::engine::{Bucket, Link};
use crate::subject::{SubjectToken, Subjects};

/// How long the mark of a deletion stays. Longer than any outage after which a watch resumes without a full
/// comparison with the leader.
pub(super) const MARKER_TTL: Duration = Duration::from_secs(15 * 60);
/// A watch is a consumer: eight for each of 99 nodes, and room for those that are being replaced.
const MAX_CONSUMERS: u32 = 2000;

/// The names of one cluster's streams and subjects.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    cluster: SubjectToken,
    /// What stands before every hint.
    hints: String,
    replicas: usize,
}

/// What the leader says about a stream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct StreamInfo {
    /// Changes when the stream was deleted and created again.
    pub(super) created: String,
    pub(super) state: StreamState,
}

/// The part of a stream's state that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct StreamState {
    pub(super) last_seq: u64,
}

impl Streams {
    pub(super) fn new(cluster: &str, replicas: usize) -> Self {
        let hints = format!("{}.", Subjects::new(cluster).queue());
        Self { cluster: SubjectToken::new(cluster), hints, replicas }
    }

    /// The stream of a bucket.
    pub(super) fn bucket(&self, bucket: Bucket) -> String {
        format!("KV_pw_{}_{}", self.cluster, bucket.name())
    }

    /// What stands before every key of a bucket; keys stay inside because they are checked.
    pub(super) fn keys(&self, bucket: Bucket) -> String {
        self.key(bucket, "")
    }

    /// The subject of a key.
    pub(super) fn key(&self, bucket: Bucket, key: &str) -> String {
        ["$KV.pw_", self.cluster.as_str(), "_", bucket.name(), ".", key].concat()
    }

    /// The stream of the queue.
    pub(super) fn jobs(&self) -> String {
        format!("PW_{}_jobs", self.cluster)
    }

    /// What stands before every hint.
    pub(super) fn hints(&self) -> &str {
        &self.hints
    }

    fn bucket_config(&self, bucket: Bucket) -> (String, Value) {
        let name = self.bucket(bucket);
        let config = json!({
            "name": name,
            "subjects": [format!("{}>", self.keys(bucket))],
            "storage": "file",
            "num_replicas": self.replicas,
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_consumers": MAX_CONSUMERS,
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "allow_msg_ttl": true,
            "subject_delete_marker_ttl": nanos(MARKER_TTL),
            "allow_atomic": true,
            "deny_delete": true,
        });
        (name, config)
    }

    fn jobs_config(&self) -> (String, Value) {
        let name = self.jobs();
        let config = json!({
            "name": name,
            "subjects": [format!("{}>", self.hints())],
            "storage": "file",
            "num_replicas": self.replicas,
            "retention": "workqueue",
            "discard": "old",
            "max_consumers": MAX_CONSUMERS,
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "allow_msg_schedules": true,
        });
        (name, config)
    }

    /// Creates what is missing. Other processes may do the same at the same time, and a NATS cluster that has
    /// just started answers nothing at all: short questions, repeated until `deadline`.
    pub(super) async fn ensure_all(&self, connection: &Connection, deadline: Instant) -> Result<(), String> {
        for (name, config) in
            Bucket::ALL.map(|bucket| self.bucket_config(bucket)).into_iter().chain([self.jobs_config()])
        {
            loop {
                let error = match ensure(connection, &name, &config).await {
                    Ok(_) => break,
                    Err(error) => error,
                };
                let passes = match &error {
                    ApiError::Refusal(refusal) => {
                        matches!(refusal.code, 429 | 503) && refusal.err_code != 10076
                    }
                    ApiError::Failure(_) | ApiError::Nonsense => true,
                };
                if !passes || Instant::now() >= deadline {
                    return Err(describe(&name, error));
                }
                tokio::time::sleep(jitter(connection.timing.operation / 10)).await;
            }
        }
        Ok(())
    }

    /// The stream of a bucket as its leader knows it; created if it is missing.
    pub(super) async fn ensure_bucket(
        &self,
        connection: &Connection,
        bucket: Bucket,
    ) -> Result<StreamInfo, ApiError> {
        let (name, config) = self.bucket_config(bucket);
        ensure(connection, &name, &config).await
    }
}

/// After every reconnect: a NATS that came back empty gets its streams again.
pub(super) async fn keep(streams: Streams, control: Connection) {
    let mut link = control.link.clone();
    let mut seen = *link.borrow_and_update();
    while let Ok(now) = link.wait_for(|link| *link != seen).await.map(|link| *link) {
        seen = now;
        if let Link::Up { .. } = now {
            let deadline = Instant::now() + control.timing.operation * 6;
            if let Err(reason) = streams.ensure_all(&control, deadline).await {
                tracing::error!(reason, "the streams of this cluster are not available");
            }
        }
    }
}

async fn ensure(connection: &Connection, name: &str, config: &Value) -> Result<StreamInfo, ApiError> {
    let within = connection.timing.operation / 3;
    let info = format!("STREAM.INFO.{name}");
    match api(connection, &info, &json!({}), within).await {
        Err(ApiError::Refusal(refusal)) if refusal.err_code == STREAM_NOT_FOUND => {}
        known => return known,
    }
    match api(connection, &format!("STREAM.CREATE.{name}"), config, within).await {
        // another process of another release was first
        Err(ApiError::Refusal(refusal)) if refusal.err_code == STREAM_EXISTS => {
            api(connection, &info, &json!({}), within).await
        }
        created => created,
    }
}

fn describe(stream: &str, error: ApiError) -> String {
    match error {
        ApiError::Refusal(refusal) => format!("stream {stream}: {}", refusal.description),
        ApiError::Failure(Failure::NoResponder | Failure::Silence) => {
            "JetStream does not answer: is it enabled, and does its cluster have a leader?".to_owned()
        }
        ApiError::Failure(failure) => format!("stream {stream}: {failure:?}"),
        ApiError::Nonsense => format!("stream {stream}: an answer that is not one"),
    }
}

/// JetStream counts in nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_with_awkward_names_never_share_a_stream() {
        let names = ["", "a", "a_nodes", "a.b", "*", "A"];
        let streams: std::collections::HashSet<_> = names
            .iter()
            .flat_map(|name| Bucket::ALL.map(|bucket| Streams::new(name, 1).bucket(bucket)))
            .collect();
        assert_eq!(streams.len(), names.len() * Bucket::ALL.len());
        assert!(streams.iter().all(|name| !name.contains(['.', '*', '>', ' ', '/'])));
    }
}
