use std::time::Duration;

use super::*;
use crate::engine::Memory;

const AGES: Ages = Ages { signs: Duration::from_secs(3600), kept: Duration::from_secs(3600) };

async fn two() -> (Keyring, Keyring) {
    let memory = Memory::new();
    let load =
        async |memory: &Memory| Keyring::load(&Engine::Memory(memory.new_process_handle())).await.unwrap();
    (load(&memory).await, load(&memory).await)
}

#[tokio::test]
async fn a_signature_of_a_new_key_is_accepted_where_it_has_not_been_heard_of() {
    let (one, two) = two().await;
    let old = one.sign(b"a");
    assert_eq!(one.rotate(AGES).await.unwrap(), 2);
    let new = one.sign(b"a");
    assert!(new.starts_with("2."), "{new}");
    assert!(two.verify(b"a", &new).await.unwrap(), "the other process reads the ring");
    assert!(two.verify(b"a", &old).await.unwrap() && one.verify(b"a", &old).await.unwrap());
    assert!(!two.verify(b"b", &new).await.unwrap() && !two.verify(b"a", "7.AAAA").await.unwrap());
}

#[tokio::test]
async fn a_process_that_follows_signs_with_the_new_key_without_being_asked() {
    let (one, two) = two().await;
    tokio::spawn(two.follow().await.unwrap());
    one.rotate(AGES).await.unwrap();
    let received = async {
        while !two.sign(b"a").starts_with("2.") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), received).await.unwrap();
}

#[tokio::test]
async fn rotations_at_the_same_time_lose_no_key() {
    let (one, two) = two().await;
    let signatures = [one.sign(b"a"), two.sign(b"a")];
    let (first, second) = tokio::join!(one.rotate(AGES), two.rotate(AGES));
    let mut keys = [first.unwrap(), second.unwrap()];
    keys.sort_unstable();
    assert_eq!(keys, [2, 3]);
    for signature in [signatures[0].clone(), signatures[1].clone(), one.sign(b"a"), two.sign(b"a")] {
        assert!(one.verify(b"a", &signature).await.unwrap() && two.verify(b"a", &signature).await.unwrap());
    }
}

#[tokio::test]
async fn a_key_that_no_token_needs_is_dropped_and_its_signatures_are_refused() {
    let (one, two) = two().await;
    let old = one.sign(b"a");
    let ages = Ages { kept: Duration::ZERO, ..AGES };
    one.rotate(ages).await.unwrap();
    let dropped = async {
        // a key is kept to the end of its second
        while !one.maintain(ages).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), dropped).await.unwrap();
    assert!(!one.verify(b"a", &old).await.unwrap());
    tokio::spawn(two.follow().await.unwrap());
    let received = async {
        while two.verify(b"a", &old).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), received).await.unwrap();
}
