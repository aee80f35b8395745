//! Tests of locks: their token is a revision of the engine, and their expiry a TTL.

use std::time::Duration;

use pagewire_cluster::lock::{LockError, Locks};

use crate::cluster::{Cluster, TIMING};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn a_lock_passes_from_holder_to_holder_with_growing_tokens(cluster: &Cluster) {
    let (one, other) = (cluster.process().await, cluster.process().await);
    let (one, other) = (Locks::new(&one, TIMING), Locks::new(&other, TIMING));
    let first = one.acquire("a", LONG, Duration::ZERO).await.expect("is free");
    assert_eq!(other.acquire("a", LONG, Duration::ZERO).await, Err(LockError::Locked));
    one.release("a", first.token).await.expect("is released");
    let second = other.acquire("a", SECOND, Duration::ZERO).await.expect("is free again");
    assert!(second.token > first.token, "{second:?} after {first:?}");
    let third = one.acquire("a", SECOND, LONG / 3).await.expect("the second holder lets it expire");
    assert!(third.token > second.token, "{third:?} after {second:?}");
    assert_eq!(other.renew("a", second.token, LONG).await, Err(LockError::Stale));
    one.renew("a", third.token, LONG).await.expect("is held");
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(other.acquire("a", LONG, Duration::ZERO).await, Err(LockError::Locked), "it was renewed");
}
