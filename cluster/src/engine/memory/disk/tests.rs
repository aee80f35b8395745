//! Tests of the disk: the state after a restart and after a power cut, and the results that callers get when
//! the disk fails.

mod directory;
mod faults;
mod log;
mod platter;
mod power;
mod restart;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use platter::Platter;
use tokio::sync::watch as channel;

use super::*;
use crate::engine::memory::{Memory, RecoveryStats};
use crate::engine::{
    BatchOp, Consistency, Engine, Enqueue, Kv, Precondition, Put, QueueMessage, WatchMode, WriteError,
};

const TIMING: Timing = Timing::TEST;

/// Starts an engine on this disk. The engine ends when its last clone is dropped.
fn start(platter: &Arc<Platter>) -> (Engine, RecoveryStats) {
    let link = Arc::new(channel::Sender::new(ConnectionState::Up { generation: 1 }));
    let (platter, files) = (platter.clone(), platter.open_log());
    let store = JournalStore::new(move || platter.open());
    let (disk, loaded) = Disk::start(store, files, Path::new("a test"), &TIMING, link.clone()).unwrap();
    let (memory, kept) = Memory::holding(disk, loaded, &TIMING, link);
    (Engine::Memory(memory), kept)
}

async fn put(kv: &Kv, key: &str, value: &str) -> Result<u64, WriteError> {
    kv.put(Put::new(key, value.to_owned(), Precondition::Any)).await
}

async fn value(kv: &Kv, key: &str) -> Result<Option<String>, Unavailable> {
    let entry = kv.get(key, Consistency::Latest).await?;
    Ok(entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
}

fn work_item(id: &str) -> Enqueue {
    Enqueue { id: id.to_owned(), route: "r".to_owned(), payload: id.to_owned().into(), not_before: None }
}

async fn take(engine: &Engine, wait: Duration) -> Option<QueueMessage> {
    engine.pull("r", 1, wait).await.unwrap().pop()
}
