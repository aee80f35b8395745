//! Tests of a power cut at any moment.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::clock;

const WRITERS: usize = 8;
const CUTS: usize = 40;

/// Acknowledged writes: keys and their revisions.
type Acknowledged = Arc<Mutex<BTreeMap<String, u64>>>;

async fn write(engine: Engine, writer: usize, acknowledged: Acknowledged) {
    let kv = engine.kv(Bucket::Jobs);
    for number in 0.. {
        let key = format!("w{writer}.{}", number % 50);
        let value = vec![7; 200 * writer];
        let Ok(rev) = kv.put(Put::new(key.clone(), value, Precondition::Any)).await else { return };
        acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(key, rev);
    }
}

/// Loads the rows of a disk as an engine would.
fn found(platter: &Arc<Platter>) -> (u64, BTreeMap<String, u64>) {
    let (platter, files) = (platter.clone(), platter.open_log());
    let (loaded, _) = JournalStore::new(move || platter.open())
        .load(clock::unix_ms(), &files)
        .expect("a power cut leaves a readable store");
    let rows = loaded.rows.into_iter().map(|row| (row.entry.key, row.entry.rev)).collect();
    (loaded.revisions[Bucket::Jobs as usize], rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_moment_loses_nothing_that_was_answered() {
    let (platter, acknowledged) = (Arc::default(), Acknowledged::default());
    let (engine, _) = start(&platter);
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write(engine.clone(), number, acknowledged.clone())))
        .collect();
    let mut rng = StdRng::seed_from_u64(5);
    for cut in 0..CUTS {
        let enough =
            || acknowledged.lock().unwrap().values().max().is_some_and(|newest| *newest > cut as u64 * 50);
        while !enough() {
            tokio::task::yield_now().await;
        }
        let before = acknowledged.lock().unwrap().clone();
        let share = rng.random_range(0..=100);
        let (revision, rows) = found(&platter.cut(|| rng.random_range(0..100) < share));
        for (key, rev) in &before {
            assert!(rows.get(key).is_some_and(|found| found >= rev), "cut {cut}: {key} at {rev} is lost");
        }
        let newest = before.values().max().copied().unwrap_or_default();
        assert!(revision >= newest, "cut {cut}: revision {revision} is older than {newest}");
        assert!(rows.values().all(|rev| *rev <= revision), "cut {cut}: half a transaction");
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
}
