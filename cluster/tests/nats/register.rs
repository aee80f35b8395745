//! Tests of registers on real servers: processes that end, servers that restart, and a table that many pages follow.

use std::time::Duration;

use pagewire_cluster::register::{
    Creation, Fields, ItemEdit, ItemKey, ItemLevel, LogEntry, Publication, Register, RegisterError,
    RegisterName, Registers,
};
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::server::{Server, eventually};

fn page(number: usize) -> ItemKey {
    ItemKey::new(ItemLevel::Page, &format!("page-{number}")).expect("an id")
}

fn created() -> ItemEdit {
    let fields = Fields::from_iter([("user".to_owned(), json!("ann *.>"))]);
    let tables = [("orders".to_owned(), true)].into();
    ItemEdit { create: Some(Creation::New), fields, tables, ..ItemEdit::default() }
}

fn event(number: usize) -> Publication {
    let changes = vec![to_raw_value(&json!({"path": "orders", "value": number})).expect("JSON")];
    Publication {
        to: serde_json::from_value(json!({"table": "orders"})).expect("recipients"),
        changes,
        origin: None,
        reason: None,
    }
}

/// Returns the number of an event.
fn number(entry: &LogEntry) -> u64 {
    let change = entry.publication.changes[0].get();
    let change: serde_json::Value = serde_json::from_str(change).expect("JSON");
    change["value"].as_u64().expect("a number")
}

async fn process(server: &Server) -> Register {
    let name = RegisterName::new("shop").expect("a name");
    Registers::new(&server.engine().await).open(name).await.expect("opens")
}

/// Takes until the number of entries is reached. Returns the numbers of the events.
async fn take(register: &Register, page: &ItemKey, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    eventually("all has arrived", async || {
        if let Ok(found) = register.take(page, false).await {
            assert!(!found.reset, "nothing is missing");
            taken.extend(found.entries.iter().map(number));
        }
        taken.len() >= count
    })
    .await;
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_register_has_acknowledged_survives_its_node() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.expect("starts");
    let first = process(&server).await;
    for number in 0..3 {
        first.write(&page(number), &created()).await.expect("writes");
    }
    let (_, counts) = first.publish(&[event(1)]).await.expect("publishes");
    assert_eq!(counts, [3]);
    assert_eq!(take(&first, &page(0), 1).await, [1]);
    drop(first);
    tokio::task::block_in_place(|| server.start_again());
    let second = process(&server).await;
    let user = second.read(&page(2)).await.expect("reads").expect("the item").item.fields()["user"].clone();
    assert_eq!(user, "ann *.>");
    second.publish(&[event(2)]).await.expect("publishes");
    assert_eq!(take(&second, &page(1), 2).await, [1, 2]);
    assert_eq!(take(&second, &page(0), 1).await, [2], "the first one was taken at the other process");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_take_for_the_same_pages_while_a_server_restarts_and_each_event_arrives_once() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.expect("starts");
    let processes = [process(&server).await, process(&server).await];
    for number in 0..20 {
        processes[number % 2].write(&page(number), &created()).await.expect("writes");
    }
    let publisher = processes[0].clone();
    let publishing = tokio::spawn(async move {
        let mut published = Vec::new();
        for number in 0..200 {
            match publisher.publish(&[event(number)]).await {
                Ok(_) => published.push(number as u64),
                Err(RegisterError::Unavailable | RegisterError::Uncertain) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        published
    });
    let takers: Vec<_> = (0..20)
        .map(|of| {
            let processes = processes.clone();
            tokio::spawn(async move {
                let mut taken: Vec<u64> = Vec::new();
                let mut quiet = 0;
                for turn in 0.. {
                    let found = processes[turn % 2].take(&page(of), false).await;
                    let found = found.map(|found| found.entries).unwrap_or_default();
                    quiet = if found.is_empty() { quiet + 1 } else { 0 };
                    taken.extend(found.iter().map(number));
                    if taken.last() == Some(&199) || quiet > 500 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                taken
            })
        })
        .collect();
    tokio::task::block_in_place(|| server.start_again());
    let published = publishing.await.expect("publishes");
    for taker in takers {
        let taken = taker.await.expect("takes");
        assert!(taken.is_sorted(), "in their order");
        let mut once = taken.clone();
        once.dedup();
        assert_eq!(once, taken, "none twice");
        let missing: Vec<_> = published.iter().filter(|number| !taken.contains(number)).collect();
        assert!(missing.is_empty(), "{missing:?} are missing");
    }
}
