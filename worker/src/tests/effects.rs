//! The effects of handlers: refused when their work does not stand any more.

use std::time::Duration;

use pagewire_cluster::id::{Entity, Scope};
use pagewire_cluster::state::StateStore;
use serde_json::json;
use serde_json::value::RawValue;

use super::worker::{Log, Worker, jobs};
use super::{PATIENCE, memory};
use crate::effects::Effects;

fn ann() -> Entity {
    Entity::User("ann".into())
}

async fn remembered(states: &StateStore) -> Option<serde_json::Value> {
    states.get(&ann(), &"a".parse().unwrap()).await.unwrap().value
}

/// Asserts that every effect is refused.
async fn refused(effects: &Effects) {
    let message = RawValue::from_string("1".to_owned()).unwrap();
    let outcomes = [
        effects.set(&ann(), "a", json!("late")).await.err(),
        effects.get(&ann(), "a").await.err(),
        effects.push(Scope::User("ann".into()), message).await.err(),
    ];
    for outcome in outcomes {
        assert_eq!(outcome.map(|error| error.code).as_deref(), Some("stale"));
    }
}

#[tokio::test]
async fn work_has_effects_until_it_ends() {
    let (engine, log) = (memory(), Log::default());
    let worker = Worker::start(&engine, &log).await;
    let states = StateStore::new(&engine);
    let standing = worker.supervisor.begin(None, None).await.unwrap();
    let effects = standing.effects();
    effects.set(&ann(), "a", json!(1)).await.unwrap();
    assert_eq!(effects.get(&ann(), "a").await.unwrap().value, Some(json!(1)));
    drop(standing);
    refused(&effects).await;
    assert_eq!(remembered(&states).await, Some(json!(1)));
    let none = Effects::none().set(&ann(), "a", json!(2)).await;
    assert_eq!(none.unwrap_err().code, "unsupported");
}

#[tokio::test]
async fn a_worker_without_its_lease_has_no_effect_and_the_next_owner_has_stamped_the_tree_before_its_first_work()
 {
    let (engine, log) = (memory(), Log::default());
    let jobs = jobs(&engine).await;
    let first = Worker::start(&engine, &log).await;
    let states = StateStore::new(&engine);
    assert!(
        first.supervisor.begin(Some("ann"), Some("ann")).await.is_err(),
        "only the owner of a user works for the user"
    );
    first.acquire(&jobs, "ann").await;
    let standing = first.supervisor.begin(Some("ann"), Some("ann")).await.unwrap();
    let effects = standing.effects();
    effects.set(&ann(), "a", json!("first")).await.unwrap();
    let fence = effects.fence().unwrap();
    let any = first.supervisor.begin(None, None).await.unwrap();
    assert_eq!(any.effects().fence(), Ok(None), "`any` work has no owner");
    first.keeper.abort();
    let lapsed = async {
        while effects.fence().is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, lapsed).await.expect("the lease runs out");
    refused(&effects).await;
    refused(&any.effects()).await;
    drop(first);
    let second = Worker::start(&engine, &log).await;
    second.acquire(&jobs, "ann").await;
    let _standing = second.supervisor.begin(Some("ann"), Some("ann")).await.unwrap();
    // the write was checked before the pause, and goes on now
    let late = states.stamp(&ann(), fence.unwrap()).await;
    assert_eq!(late.map_err(|error| error.code().text()), Err("stale"));
    assert_eq!(remembered(&states).await, Some(json!("first")));
}
