mod identity;
mod lost_replies;
mod pins;

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{Bucket, Consistency, Engine, Memory, Precondition, Put};
use pagewire_cluster::id::{Address, Key, Scope};
use pagewire_cluster::peer::PeerClient;
use pagewire_cluster::subject::{Subjects, page_key};
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::{
    ExecutorMessage, ExecutorPush, PageMessage, PageStatus, PageStatusQuery, PushCounts,
};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Node;
use crate::config::{self, Sources};
use crate::pages::{DrainOutcome, OpenRequest, Opened};
use crate::protocol::{CloseCode, GivenId, Hello, Resume, ResumeOutcome};

fn config() -> config::Config {
    let mut config = config::load(&Sources::default()).unwrap();
    config.lifetime.resume_ms = 200;
    config
}

async fn node() -> Node {
    Node::start_on(Engine::Memory(Memory::new()), config(), Timing::TEST).await.unwrap()
}

async fn open(node: &Node, hello: Hello, user: Option<&str>) -> Result<Opened, CloseCode> {
    let open = OpenRequest { hello, user: user.map(Arc::from), agent: "test".into(), is_placed: false };
    node.context.pages.opener.open(open).await.map_err(|close| close.code)
}

/// What the page's socket gets now.
fn frames(opened: &Opened) -> Vec<Value> {
    let mut frames = Vec::new();
    let taken = opened.page.take(opened.ticket, usize::MAX, &mut |head, tail| {
        frames.push(serde_json::from_slice(&[head, tail.bytes()].concat()).unwrap());
    });
    assert_eq!(taken, DrainOutcome::Empty);
    frames
}

async fn push(node: &Node, to: Scope, payload: u32) -> (u64, u64) {
    let payload = RawValue::from_string(payload.to_string()).unwrap();
    let PushCounts { reached, held } = node.context.deliver.send(to, payload, None).await.unwrap().reach;
    (reached, held)
}

fn resume(registered: &Value, seq: u64) -> Hello {
    let token = registered["token"].as_str().unwrap().to_owned();
    let page_id = registered["page_id"].as_str().and_then(|id| id.parse().ok());
    Hello { page_id, resume: Some(Resume { token, seq }), ..Hello::default() }
}

#[tokio::test]
async fn a_push_says_how_many_pages_it_reached_at_every_level() {
    let node = node().await;
    let first = open(&node, Hello::default(), Some("ann")).await.unwrap();
    let registered = frames(&first).remove(0);
    let id = |name: &str| registered[name].as_str().unwrap().parse::<Address>().unwrap();
    let session_id = Some(GivenId::Own(id("session_id")));
    let second = open(&node, Hello { session_id, ..Hello::default() }, Some("ann")).await.unwrap();
    open(&node, Hello::default(), Some("*")).await.unwrap();
    assert_eq!(push(&node, Scope::Page(id("page_id")), 1).await, (1, 0));
    assert_eq!(push(&node, Scope::Session(id("session_id").key), 2).await, (2, 0));
    assert_eq!(push(&node, Scope::Connection(id("connection_id").key), 3).await, (2, 0));
    assert_eq!(push(&node, Scope::User("ann".into()), 4).await, (2, 0));
    assert_eq!(push(&node, Scope::User("*".into()), 5).await, (1, 0));
    assert_eq!(push(&node, Scope::User("nobody".into()), 6).await, (0, 0));
    assert_eq!(push(&node, Scope::All, 7).await, (3, 0));
    let payloads = |opened: &Opened| frames(opened).iter().map(|f| f["payload"].clone()).collect::<Vec<_>>();
    assert_eq!(payloads(&first), [1, 2, 3, 4, 7].map(Value::from));
    assert_eq!(payloads(&second)[1..], [2, 3, 4, 7].map(Value::from));
}

#[tokio::test]
async fn a_page_that_lost_its_socket_resumes_with_every_missed_frame() {
    let node = node().await;
    let opened = open(&node, Hello::default(), None).await.unwrap();
    let registered = frames(&opened).remove(0);
    assert_eq!(registered["recovered"], "new");
    let page = Scope::Page(registered["page_id"].as_str().unwrap().parse().unwrap());
    push(&node, page.clone(), 1).await;
    push(&node, page.clone(), 2).await;
    assert_eq!(frames(&opened).len(), 2);
    node.context.pages.closer.detach(&opened.page, opened.ticket);
    assert_eq!(push(&node, page, 3).await, (0, 1));
    let again = open(&node, resume(&registered, 1), None).await.unwrap();
    assert_eq!(again.recovered, ResumeOutcome::Recovered);
    let frames = frames(&again);
    assert_eq!(frames[0]["seq"], 1, "registered repeats what the client has");
    let rest: Vec<_> =
        frames[1..].iter().map(|frame| (frame["seq"].clone(), frame["payload"].clone())).collect();
    assert_eq!(rest, [(2.into(), 2.into()), (3.into(), 3.into())]);
}

#[tokio::test]
async fn a_token_older_than_the_newest_used_one_is_refused() {
    let node = node().await;
    let first = open(&node, Hello::default(), None).await.unwrap();
    let registered = frames(&first).remove(0);
    let second = open(&node, resume(&registered, 0), None).await.unwrap();
    let third = open(&node, resume(&registered, 0), None).await.unwrap();
    assert!(!second.page.accept(second.ticket), "the newest socket wins");
    assert!(third.page.accept(third.ticket));
    assert_eq!(open(&node, resume(&registered, 0), None).await.err(), Some(CloseCode::Replaced));
}

#[tokio::test]
async fn a_users_page_is_not_resumed_by_anybody_else() {
    let node = node().await;
    let opened = open(&node, Hello::default(), Some("ann")).await.unwrap();
    let registered = frames(&opened).remove(0);
    assert_eq!(open(&node, resume(&registered, 0), Some("bob")).await.err(), Some(CloseCode::Forbidden));
    assert_eq!(open(&node, resume(&registered, 0), None).await.err(), Some(CloseCode::Unauthenticated));
    let session_id = registered["session_id"].as_str().and_then(|id| id.parse().ok());
    let join = Hello { session_id, ..Hello::default() };
    assert_eq!(open(&node, join, Some("bob")).await.err(), Some(CloseCode::Forbidden));
    let forged =
        Hello { page_id: Some(registered["page_id"].as_str().unwrap().parse().unwrap()), ..Hello::default() };
    assert_eq!(open(&node, forged, Some("ann")).await.err(), Some(CloseCode::Forbidden));
}

#[tokio::test]
async fn a_page_leaves_everywhere_when_its_resume_window_ends() {
    let node = node().await;
    let opened = open(&node, Hello::default(), Some("ann")).await.unwrap();
    let registered = frames(&opened).remove(0);
    node.context.pages.closer.detach(&opened.page, opened.ticket);
    let closed = async {
        while !node.hub.is_empty() || node.registry.view().stats().total.pages > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
    assert_eq!(push(&node, Scope::User("ann".into()), 1).await, (0, 0));
    let back = open(&node, resume(&registered, 0), Some("ann")).await.unwrap();
    assert_eq!(back.recovered, ResumeOutcome::Reset, "the same page, said clearly that it is reset");
}

#[tokio::test]
async fn an_anonymous_page_that_logs_in_belongs_to_its_user_with_all_pages_of_its_connection() {
    let node = node().await;
    let first = open(&node, Hello::default(), None).await.unwrap();
    let registered = frames(&first).remove(0);
    let joined = Hello {
        page_id: None,
        session_id: registered["session_id"].as_str().and_then(|id| id.parse().ok()),
        ..resume(&registered, 0)
    };
    let second = open(&node, joined, None).await.unwrap();
    frames(&second);
    node.context.pages.login.identify(first.page.connection().key, &Arc::from("ann")).await.unwrap();
    assert_eq!(push(&node, Scope::User("ann".into()), 1).await, (2, 0));
    assert_eq!(frames(&second)[0]["user"], "ann");
    assert_eq!(open(&node, resume(&registered, 0), None).await.err(), Some(CloseCode::Unauthenticated));
}

#[tokio::test]
async fn a_crowd_of_20_000_pages_on_several_nodes_is_reached_with_one_push() {
    let engine = Memory::new();
    let start = || Node::start_on(Engine::Memory(engine.new_process_handle()), config(), Timing::TEST);
    let nodes = [start().await.unwrap(), start().await.unwrap(), start().await.unwrap()];
    let mut pages = Vec::new();
    for node in &nodes {
        node.ready.wait().await;
        pages.push(open(node, Hello::default(), Some("ann")).await.unwrap());
    }
    // the rest of the crowd are rows: as many sockets a process has not
    let key = pages[1].page.key();
    let rows = Engine::Memory(engine.new_process_handle()).kv(Bucket::Pages);
    let row = rows.get(&page_key::page(key), Consistency::Latest).await.unwrap().unwrap();
    for number in 0..20_000 {
        // the nodes share this thread, and renew their leases meanwhile
        if number % 256 == 0 {
            tokio::task::yield_now().await;
        }
        let put = Put::new(page_key::page(Key::random()), "", Precondition::Absent);
        rows.put(Put { meta: row.meta.clone(), ..put }).await.unwrap();
    }
    for node in &nodes {
        let all = async {
            while node.registry.view().count_of_user("ann") < 20_003 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(240), all).await.unwrap();
    }
    for node in &nodes {
        assert_eq!(push(node, Scope::User("ann".into()), 1).await, (3, 0));
    }
}

#[tokio::test]
async fn a_message_that_waits_for_the_view_holds_up_no_other_request_of_a_node() {
    let memory = Memory::new();
    let engine = || Engine::Memory(memory.new_process_handle());
    let timing = Timing { view_wait: Duration::from_secs(3600), ..Timing::TEST };
    let node = Node::start_on(engine(), config(), timing).await.unwrap();
    node.ready.wait().await;
    let page = open(&node, Hello::default(), None).await.unwrap().page.key();
    let (holder, peer) = (node.lease.holder().unwrap(), engine());
    let peers = PeerClient::new(&peer, &Subjects::new("main"), Duration::from_secs(60));
    let payload = RawValue::from_string("1".to_owned()).unwrap();
    let query = PageStatusQuery { page };
    let early = PageMessage { to: Scope::All, seen: Some(u64::MAX), payload, from: None, is_notice: false };
    tokio::select! {
        biased;
        early = peers.request(holder, &early, None) => panic!("the rows that it needs are not there: {early:?}"),
        status = peers.request(holder, &query, None) => {
            assert_eq!(status, Ok(Some(PageStatus { generation: 1, confirmed: false })));
        }
    }
}

#[tokio::test]
async fn a_message_of_a_worker_that_is_dead_or_replaced_reaches_no_page() {
    let memory = Memory::new();
    let node = Node::start_on(Engine::Memory(memory.new_process_handle()), config(), Timing::TEST);
    let node = node.await.unwrap();
    node.ready.wait().await;
    let page = open(&node, Hello::default(), Some("ann")).await.unwrap();
    frames(&page);
    // on the embedded engine the node is its own worker
    let worker = node.context.workers.roster().list()[0].0;
    let peers = PeerClient::new(
        &Engine::Memory(memory.new_process_handle()),
        &Subjects::new("main"),
        Timing::TEST.deliver,
    );
    let holder = node.lease.holder().unwrap();
    let sent = |worker, epoch| {
        let payload = RawValue::from_string("1".to_owned()).unwrap();
        let to = Scope::User("ann".into());
        let message = ExecutorMessage { to, payload, worker, epoch, is_notice: false };
        let peers = peers.clone();
        async move { peers.request(holder, &message, None).await.unwrap() }
    };
    for (id, epoch) in [(worker.id, worker.epoch - 1), (Key::random(), worker.epoch)] {
        let ExecutorPush::Refused(error) = sent(id, epoch).await else { panic!("delivered") };
        assert_eq!(error.code, "stale");
    }
    assert!(frames(&page).is_empty());
    let delivered = ExecutorPush::Delivered(PushCounts { reached: 1, held: 0 });
    assert_eq!(sent(worker.id, worker.epoch).await, delivered);
    assert_eq!(frames(&page)[0]["payload"], 1);
}

#[tokio::test]
async fn two_nodes_on_one_engine_reach_each_others_pages() {
    let engine = Memory::new();
    let start = || Node::start_on(Engine::Memory(engine.new_process_handle()), config(), Timing::TEST);
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    tokio::join!(one.ready.wait(), two.ready.wait());
    let here = open(&one, Hello::default(), Some("ann")).await.unwrap();
    let there = open(&two, Hello::default(), Some("ann")).await.unwrap();
    let seen = async {
        while one.registry.view().stats().total.pages < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), seen).await.unwrap();
    let (here, there) = (frames(&here).remove(0), frames(&there).remove(0));
    assert_ne!(here["node"], there["node"]);
    assert_eq!(push(&one, Scope::User("ann".into()), 1).await, (2, 0));
    let address = there["page_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(push(&one, Scope::Page(address), 2).await, (1, 0));
    // resumed on the other node with everything it missed, and reached through its old address
    let moved = open(&one, resume(&there, 0), Some("ann")).await.unwrap();
    assert_eq!(moved.recovered, ResumeOutcome::Recovered);
    assert_eq!(push(&two, Scope::Page(address), 3).await, (1, 0), "forwarded to where the page is");
    let mut got = Vec::new();
    let forwarded = async {
        while !got.contains(&Value::from(3)) {
            got.extend(frames(&moved).iter().map(|frame| frame["payload"].clone()));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), forwarded).await.unwrap();
    assert_eq!(got[1..], [1, 2, 3].map(Value::from));
}
