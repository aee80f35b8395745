//! The streams of a cluster.
//!
//! Owns: their names, subjects, configuration and creation. Never: the content of their messages.
//!
//! Avoids: the bucket configuration of async-nats has no `max_consumers`, and since NATS 2.15 a stream without it
//! accepts at most 1,000 consumers (nats.net#1256). The configuration is therefore sent as raw JSON.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{JetStreamFailure, STREAM_EXISTS, STREAM_NOT_FOUND, api};
use super::connect::jitter;
use super::connection::{NatsConnection, RequestFailure};
use crate::engine::{Bucket, ConnectionState};
use crate::subject::{SubjectToken, Subjects};
use crate::timing::NATS_START;

/// The time for which a delete marker remains. Longer than any outage after which a watch resumes without a
/// full comparison with the leader.
pub(super) const MARKER_TTL: Duration = Duration::from_secs(15 * 60);
/// Each watch is a consumer. Enough for eight watches on each of 99 nodes, and for consumers that are being
/// replaced.
const MAX_CONSUMERS: u32 = 2000;

/// The names of one cluster's streams and subjects.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    cluster: SubjectToken,
    /// The prefix of the subjects of all work items.
    queue_prefix: String,
    replicas: usize,
}

/// The state of a stream as its leader reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct StreamInfo {
    /// The creation time; it changes when the stream was deleted and created again.
    pub(super) created: String,
    pub(super) state: StreamState,
}

/// The part of a stream's state that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct StreamState {
    pub(super) last_seq: u64,
}

impl Streams {
    pub(super) fn new(cluster: &str, replicas: usize) -> Self {
        let queue_prefix = format!("{}.", Subjects::new(cluster).queue());
        Self { cluster: SubjectToken::new(cluster), queue_prefix, replicas }
    }

    /// Returns the name of a bucket's stream.
    pub(super) fn bucket(&self, bucket: Bucket) -> String {
        format!("KV_pw_{}_{}", self.cluster, bucket.name())
    }

    /// Returns the subject prefix of a bucket's keys. Keys are validated, so they stay below it.
    pub(super) fn keys(&self, bucket: Bucket) -> String {
        self.key(bucket, "")
    }

    /// Returns the subject of a key.
    pub(super) fn key(&self, bucket: Bucket, key: &str) -> String {
        ["$KV.pw_", self.cluster.as_str(), "_", bucket.name(), ".", key].concat()
    }

    /// Returns the name of the queue's stream.
    pub(super) fn jobs(&self) -> String {
        format!("PW_{}_jobs", self.cluster)
    }

    /// Returns the prefix of the subjects of all work items.
    pub(super) fn queue_prefix(&self) -> &str {
        &self.queue_prefix
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
            "subjects": [format!("{}>", self.queue_prefix())],
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

    /// Creates the missing streams. Other processes may do the same concurrently. A NATS cluster that has
    /// just started does not reply at all, so requests have a short time-out and are repeated for
    /// [`NATS_START`].
    pub(super) async fn ensure_all(&self, connection: &NatsConnection) -> Result<(), String> {
        let deadline = Instant::now() + NATS_START;
        for (name, config) in
            Bucket::ALL.map(|bucket| self.bucket_config(bucket)).into_iter().chain([self.jobs_config()])
        {
            loop {
                let error = match ensure(connection, &name, &config).await {
                    Ok(_) => break,
                    Err(error) => error,
                };
                let passes = match &error {
                    JetStreamFailure::Refusal(refusal) => refusal.passes_at_start(),
                    JetStreamFailure::Failure(_) | JetStreamFailure::InvalidResponse => true,
                };
                if !passes || Instant::now() >= deadline {
                    return Err(describe(&name, error));
                }
                tokio::time::sleep(jitter(connection.timing.operation / 10)).await;
            }
        }
        Ok(())
    }

    /// Returns the state of a bucket's stream from its leader. Creates the stream if it is missing.
    pub(super) async fn ensure_bucket(
        &self,
        connection: &NatsConnection,
        bucket: Bucket,
    ) -> Result<StreamInfo, JetStreamFailure> {
        let (name, config) = self.bucket_config(bucket);
        ensure(connection, &name, &config).await
    }
}

/// Creates missing streams after every reconnect, because NATS may have lost its data.
pub(super) async fn maintain(streams: Streams, control: NatsConnection) {
    let mut link = control.link.clone();
    let mut seen = *link.borrow_and_update();
    while let Ok(now) = link.wait_for(|link| *link != seen).await.map(|link| *link) {
        seen = now;
        if let ConnectionState::Up { .. } = now
            && let Err(reason) = streams.ensure_all(&control).await
        {
            tracing::error!(reason, "the streams of this cluster are not available");
        }
    }
}

async fn ensure(
    connection: &NatsConnection,
    name: &str,
    config: &Value,
) -> Result<StreamInfo, JetStreamFailure> {
    let within = connection.timing.operation / 3;
    let info = format!("STREAM.INFO.{name}");
    match api(connection, &info, &json!({}), within).await {
        Err(JetStreamFailure::Refusal(refusal)) if refusal.err_code == STREAM_NOT_FOUND => {}
        known => return known,
    }
    match api(connection, &format!("STREAM.CREATE.{name}"), config, within).await {
        // a process of another release has created the stream concurrently
        Err(JetStreamFailure::Refusal(refusal)) if refusal.err_code == STREAM_EXISTS => {
            api(connection, &info, &json!({}), within).await
        }
        created => created,
    }
}

fn describe(stream: &str, error: JetStreamFailure) -> String {
    match error {
        JetStreamFailure::Refusal(refusal) => format!("stream {stream}: {}", refusal.description),
        JetStreamFailure::Failure(RequestFailure::NoResponder | RequestFailure::Silence) => {
            "JetStream does not respond: check that it is enabled and that its cluster has a leader"
                .to_owned()
        }
        JetStreamFailure::Failure(failure) => format!("stream {stream}: {failure:?}"),
        JetStreamFailure::InvalidResponse => format!("stream {stream}: invalid response"),
    }
}

/// Converts a duration to nanoseconds, the unit of JetStream.
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
