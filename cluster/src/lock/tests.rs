//! Tests of locks on the embedded engine and on the faulty one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::engine::{Faults, Faulty, Memory};

const TIMING: Timing = Timing::TEST;
const TTL: Duration = Duration::from_secs(60);
const NO_WAIT: Duration = Duration::ZERO;

fn locks(engine: &Engine) -> Locks {
    Locks::new(engine, TIMING)
}

#[tokio::test]
async fn a_lock_has_one_holder_and_each_holder_a_larger_token() {
    let engine = Engine::Memory(Memory::with_timing(&TIMING));
    let [one, other] = [locks(&engine), locks(&engine)];
    let first = one.acquire("a", TTL, NO_WAIT).await.unwrap();
    assert_eq!(other.acquire("a", TTL, NO_WAIT).await, Err(LockError::Locked));
    assert_eq!(one.acquire("a", TTL, NO_WAIT).await, Err(LockError::Locked), "nor for the same process");
    assert!(other.acquire("b", TTL, NO_WAIT).await.is_ok(), "another lock");
    let renewed = other.renew("a", first.token, TTL).await.unwrap();
    assert_eq!(renewed.token, first.token, "a renewal keeps the token");
    one.release("a", first.token).await.unwrap();
    let second = other.acquire("a", TTL, NO_WAIT).await.unwrap();
    assert!(second.token > first.token);
    assert_eq!(one.renew("a", first.token, TTL).await, Err(LockError::Stale));
    one.release("a", first.token).await.unwrap();
    assert!(other.renew("a", second.token, TTL).await.is_ok(), "an earlier holder releases nothing");
}

#[tokio::test]
async fn a_lock_that_is_not_renewed_goes_to_the_next_one_that_waits() {
    let engine = Engine::Memory(Memory::with_timing(&TIMING));
    let locks = locks(&engine);
    let first = locks.acquire("a", Duration::from_secs(1), NO_WAIT).await.unwrap();
    let second = locks.acquire("a", TTL, LOCK_WAIT).await.unwrap();
    assert!(second.token > first.token);
    assert_eq!(locks.renew("a", first.token, TTL).await, Err(LockError::Stale));
}

#[tokio::test]
async fn a_release_lets_the_next_one_in_that_waits() {
    let engine = Engine::Memory(Memory::with_timing(&TIMING));
    let locks = locks(&engine);
    let first = locks.acquire("a", TTL, NO_WAIT).await.unwrap();
    let waits = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire("a", TTL, LOCK_WAIT).await }
    });
    locks.release("a", first.token).await.unwrap();
    assert!(waits.await.unwrap().unwrap().token > first.token);
}

#[tokio::test]
async fn names_and_times_have_limits() {
    let engine = Engine::Memory(Memory::with_timing(&TIMING));
    let locks = locks(&engine);
    for name in ["", &"x".repeat(201)] {
        assert_eq!(locks.acquire(name, TTL, NO_WAIT).await, Err(LockError::Name));
    }
    for ms in [0, 999, 3_600_001] {
        let ttl = Duration::from_millis(ms);
        assert_eq!(locks.acquire("a", ttl, NO_WAIT).await, Err(LockError::Ttl));
        assert_eq!(locks.renew("a", 1, ttl).await, Err(LockError::Ttl));
    }
    let wait = LOCK_WAIT + Duration::from_millis(1);
    assert_eq!(locks.acquire("a", TTL, wait).await, Err(LockError::Wait));
    let odd = locks.acquire("*.a b/ü", Duration::from_millis(1500), NO_WAIT).await.unwrap();
    assert!(odd.ttl <= Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn a_holder_recognises_its_lock_although_the_reply_was_lost() {
    for seed in 0..200 {
        let memory = Memory::with_timing(&TIMING);
        let faults = Faults { unknown: 500, hidden_conflict: 500, ..Faults::default() };
        let locks = locks(&Engine::Faulty(Faulty::new(memory, seed, faults)));
        let held = locks.acquire("a", TTL, NO_WAIT).await;
        let held = held.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(locks.acquire("a", TTL, NO_WAIT).await, Err(LockError::Locked), "seed {seed}");
        let renewed = locks.renew("a", held.token, TTL).await;
        assert_eq!(renewed.map(|renewed| renewed.token), Ok(held.token), "seed {seed}");
        assert_eq!(locks.release("a", held.token).await, Ok(()), "seed {seed}");
        assert_eq!(locks.renew("a", held.token, TTL).await, Err(LockError::Stale), "seed {seed}");
    }
}

/// Each holder counts what runs while it holds the lock. A lost reply to an acquisition may leave a lock without a holder,
/// which blocks the others until its TTL is over, but never two holders.
#[tokio::test(start_paused = true)]
async fn at_most_one_holds_a_lock_and_tokens_grow_whatever_replies_are_lost() {
    for seed in 0..40 {
        let memory = Memory::with_timing(&TIMING);
        let (inside, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut holders = JoinSet::new();
        for process in 0..4 {
            let faults =
                Faults { unknown: 150, severed: 50, cut: 20, hidden_conflict: 200, ..Faults::default() };
            let engine = Engine::Faulty(Faulty::new(memory.clone(), seed * 4 + process, faults));
            let (locks, inside, last) = (locks(&engine), inside.clone(), last.clone());
            holders.spawn(async move {
                let mut acquired = 0;
                for _ in 0..30 {
                    // long enough that no holder outlives its lock here
                    let Ok(held) = locks.acquire("a", Duration::from_secs(20), LOCK_WAIT).await else {
                        continue;
                    };
                    acquired += 1;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "seed {seed}: two holders");
                    assert!(
                        last.swap(held.token, Ordering::SeqCst) < held.token,
                        "seed {seed}: a smaller token"
                    );
                    sleep(Duration::from_millis(1)).await;
                    let renewed = locks.renew("a", held.token, Duration::from_secs(20)).await;
                    assert_ne!(renewed, Err(LockError::Stale), "seed {seed}: a lock is lost");
                    inside.fetch_sub(1, Ordering::SeqCst);
                    let _ = locks.release("a", held.token).await;
                }
                acquired
            });
        }
        let acquired = holders.join_all().await;
        assert!(acquired.iter().all(|times| *times > 0), "seed {seed}: {acquired:?}");
    }
}
