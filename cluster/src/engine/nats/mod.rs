//! The NATS engine: the only place that names `async_nats`. (under construction)
#![allow(clippy::todo, unused_variables, clippy::unused_self)]
use super::*;
use std::time::Duration;
use tokio::sync::watch as channel;

/// How to reach the cluster's NATS.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://host:port`, several of one cluster.
    pub urls: Vec<String>,
    /// Replicas of streams and buckets: 1 or 3.
    pub replicas: usize,
    /// The cluster's name: several clusters share one NATS.
    pub cluster: String,
    /// Shown in NATS's own monitoring.
    pub client_name: String,
    /// Time-outs.
    pub timing: crate::timing::Timing,
}

/// Why a process cannot use this NATS.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server is too old.
    #[error(
        "NATS server {found} is too old: pagewire needs 2.12.12 or later of 2.12, 2.14.3 or later of 2.14, or 2.15 and up"
    )]
    Version {
        /// What the server says.
        found: String,
    },
    /// Could not be reached or refused us.
    #[error("cannot use NATS at {urls}: {reason}")]
    Unreachable {
        /// Where we tried.
        urls: String,
        /// What happened.
        reason: String,
    },
}

/// A NATS cluster with JetStream.
#[derive(Clone)]
pub struct Nats {}

impl Nats {
    /// Connects, checks the server's version, creates missing streams.
    pub async fn connect(options: NatsOptions) -> Result<Self, ConnectError> {
        todo!()
    }
    pub(super) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        todo!()
    }
    pub(super) async fn subscribe(
        &self,
        pattern: &str,
        group: Option<&str>,
        max_bytes: usize,
    ) -> Result<Subscription, Down> {
        todo!()
    }
    pub(super) async fn request(&self, message: Message, within: Duration) -> Result<Message, RequestError> {
        todo!()
    }
    pub(super) async fn request_many(
        &self,
        message: Message,
        within: Duration,
    ) -> Result<Replies, RequestError> {
        todo!()
    }
    pub(super) fn link(&self) -> channel::Receiver<Link> {
        todo!()
    }
    pub(super) async fn get(
        &self,
        bucket: Bucket,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Entry>, Down> {
        todo!()
    }
    pub(super) async fn list(&self, bucket: Bucket, prefix: &str) -> Result<Vec<Entry>, Down> {
        todo!()
    }
    pub(super) async fn scan(
        &self,
        bucket: Bucket,
        prefix: &str,
        after_rev: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Down> {
        todo!()
    }
    pub(super) async fn put(&self, bucket: Bucket, put: Put) -> Result<u64, WriteError> {
        todo!()
    }
    pub(super) async fn delete(&self, bucket: Bucket, key: &str, expect: Expect) -> Result<(), WriteError> {
        todo!()
    }
    pub(super) async fn commit(&self, bucket: Bucket, batch: Vec<Batch>) -> Result<u64, WriteError> {
        todo!()
    }
    pub(super) async fn watch(&self, bucket: Bucket, prefix: &str, mode: WatchMode) -> Result<Watch, Down> {
        todo!()
    }
    pub(super) async fn push(&self, push: Push) -> Result<(), QueueError> {
        todo!()
    }
    pub(super) async fn pull(
        &self,
        route: &str,
        free_slots: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        todo!()
    }
    pub(super) async fn done(&self, delivery: &Delivery) -> Result<(), QueueError> {
        todo!()
    }
    pub(super) async fn retry(&self, delivery: &Delivery, after: Duration) -> Result<(), QueueError> {
        todo!()
    }
    pub(super) async fn touch(&self, delivery: &Delivery) -> Result<(), QueueError> {
        todo!()
    }
    pub(super) async fn depth(&self, route: &str) -> Result<u64, QueueError> {
        todo!()
    }
}
