//! What is not simulated: a page, the view of all records, and an operator.
//!
//! Owns: how these see and change the cluster, without faults. Never: the rules (`history`, `observed`).

use std::time::Duration;

use pagewire_cluster::clock;
use pagewire_cluster::engine::{Bucket, BusEvent, Engine, Memory, Message, WatchEvent, WatchMode};
use pagewire_cluster::id::{Address, Key, NodeNumber};
use pagewire_cluster::job::Record;
use pagewire_cluster::rollout::{LaneSpec, RolloutUpdate, Rollouts, Weight};
use pagewire_cluster::subject::{Subjects, job_key};
use pagewire_cluster::wire::{self, JobUpdate, PeerRequest, PushCounts};
use tokio::time::sleep;

use super::super::breaks::number;
use super::observed::Observed;
use super::world::CANARY;

/// Changes the share of the canary, until the engine has confirmed it.
pub(super) async fn set_weight(rollouts: Rollouts, percent: u8) {
    let weight = Weight::of_percent(percent.into()).unwrap();
    let lane = LaneSpec::new(CANARY, weight);
    let wanted =
        RolloutUpdate { lanes: Some(vec![lane]), salt: Some("s".into()), ..RolloutUpdate::default() };
    while rollouts.change("p", None, wanted.clone(), "sim").await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
}

/// A node without faults that has one page.
pub(super) async fn page(memory: &Memory, observed: &Observed) -> Address {
    let engine = Engine::Memory(memory.new_process_handle());
    let page = Address { key: Key::random(), node: NodeNumber::new(1).unwrap() };
    let mut inbox = engine.subscribe(&Subjects::new("c").page(page.node), None, 1 << 20).await.unwrap();
    let observed = observed.clone();
    tokio::spawn(async move {
        while let Some(received) = inbox.next().await {
            let BusEvent::Message(message) = received else { continue };
            let Some(PeerRequest::Job(note)) = wire::decode_request(&message.payload) else { continue };
            if let JobUpdate::Ended(ending) = note.news {
                observed.lock().told.entry(note.job).or_default().push(ending.state);
            }
            let answer = wire::encode_response(Some(PushCounts { reached: 1, held: 0 }));
            let _ = engine.publish(Message::new(message.reply.unwrap(), answer)).await;
        }
    });
    page
}

/// Adds every version of every record to the history.
pub(super) async fn watch_records(memory: &Memory, observed: &Observed) {
    let engine = Engine::Memory(memory.new_process_handle());
    let mut watch = engine.kv(Bucket::Jobs).watch("", WatchMode::Value).await.unwrap();
    let (observed, prints) = (observed.clone(), number("PAGEWIRE_SIM_LOG", 0) > 0);
    tokio::spawn(async move {
        while let Some(event) = watch.next().await {
            if prints {
                println!("{:?} {event:?}", clock::boot());
            }
            let WatchEvent::Put(entry) = event else { continue };
            if !entry.key.starts_with(job_key::JOBS) {
                continue;
            }
            let facts = &mut *observed.lock();
            let record = Record::decode(&entry.value).unwrap();
            if let Err(broken) = facts.history.add(record) {
                facts.violate(|| broken);
            }
        }
    });
}
