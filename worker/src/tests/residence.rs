//! Objects of resident pages at several workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pagewire_cluster::engine::{Consistency, Engine};
use pagewire_cluster::id::{Address, Entity, Key, NodeNumber};
use pagewire_cluster::job::{Affinity, CallError, Jobs};
use pagewire_cluster::state::{Fence, StateStore};
use pagewire_cluster::subject::job_key;
use pagewire_cluster::wire::{PageEvent, WorkerCall};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::serial::{Serving, start_with, until};
use super::worker::jobs;
use super::{PATIENCE, memory, team};
use crate::effects::{Effects, page_fence};
use crate::handlers::{
    HandlerInput, HandlerOptions, Handlers, HandlersBuilder, ObjectRole, RunFailure, RunResult,
};
use crate::object::{ObjectStep, Seat};
use crate::residence::ObjectLimits;

/// The objects of the class `Counter` in one process, and what has happened to them, in order.
#[derive(Clone, Default)]
struct Counters {
    living: Arc<Mutex<HashMap<Key, (u64, Seat)>>>,
    told: Arc<Mutex<Vec<String>>>,
    /// The effects of the last call.
    effects: Arc<Mutex<Option<Effects>>>,
}

impl Counters {
    fn handlers(&self) -> Handlers {
        let options =
            |object| HandlerOptions { affinity: Some(Affinity::Assigned), object, ..Default::default() };
        let (class, method) = (self.clone(), self.clone());
        HandlersBuilder::default()
            .runtime("Counter", options(ObjectRole::Class), move |input| {
                let class = class.clone();
                async move { class.step(input) }
            })
            .runtime("Counter.add", options(ObjectRole::Method { concurrent: false }), move |input| {
                let method = method.clone();
                async move { method.step(input) }
            })
            .build()
    }

    fn step(&self, input: HandlerInput) -> RunResult {
        let work = input.object.expect("the work is for an object");
        let (page, mut living) = (work.seat.page(), self.living.lock().unwrap());
        if let Some(executor) = work.seat.executor() {
            assert_eq!(executor, 1);
            if !living.contains_key(&page) {
                return Err(RunFailure::NoObject);
            }
        }
        let told = |text: String| self.told.lock().unwrap().push(text);
        let value = match work.step {
            ObjectStep::Call => {
                let (count, _) = living.get_mut(&page).expect("the object lives here");
                *count += 1;
                *self.effects.lock().unwrap() = Some(input.effects);
                json!(*count)
            }
            ObjectStep::Open => {
                work.seat.take(1);
                assert!(living.insert(page, (0, work.seat)).is_none());
                told("open".to_owned());
                json!(null)
            }
            ObjectStep::Restore { why, saved } => {
                work.seat.take(1);
                let count = saved.as_ref().map_or(100, |saved| saved.get().parse().unwrap());
                assert!(living.insert(page, (count, work.seat)).is_none());
                told(format!("restore {} {count}", why.text()));
                json!(null)
            }
            ObjectStep::Away => {
                told("away".to_owned());
                json!(null)
            }
            ObjectStep::Back => {
                told("back".to_owned());
                json!(null)
            }
            ObjectStep::Save { why } => {
                told(format!("save {}", why.text()));
                living.remove(&page).map_or(json!(null), |(count, _)| json!(count))
            }
            ObjectStep::Close => {
                told("close".to_owned());
                living.remove(&page);
                json!(null)
            }
        };
        Ok(to_raw_value(&value).unwrap())
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn count(&self) -> usize {
        self.living.lock().unwrap().len()
    }

    /// The process in which the objects live dies.
    fn die(&self) {
        let dead: Vec<Seat> = self.living.lock().unwrap().drain().map(|(_, (_, seat))| seat).collect();
        dead.iter().for_each(Seat::died);
    }
}

struct Cluster {
    jobs: Jobs,
    engine: Engine,
}

impl Cluster {
    async fn new() -> Self {
        let engine = memory();
        Self { jobs: jobs(&engine).await, engine }
    }

    async fn worker(&self, counters: &Counters, limits: ObjectLimits) -> Serving {
        let before = self.jobs.workers.roster().list().len();
        let worker = start_with(&self.engine, counters.handlers(), limits).await;
        until("the worker is there", || self.jobs.workers.roster().list().len() == before + 1).await;
        worker
    }

    async fn send(&self, page: u128, user: &str, event: Option<PageEvent>) -> Result<String, CallError> {
        let call = WorkerCall {
            id: Key::random(),
            method: if event.is_some() { "Counter" } else { "Counter.add" }.into(),
            params: RawValue::NULL.to_owned(),
            user: Some(user.into()),
            page: Some(address(page)),
            session: None,
            connection: None,
            lane: None,
            class: Some("Counter".to_owned()),
            event,
            left_ms: None,
        };
        self.jobs.call(&team(), Some(user), call, PATIENCE, None).await.map(|value| value.get().to_owned())
    }

    async fn add(&self, page: u128, user: &str) -> String {
        self.send(page, user, None).await.unwrap()
    }

    /// Repeats a message until it is answered: one that goes to a killed worker is not.
    async fn add_at_last(&self, page: u128, user: &str) -> String {
        let answer = async {
            loop {
                match tokio::time::timeout(Duration::from_secs(1), self.send(page, user, None)).await {
                    Ok(Ok(value)) => return value,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.expect("another worker makes the object")
    }

    async fn tell(&self, page: u128, user: &str, event: PageEvent) {
        self.send(page, user, Some(event)).await.unwrap();
    }
}

fn address(page: u128) -> Address {
    Address { key: Key::from_bits(page), node: NodeNumber::new(7).unwrap() }
}

#[tokio::test]
async fn an_object_lives_from_the_first_message_of_its_page_to_its_end() {
    let (cluster, counters) = (Cluster::new().await, Counters::default());
    let _worker = cluster.worker(&counters, ObjectLimits::default()).await;
    cluster.tell(1, "ann", PageEvent::Wake).await;
    assert_eq!(cluster.add(1, "ann").await, "1");
    assert_eq!(cluster.add(2, "ann").await, "1", "each page has its own object, made by its first message");
    for event in [PageEvent::Away, PageEvent::Away, PageEvent::Back, PageEvent::Back] {
        cluster.tell(1, "ann", event).await;
    }
    assert_eq!(cluster.add(1, "ann").await, "2");
    cluster.tell(1, "ann", PageEvent::Close).await;
    assert_eq!(counters.told(), ["open", "open", "away", "back", "close"]);
    assert_eq!(counters.count(), 1);
    assert_eq!(cluster.add(1, "ann").await, "1", "what has ended has left nothing behind");
    cluster.tell(3, "ann", PageEvent::Away).await;
    cluster.tell(3, "ann", PageEvent::Close).await;
    assert_eq!(counters.told(), ["open"], "no object is made to be told that its page is away or has ended");
}

#[tokio::test]
async fn a_worker_that_drains_hands_its_objects_over_and_one_that_is_killed_loses_what_they_had_in_memory() {
    let (cluster, [one, two]) = (Cluster::new().await, [(); 2].map(|()| Counters::default()));
    let first = cluster.worker(&one, ObjectLimits::default()).await;
    for page in 1..=8 {
        cluster.add(page, "ann").await;
    }
    let mut second = cluster.worker(&two, ObjectLimits::default()).await;
    first.draining.send_replace(true);
    for page in 1..=8 {
        assert_eq!(cluster.add(page, "ann").await, "2", "no call fails");
    }
    until("all have left", || one.count() == 0).await;
    assert_eq!(two.count(), 8);
    assert!(two.told().iter().all(|told| told.starts_with("restore ") && told.ends_with(" 1")));
    drop(first);
    // killed: nothing of it is written any more
    second.tasks.abort_all();
    drop(second);
    let three = Counters::default();
    let _third = start_with(&cluster.engine, three.handlers(), ObjectLimits::default()).await;
    assert_eq!(cluster.add_at_last(1, "ann").await, "101");
    assert_eq!(three.told(), ["restore lost 100"]);
}

#[tokio::test]
async fn an_object_whose_executor_has_died_is_made_again_at_once() {
    let (cluster, counters) = (Cluster::new().await, Counters::default());
    let _worker = cluster.worker(&counters, ObjectLimits::default()).await;
    cluster.add(1, "ann").await;
    counters.die();
    until("it lives again", || counters.count() == 1).await;
    assert_eq!(counters.told(), ["open", "restore lost 100"]);
    assert_eq!(cluster.add(1, "ann").await, "101");
}

#[tokio::test]
async fn an_object_moves_with_the_login_of_its_page() {
    let (cluster, counters) = (Cluster::new().await, Counters::default());
    let _worker = cluster.worker(&counters, ObjectLimits::default()).await;
    cluster.add(1, "ann").await;
    assert_eq!(cluster.add(1, "bob").await, "2");
    assert_eq!(counters.told(), ["open", "save user", "restore user 1"]);
}

#[tokio::test]
async fn objects_that_were_used_longest_ago_make_room_and_unused_ones_are_put_aside() {
    let (cluster, counters) = (Cluster::new().await, Counters::default());
    let limits = ObjectLimits { most: Some(2), idle: None };
    let worker = cluster.worker(&counters, limits).await;
    for page in [1, 2, 1, 3, 1] {
        cluster.add(page, "ann").await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(counters.told(), ["open", "open", "save full", "open"]);
    assert_eq!(cluster.add(2, "ann").await, "2", "what was put aside comes back");
    assert_eq!(counters.told(), ["save full", "restore full 1"]);
    worker.draining.send_replace(true);
    until("all have left", || counters.count() == 0).await;
    drop(worker);
    let limits = ObjectLimits { most: None, idle: Some(Duration::from_millis(400)) };
    let _worker = cluster.worker(&counters, limits).await;
    assert_eq!(cluster.add(1, "ann").await, "4");
    until("it is put aside", || counters.count() == 0).await;
    assert_eq!(cluster.add(1, "ann").await, "5");
}

#[tokio::test]
async fn an_object_that_has_left_has_no_effects_any_more_and_its_late_writes_are_refused() {
    let (cluster, [one, two]) = (Cluster::new().await, [(); 2].map(|()| Counters::default()));
    let mut first = cluster.worker(&one, ObjectLimits::default()).await;
    cluster.add(1, "ann").await;
    let (states, page) = (StateStore::new(&cluster.engine), Entity::Page(Key::from_bits(1)));
    let effects = one.effects.lock().unwrap().clone().unwrap();
    assert_eq!(
        effects.set(&page, "a", json!(1)).await.err().map(|error| error.code).as_deref(),
        Some("stale")
    );
    let fence = fence_of(&cluster, Key::from_bits(1)).await;
    // paused: it renews its lease no more, and goes on later
    first.tasks.abort_all();
    let _second = start_with(&cluster.engine, two.handlers(), ObjectLimits::default()).await;
    cluster.add_at_last(1, "ann").await;
    assert_eq!(two.told(), ["restore lost 100"]);
    let late = states.stamp(&page, fence).await;
    assert_eq!(late.map_err(|error| error.code().text()), Err("stale"));
}

/// Returns the fence of the object, which a write that is under way carries.
async fn fence_of(cluster: &Cluster, page: Key) -> Fence {
    let key = job_key::resident("p", page);
    let row = cluster.jobs.records.store.get(&key, Consistency::Latest).await;
    page_fence("p", page, row.unwrap().unwrap().rev)
}
