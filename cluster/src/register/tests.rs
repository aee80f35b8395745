use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::*;
use crate::engine::{Engine, Faults, Faulty, Memory};

mod taking;

fn fields(value: Value) -> Fields {
    value.as_object().unwrap().clone()
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn key(level: ItemLevel, id: &str) -> ItemKey {
    ItemKey::new(level, id).unwrap()
}

fn page(id: &str) -> ItemKey {
    key(ItemLevel::Page, id)
}

fn created(value: Value) -> ItemEdit {
    ItemEdit { create: Some(Creation::New), fields: fields(value), ..ItemEdit::default() }
}

fn to(value: Value, change: &str) -> Publication {
    let changes = vec![raw(&json!({"path": change, "value": 1}))];
    Publication { to: serde_json::from_value(value).unwrap(), changes, origin: None, reason: None }
}

fn paths(taken: &Taken) -> Vec<String> {
    let changes = taken.entries.iter().flat_map(|entry| &entry.publication.changes);
    changes
        .map(|change| {
            serde_json::from_str::<Value>(change.get()).unwrap()["path"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Two processes with one engine.
async fn two() -> (Register, Register) {
    let engine = Engine::Memory(Memory::new());
    let name = RegisterName::new("shop").unwrap();
    let open = |registers: Registers| {
        let name = name.clone();
        async move { registers.open(name).await.unwrap() }
    };
    (open(Registers::new(&engine)).await, open(Registers::new(&engine)).await)
}

async fn with_pages() -> (Register, Register) {
    let (a, b) = two().await;
    a.write(&key(ItemLevel::User, "ann"), &created(json!({}))).await.unwrap();
    a.write(&key(ItemLevel::Connection, "c1"), &created(json!({"user": "ann"}))).await.unwrap();
    for id in ["p1", "p2"] {
        a.write(&page(id), &created(json!({"user": "ann", "connection": "c1"}))).await.unwrap();
    }
    a.write(&page("p3"), &created(json!({"user": "bob", "connection": "c2"}))).await.unwrap();
    // an entry that both have applied
    let (position, _) = a.publish(&[]).await.unwrap();
    while b.position() < position {
        tokio::task::yield_now().await;
    }
    (a, b)
}

#[tokio::test]
async fn an_item_is_created_once_merged_by_name_and_deleted() {
    let (a, b) = two().await;
    let ann = key(ItemLevel::User, "ann");
    assert_eq!(a.write(&ann, &ItemEdit::default()).await, Err(RegisterError::Unknown));
    let first = a.write(&ann, &created(json!({"tags": "x", "seen": 5}))).await.unwrap();
    assert_eq!(b.write(&ann, &created(json!({}))).await, Err(RegisterError::Conflict { revision: first }));
    let edit = ItemEdit {
        fields: fields(json!({"tags": null, "name": "Ann"})),
        keep_max: [("seen".to_owned(), 3.into()), ("born".to_owned(), 7.into())].into(),
        data: [("cart".to_owned(), raw(&json!([1])))].into(),
        ..ItemEdit::default()
    };
    let second = b.write(&ann, &edit).await.unwrap();
    assert!(second > first);
    assert_eq!(a.write(&ann, &edit).await, Ok(second), "nothing changes, so nothing is written");
    let stored = a.read(&ann).await.unwrap().unwrap();
    assert_eq!(Value::Object(stored.item.fields().clone()), json!({"seen": 5, "name": "Ann", "born": 7}));
    assert_eq!(stored.item.data["cart"].get(), "[1]");
    let late = ItemEdit { if_revision: Some(first), ..edit.clone() };
    assert_eq!(a.write(&ann, &late).await, Err(RegisterError::Conflict { revision: second }));
    assert_eq!(a.write(&ann, &ItemEdit::deletion()).await, Ok(0));
    assert!(b.read(&ann).await.unwrap().is_none());
    assert_eq!(b.write(&ann, &edit).await, Err(RegisterError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_of_the_only_writer_is_no_conflict_when_its_answer_is_lost() {
    let ann = key(ItemLevel::User, "ann");
    let mut uncertain = 0;
    for seed in 0..60 {
        let (memory, name) = (Memory::new(), RegisterName::new("shop").unwrap());
        let calm = Registers::new(&Engine::Memory(memory.clone())).open(name.clone()).await.unwrap();
        let faulty = Faulty::new(memory, seed, Faults::default());
        let process = faulty.process().clone();
        let register = Registers::new(&Engine::Faulty(faulty)).open(name).await.unwrap();
        let first = calm.write(&ann, &created(json!({}))).await.unwrap();
        process.set_faults(Faults { unknown: 500, hidden_conflict: 500, ..Faults::default() });

        let set = ItemEdit {
            if_revision: Some(first),
            fields: fields(json!({"name": "Ann"})),
            ..ItemEdit::default()
        };
        let revision = match register.write(&ann, &set).await {
            Ok(revision) => revision,
            Err(error) => {
                assert_eq!(error, RegisterError::Uncertain, "seed {seed}");
                continue;
            }
        };
        match register.write(&ann, &ItemEdit { if_revision: Some(revision), ..ItemEdit::deletion() }).await {
            Ok(_) => assert!(calm.read(&ann).await.unwrap().is_none(), "seed {seed}"),
            Err(error) => {
                assert_eq!(error, RegisterError::Uncertain, "seed {seed}");
                uncertain += 1;
            }
        }
    }
    assert!(uncertain > 0, "a deletion with a lost answer is met");
}

#[tokio::test]
async fn limits_and_reserved_fields_are_refused_with_their_reason() {
    let (a, _) = two().await;
    let ann = key(ItemLevel::User, "ann");
    let wide = created(json!({"x": "y".repeat(MAX_FIELDS)}));
    assert_eq!(a.write(&ann, &wide).await, Err(RegisterError::Fields));
    let deep =
        ItemEdit { data: [("x".to_owned(), raw(&json!("y".repeat(MAX_DATA))))].into(), ..created(json!({})) };
    assert_eq!(a.write(&ann, &deep).await, Err(RegisterError::Data));
    assert_eq!(a.write(&ann, &created(json!({"tables": {}}))).await, Err(RegisterError::Reserved));
    assert_eq!(RegisterName::new("Shop").unwrap_err(), RegisterError::Name);
    assert!(ItemKey::new(ItemLevel::User, "").is_err() && ItemKey::new(ItemLevel::Global, "x").is_err());
    let large =
        Publication { changes: vec![raw(&json!("y".repeat(MAX_MESSAGE)))], ..to(json!({"all": true}), "x") };
    assert_eq!(a.publish(&[large]).await, Err(RegisterError::Message));
}

#[tokio::test]
async fn each_page_takes_what_is_for_it_once_over_all_processes() {
    let (a, b) = with_pages().await;
    let publications = [
        to(json!({"page": "p1"}), "one"),
        to(json!({"user": "ann"}), "ann"),
        to(json!({"all": true}), "all"),
    ];
    let (position, counts) = a.publish(&publications).await.unwrap();
    assert_eq!(counts, [1, 2, 3]);
    while b.position() < position {
        tokio::task::yield_now().await;
    }
    assert_eq!(paths(&b.take(&page("p1"), true).await.unwrap()), ["one", "ann", "all"]);
    assert_eq!(paths(&b.take(&page("p1"), false).await.unwrap()), ["one", "ann", "all"]);
    assert_eq!(paths(&a.take(&page("p1"), false).await.unwrap()), [""; 0]);
    assert_eq!(paths(&a.take(&page("p2"), false).await.unwrap()), ["ann", "all"]);
    assert_eq!(paths(&b.take(&page("p3"), false).await.unwrap()), ["all"]);
    assert_eq!(a.take(&page("p9"), false).await.unwrap_err(), RegisterError::Unknown);
}

#[tokio::test]
async fn a_page_gets_the_events_of_a_table_from_its_subscription_to_its_end() {
    let (a, b) = with_pages().await;
    let event = || to(json!({"table": "orders"}), "orders");
    assert_eq!(a.publish(&[event()]).await.unwrap().1, [0]);
    let follow = |is: bool| ItemEdit { tables: [("orders".to_owned(), is)].into(), ..ItemEdit::default() };
    b.write(&page("p1"), &follow(true)).await.unwrap();
    let tables = ["orders".to_owned(), "other".to_owned()];
    assert_eq!(b.followed(&tables), ["orders"]);
    assert_eq!(b.publish(&[event()]).await.unwrap().1, [1]);
    assert_eq!(paths(&b.take(&page("p1"), false).await.unwrap()), ["orders"]);
    b.write(&page("p1"), &follow(false)).await.unwrap();
    assert_eq!(b.publish(&[event()]).await.unwrap().1, [0]);
    assert!(b.followed(&tables).is_empty());
}

#[tokio::test]
async fn changes_of_a_user_reach_the_pages_that_follow_a_prefix_and_can_be_withdrawn() {
    let (a, _) = with_pages().await;
    let follow = ItemEdit { paths: [("chat.".to_owned(), true)].into(), ..ItemEdit::default() };
    a.write(&page("p2"), &follow).await.unwrap();
    let change = |path: &str| to(json!({"user": "ann", "path": path}), path);
    let (_, counts) = a.publish(&[change("chat.room"), change("other")]).await.unwrap();
    assert_eq!(counts, [1, 0]);
    assert_eq!(paths(&a.take(&page("p1"), false).await.unwrap()), [""; 0]);
    assert_eq!(paths(&a.take(&page("p2"), false).await.unwrap()), ["chat.room"]);
    a.publish(&[change("chat.b")]).await.unwrap();
    a.publish(&[change("chat.c")]).await.unwrap();
    assert_eq!(a.withdraw(&key(ItemLevel::User, "ann"), "chat.b").await, Ok(1));
    assert_eq!(paths(&a.take(&page("p2"), false).await.unwrap()), ["chat.c"]);
}

#[tokio::test]
async fn a_login_relabels_the_connection_and_its_pages_and_ends_the_user_before() {
    let (a, _) = with_pages().await;
    let eve = key(ItemLevel::User, "eve");
    let relabel = Relabel {
        connection: key(ItemLevel::Connection, "c1"),
        user: eve.clone(),
        fields: fields(json!({"tags": "admin"})),
        user_fields: fields(json!({"name": "Eve"})),
    };
    assert_eq!(a.relabel(relabel).await.unwrap(), [page("p1"), page("p2")]);
    let text = |item: &ItemVersion, name: &str| item.item.fields()[name].as_str().unwrap().to_owned();
    assert_eq!(text(&a.read(&page("p1")).await.unwrap().unwrap(), "user"), "eve");
    let connection = a.read(&key(ItemLevel::Connection, "c1")).await.unwrap().unwrap();
    assert_eq!([text(&connection, "user"), text(&connection, "tags")], ["eve", "admin"]);
    assert_eq!(text(&a.read(&eve).await.unwrap().unwrap(), "name"), "Eve");
    assert!(a.read(&key(ItemLevel::User, "ann")).await.unwrap().is_none());
    assert_eq!(a.below(&eve), [key(ItemLevel::Connection, "c1")]);
}

#[tokio::test]
async fn the_last_page_ends_its_connection_and_its_user_if_that_is_asked_for() {
    let (a, b) = with_pages().await;
    let removal = |item, cascade| Removal { item, cascade };
    assert_eq!(a.remove(removal(page("p1"), true)).await.unwrap(), [page("p1")]);
    let ended = a.remove(removal(page("p2"), true)).await.unwrap();
    assert_eq!(ended, [page("p2"), key(ItemLevel::Connection, "c1"), key(ItemLevel::User, "ann")]);
    assert!(b.read(&key(ItemLevel::User, "ann")).await.unwrap().is_none());
}

#[tokio::test]
async fn entries_that_do_not_fit_into_the_head_of_a_row_reach_their_pages() {
    let (a, _) = with_pages().await;
    let names: Vec<String> = (0..2000).map(|n| format!("other-{n}")).chain(["p3".to_owned()]).collect();
    assert_eq!(a.publish(&[to(json!({"pages": names}), "many")]).await.unwrap().1, [1]);
    assert_eq!(paths(&a.take(&page("p3"), false).await.unwrap()), ["many"]);
    let names: Vec<String> = (0..=MAX_NAMED_PAGES).map(|n| n.to_string()).collect();
    assert_eq!(a.publish(&[to(json!({"pages": names}), "more")]).await, Err(RegisterError::Pages));
}

#[test]
fn a_log_without_room_says_which_rows_are_missing() {
    let mut log = log::EntryLog::default();
    let row = |position: u64| log::LogRow {
        position,
        key: format!("log.shop.{position}").into(),
        to: vec![Recipients::All { all: true }].into(),
    };
    for position in [3, 5, 8, 8, 5] {
        log.push(row(position), 2);
    }
    let head = item::ItemHead {
        id: "p".into(),
        created: 0,
        since: 0,
        data_mark: 0,
        fields: Fields::new(),
        tables: Default::default(),
        paths: Default::default(),
    };
    let positions = |log: &log::EntryLog, after| {
        log.pending(&head, after).into_iter().map(|row| row.position).collect::<Vec<_>>()
    };
    assert_eq!((log.lost(), positions(&log, 0)), (3, vec![5, 8]));
    log.remove("log.shop.8", false);
    assert_eq!((log.lost(), positions(&log, 0)), (3, vec![5]));
    log.remove("log.shop.5", true);
    assert_eq!((log.lost(), positions(&log, 0)), (5, vec![]));
    log.push(row(9), 2);
    log.push(row(4), 2);
    assert_eq!((log.lost(), positions(&log, 0)), (0, vec![4]), "the cluster has lost its data");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the order of publishing and taking at two processes, each page gets each entry once and in order.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(steps in prop::collection::vec((0u8..4, any::<bool>()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (a, b) = with_pages().await;
            let (mut sent, mut got) = (0, Vec::new());
            for (step, at_a) in steps {
                let register = if at_a { &a } else { &b };
                if step == 0 {
                    got.extend(paths(&register.take(&page("p1"), false).await.unwrap()));
                } else {
                    register.publish(&[to(json!({"connection": "c1"}), &sent.to_string())]).await.unwrap();
                    sent += 1;
                }
                tokio::task::yield_now().await;
            }
            let (position, _) = a.publish(&[]).await.unwrap();
            while a.position() < position {
                tokio::task::yield_now().await;
            }
            got.extend(paths(&a.take(&page("p1"), false).await.unwrap()));
            let expected: Vec<_> = (0..sent).map(|n| n.to_string()).collect();
            assert_eq!(got, expected);
        });
    }
}

#[tokio::test]
async fn concurrent_edits_of_one_item_are_all_kept() {
    let (a, b) = two().await;
    let global = key(ItemLevel::Global, "");
    a.write(&global, &created(json!({}))).await.unwrap();
    let edits = (0..20).map(|n| {
        let register = if n % 2 == 0 { a.clone() } else { b.clone() };
        let global = global.clone();
        tokio::spawn(async move {
            let data = [(n.to_string(), raw(&json!(n)))].into();
            register.write(&global, &ItemEdit { data, ..ItemEdit::default() }).await
        })
    });
    for edit in edits.collect::<Vec<_>>() {
        edit.await.unwrap().unwrap();
    }
    assert_eq!(a.read(&global).await.unwrap().unwrap().item.data.len(), 20);
    let _: Arc<str> = global.id;
}

#[tokio::test]
async fn a_page_has_news_from_the_publication_until_some_process_has_taken_them() {
    let (a, b) = with_pages().await;
    assert!(!b.has_news(&page("p1")).await.unwrap());
    let (position, _) = a.publish(&[to(json!({"page": "p1"}), "x")]).await.unwrap();
    b.reach(position).await;
    for _ in 0..2 {
        assert!(b.has_news(&page("p1")).await.unwrap(), "nothing is taken by the question");
    }
    assert!(!b.has_news(&page("p2")).await.unwrap());
    assert_eq!(paths(&b.take(&page("p1"), false).await.unwrap()), ["x"]);
    assert!(!b.has_news(&page("p1")).await.unwrap());
    assert!(matches!(b.has_news(&page("p9")).await, Err(RegisterError::Unknown)));
}

#[tokio::test]
async fn a_process_that_waits_for_news_of_a_page_sees_those_of_other_processes_for_it_and_no_others() {
    let (a, b) = with_pages().await;
    let after = b.position();
    let news = || PageNews::new(b.clone(), page("p1"));
    let waiting = news();
    let waiting = tokio::spawn(async move { waiting.published(after).await });
    a.publish(&[to(json!({"page": "p2"}), "x")]).await.unwrap();
    a.publish(&[to(json!({"user": "bob"}), "x")]).await.unwrap();
    a.write(&page("p1"), &ItemEdit { fields: fields(json!({"seen": 1})), ..ItemEdit::default() })
        .await
        .unwrap();
    let (last, _) = a.publish(&[to(json!({"user": "ann"}), "y")]).await.unwrap();
    assert_eq!(waiting.await.unwrap(), last);
    b.reach(last).await;
    assert_eq!(news().published(after).await, last, "what is there already is seen at once");
}

#[tokio::test]
async fn the_state_of_a_page_changes_with_the_data_of_it_and_its_user_and_not_with_times() {
    let (a, b) = with_pages().await;
    let state = |register: &Register| PageState::of(register, &page("p1"));
    let before = state(&a).expect("the page has a connection and a user");
    assert_eq!((before.connection(), state(&b).as_ref()), ("c1", Some(&before)));
    let data = |value: u64| [("x".to_owned(), raw(&json!(value)))].into();
    let connection = key(ItemLevel::Connection, "c1");
    let user = key(ItemLevel::User, "ann");
    for item in [page("p1"), connection, user.clone()] {
        let times = ItemEdit { keep_max: [("seen".to_owned(), 7.into())].into(), ..ItemEdit::default() };
        a.write(&item, &times).await.unwrap();
    }
    assert_eq!(state(&a).as_ref(), Some(&before));
    let mut seen = vec![before];
    for (item, value) in [(page("p1"), 1), (user.clone(), 1), (page("p1"), 2), (page("p1"), 1), (user, 2)] {
        let edit = ItemEdit { data: data(value), ..ItemEdit::default() };
        a.write(&item, &edit).await.unwrap();
        a.write(&item, &edit).await.unwrap();
        let now = state(&a).unwrap();
        assert!(!seen.contains(&now), "{now:?} is not a state of before");
        seen.push(now);
    }
    let again = ItemEdit { create: Some(Creation::Replace), ..created(json!({"connection": "c1"})) };
    a.write(&page("p1"), &again).await.unwrap();
    assert!(!seen.contains(&state(&a).unwrap()));
    a.write(&page("p1"), &ItemEdit::deletion()).await.unwrap();
    assert_eq!(state(&a), None);
}

#[tokio::test]
async fn an_item_is_found_without_the_name_of_its_register() {
    let engine = Engine::Memory(Memory::new());
    let (one, other) = (Registers::new(&engine), Registers::new(&engine));
    let shop = one.open(RegisterName::new("shop").unwrap()).await.unwrap();
    shop.write(&page("p1"), &created(json!({"connection": "c1"}))).await.unwrap();
    let (found, fields) = other.find(&page("p1")).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), fields.get("connection")), ("shop", Some(&json!("c1"))));
    assert!(other.find(&page("p2")).await.unwrap().is_none());
}
