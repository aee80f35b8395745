//! Tests of the clock of the cluster, which is that of the servers.

use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::engine::{Bucket, Precondition, Put};

use crate::server::{Server, Trio};

/// The servers run on this machine, so all clocks are the same; this covers a slow machine.
const SLACK_MS: u64 = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_the_servers_is_known_from_the_first_moment_and_from_each_write() {
    let server = Server::start();
    let engine = server.engine().await;
    let clock = engine.clock();
    assert!(clock.is_known());
    let kv = engine.kv(Bucket::Nodes);
    for number in 0..5 {
        let sent = clock::boot();
        let rev = kv.put(Put::new(format!("k.{number}"), "", Precondition::Absent)).await.expect("writes");
        kv.sample_clock(rev, sent, clock::boot()).await.expect("a sample");
        assert!(clock.offset_ms().expect("an offset").unsigned_abs() < SLACK_MS);
        assert!(clock.now_ms().abs_diff(clock::unix_ms()) < SLACK_MS);
    }
    assert_eq!(clock.until(clock.now_ms()), Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clocks_of_three_servers_are_compared() {
    let trio = Trio::start();
    assert_eq!(trio.engine().await.server_offsets().await, Ok(Vec::new()));
}
