//! Memory with seeded faults. (under construction)
#![allow(clippy::todo, unused_variables, clippy::unused_self)]
use super::*;
use std::time::Duration;
use tokio::sync::watch as channel;

/// How often each fault happens, in 1/1000.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {}

/// Memory with seeded faults.
#[derive(Clone)]
pub struct Faulty {}

impl Faulty {
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
