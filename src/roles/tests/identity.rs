//! The user of a session whose pages open, resume and close around a login.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pagewire_cluster::engine::Kv;
use pagewire_cluster::registry::Registry;

use super::*;
use crate::pages::LoginError;
use crate::roles::lifetimes;

fn join(registered: &Value) -> Hello {
    let session_id = registered["session_id"].as_str().and_then(|id| id.parse().ok());
    Hello { page_id: None, session_id, ..resume(registered, 0) }
}

fn id(registered: &Value, name: &str) -> Key {
    registered[name].as_str().unwrap().parse::<Address>().unwrap().key
}

async fn two_nodes() -> (Memory, Node, Node) {
    let memory = Memory::new();
    let start = || Node::start_on(Engine::Memory(memory.new_process_handle()), config(), Timing::TEST);
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    tokio::join!(one.ready.wait(), two.ready.wait());
    (memory, one, two)
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), waiting).await.is_ok(), "never: {what}");
}

async fn login(node: &Node, opened: &Opened, user: &str) -> Result<(), LoginError> {
    node.context.pages.login.identify(opened.page.connection().key, &Arc::from(user)).await
}

fn rows(memory: &Memory) -> Kv {
    Engine::Memory(memory.new_process_handle()).kv(Bucket::Pages)
}

/// An anonymous page, another one beside it, and the first is over.
async fn first_and_second(one: &Node, two: &Node) -> (Value, Opened) {
    let first = open(one, Hello::default(), None).await.unwrap();
    let registered = frames(&first).remove(0);
    let second = open(two, join(&registered), None).await.unwrap();
    frames(&second);
    one.context.pages.closer.detach(&first.page, first.ticket);
    eventually("the first page is over", async || one.hub.is_empty()).await;
    (registered, second)
}

/// What every road into the session answers to the token of the first page: resumed and as a proof to join with.
async fn resume_results(node: &Node, registered: &Value, user: Option<&str>) -> Vec<Option<CloseCode>> {
    let connection_id = registered["connection_id"].as_str().and_then(|id| id.parse().ok());
    let of_connection = Hello { session_id: None, connection_id, ..join(registered) };
    let mut refused = Vec::new();
    for hello in [resume(registered, 0), join(registered), of_connection] {
        refused.push(open(node, hello, user).await.err());
    }
    refused
}

#[tokio::test]
async fn a_token_from_before_a_login_opens_no_road_into_what_is_a_users_now() {
    let (memory, one, two) = two_nodes().await;
    let (registered, second) = first_and_second(&one, &two).await;
    login(&two, &second, "ann").await.unwrap();
    let closed = [Some(CloseCode::Unauthenticated); 3];
    let foreign = [Some(CloseCode::Forbidden); 3];
    for node in [&one, &two] {
        assert_eq!(resume_results(node, &registered, None).await, closed, "anonymous");
        assert_eq!(resume_results(node, &registered, Some("bob")).await, foreign, "another user");
    }
    // no page and no idle row of the connection is known any more: its node died, for one
    let key = second.page.key();
    rows(&memory).delete(&page_key::page(key), Precondition::Any).await.unwrap();
    eventually("no row is seen", async || one.registry.view().page(key).is_none()).await;
    assert_eq!(resume_results(&one, &registered, None).await, closed, "anonymous, nothing left");
    assert_eq!(resume_results(&one, &registered, Some("bob")).await, foreign, "another user, nothing left");
    // what was turned away has left nothing
    let connection = Scope::Connection(id(&registered, "connection_id"));
    eventually("no page of it", async || one.registry.view().pages_of(&connection).next().is_none()).await;
    let back = open(&one, resume(&registered, 0), Some("ann")).await.unwrap();
    assert_eq!((back.recovered, back.page.user().as_deref()), (ResumeOutcome::Reset, Some("ann")));
}

#[tokio::test]
async fn an_anonymous_page_that_is_resumed_or_joined_by_a_user_makes_the_connection_that_users() {
    let (_, one, two) = two_nodes().await;
    for resumes in [true, false] {
        let first = open(&one, Hello::default(), None).await.unwrap();
        let registered = frames(&first).remove(0);
        let second = open(&two, join(&registered), None).await.unwrap();
        let hello = if resumes { resume(&registered, 0) } else { join(&registered) };
        let third = open(&one, hello, Some("ann")).await.unwrap();
        assert_eq!(third.page.user().as_deref(), Some("ann"));
        let labelled = async || second.page.user().as_deref() == Some("ann");
        eventually("the page at the other node is ann's", labelled).await;
        assert_eq!(open(&two, join(&registered), Some("bob")).await.err(), Some(CloseCode::Forbidden));
    }
}

#[tokio::test]
async fn two_users_who_log_in_at_once_do_not_share_a_connection() {
    let (_, one, two) = two_nodes().await;
    for _ in 0..20 {
        let first = open(&one, Hello::default(), None).await.unwrap();
        let registered = frames(&first).remove(0);
        let second = open(&two, join(&registered), None).await.unwrap();
        let outcomes = tokio::join!(login(&one, &first, "ann"), login(&two, &second, "bob"));
        let winner = match outcomes {
            (Ok(()), Err(LoginError::Foreign)) => "ann",
            (Err(LoginError::Foreign), Ok(())) => "bob",
            other => panic!("{other:?}"),
        };
        for page in [&first.page, &second.page] {
            eventually("both are the winner's", async || page.user().as_deref() == Some(winner)).await;
        }
    }
}

#[tokio::test]
async fn a_page_that_joins_while_its_connection_logs_in_is_the_users_or_refused() {
    let (_, one, two) = two_nodes().await;
    let (mut refused, mut labelled) = (0, 0);
    for round in 0..240 {
        let user = format!("user {round}");
        let first = open(&one, Hello::default(), None).await.unwrap();
        let registered = frames(&first).remove(0);
        let key = first.page.key();
        eventually("both nodes see it", async || two.registry.view().page(key).is_some()).await;
        let later = async |steps: usize| {
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
        };
        let joins = async {
            later(round % 60 / 4).await;
            open(&two, join(&registered), None).await
        };
        let logs_in = async {
            later(round % 4 * 4).await;
            login(&one, &first, &user).await
        };
        let (joined, logged_in) = tokio::join!(joins, logs_in);
        logged_in.unwrap();
        match joined {
            Ok(second) => {
                let labelled_as = async || second.page.user().as_deref() == Some(&*user);
                eventually("the page that was let in is the user's", labelled_as).await;
                labelled += 1;
            }
            Err(code) => {
                assert_eq!(code, CloseCode::Unauthenticated);
                refused += 1;
            }
        }
    }
    println!("{labelled} labelled, {refused} refused");
    assert!(labelled > 0 && refused > 0, "both sides of the race were seen: {labelled}, {refused}");
}

#[tokio::test]
async fn a_node_that_is_not_asked_labels_its_pages_when_it_hears_of_the_owner() {
    let (memory, one, _two) = two_nodes().await;
    let page = open(&one, Hello::default(), None).await.unwrap();
    let registered = frames(&page).remove(0);
    // another process claims the connection and dies before it notifies any node
    let other = Registry::new(&Engine::Memory(memory.new_process_handle()), lifetimes(&config()));
    let kept = Timing::TEST.outlives_tokens();
    other.claim_connection(id(&registered, "connection_id"), "ann", kept).await.unwrap();
    eventually("it is ann's", async || page.page.user().as_deref() == Some("ann")).await;
    assert_eq!(frames(&page)[0]["type"], "identity");
    assert_eq!(open(&one, resume(&registered, 0), None).await.err(), Some(CloseCode::Unauthenticated));
}

/// The same token, given at another time.
fn given(node: &Node, registered: &Value, seconds_ago: u64) -> Value {
    let token = registered["token"].as_str().unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["issued"] = (claims["issued"].as_u64().unwrap() - seconds_ago).into();
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    let signature = node.context.pages.tokens.keyring().sign(claims.as_bytes());
    let mut registered = registered.clone();
    registered["token"] = format!("{claims}.{signature}").into();
    registered
}

#[tokio::test]
async fn a_page_token_that_is_too_old_resumes_nothing_and_proves_nothing() {
    let node = node().await;
    let opened = open(&node, Hello::default(), None).await.unwrap();
    let registered = frames(&opened).remove(0);
    let age = Timing::TEST.page_token.as_secs();
    let old = given(&node, &registered, age + 10);
    assert_eq!(open(&node, resume(&old, 0), None).await.err(), Some(CloseCode::Forbidden));
    let beside = open(&node, join(&old), None).await.unwrap();
    assert_ne!(beside.page.session(), opened.page.session(), "as if it had brought none");
    let young = given(&node, &registered, age - 10);
    assert_eq!(open(&node, resume(&young, 0), None).await.unwrap().recovered, ResumeOutcome::Recovered);
}

#[tokio::test]
async fn a_page_that_stays_open_gets_a_new_token_before_its_own_is_too_old() {
    let timing = Timing { page_token: Duration::from_secs(2), ..Timing::TEST };
    let node = Node::start_on(Engine::Memory(Memory::new()), config(), timing).await.unwrap();
    node.ready.wait().await;
    let opened = open(&node, Hello::default(), Some("ann")).await.unwrap();
    let mut registered = frames(&opened).remove(0);
    for _ in 0..3 {
        let mut address = None;
        eventually("a new token", async || {
            address = frames(&opened).pop();
            address.is_some()
        })
        .await;
        let address = address.unwrap();
        assert_eq!((&address["type"], &address["page_id"]), (&"address".into(), &registered["page_id"]));
        assert_ne!(address["token"], registered["token"]);
        registered["token"] = address["token"].clone();
    }
    let back = open(&node, resume(&registered, 0), Some("ann")).await.unwrap();
    assert_eq!(back.recovered, ResumeOutcome::Recovered);
}

#[tokio::test]
async fn the_key_of_page_tokens_is_replaced_by_age_and_old_tokens_go_on() {
    let timing = Timing {
        signing_key: Duration::from_secs(1),
        page_token: Duration::from_secs(20),
        lease_renew: Timing::TEST.lease_renew,
        ..Timing::TEST
    };
    let node = Node::start_on(Engine::Memory(Memory::new()), config(), timing).await.unwrap();
    node.ready.wait().await;
    let opened = open(&node, Hello::default(), None).await.unwrap();
    let registered = frames(&opened).remove(0);
    let keys = async || node.context.pages.tokens.keyring().keys().len() > 1;
    eventually("a second key", keys).await;
    let back = open(&node, resume(&registered, 0), None).await.unwrap();
    assert_eq!(back.recovered, ResumeOutcome::Recovered);
}

#[tokio::test]
async fn a_user_has_no_more_pages_by_logging_in_or_coming_back() {
    let mut config = config();
    config.limits.pages_per_user = 2;
    let node = Node::start_on(Engine::Memory(Memory::new()), config, Timing::TEST).await.unwrap();
    node.ready.wait().await;
    let detached = open(&node, Hello::default(), Some("ann")).await.unwrap();
    let registered = frames(&detached).remove(0);
    node.context.pages.closer.detach(&detached.page, detached.ticket);
    eventually("it is over", async || node.hub.is_empty()).await;
    let first = open(&node, Hello::default(), Some("ann")).await.unwrap();
    let anonymous = open(&node, Hello::default(), None).await.unwrap();
    let lone = frames(&anonymous).remove(0);
    let beside = open(&node, join(&lone), None).await.unwrap();
    // both of the connection would be ann's
    assert_eq!(login(&node, &anonymous, "ann").await, Err(LoginError::TooManyPages));
    assert_eq!(open(&node, resume(&lone, 0), Some("ann")).await.err(), Some(CloseCode::Policy));
    assert_eq!(anonymous.page.user(), None, "it stays what it was");
    node.context
        .pages
        .closer
        .unregister_here(&Scope::Page(Address { key: beside.page.key(), node: beside.page.session().node }))
        .await;
    login(&node, &anonymous, "ann").await.unwrap();
    // the page that was over is one more; those that are counted come back as ever
    assert_eq!(open(&node, resume(&registered, 0), Some("ann")).await.err(), Some(CloseCode::Policy));
    let registered = frames(&first).remove(0);
    assert!(open(&node, resume(&registered, 0), Some("ann")).await.is_ok());
}

#[tokio::test]
async fn a_user_joins_a_session_that_another_node_has_just_created() {
    let (_, one, two) = two_nodes().await;
    for _ in 0..20 {
        let first = open(&one, Hello::default(), Some("ann")).await.unwrap();
        let session_id = Some(GivenId::Own(first.page.session()));
        let second = open(&two, Hello { session_id, ..Hello::default() }, Some("ann")).await.unwrap();
        assert_eq!(second.page.session(), first.page.session());
        let connection_id = Some(GivenId::Own(first.page.connection()));
        let third = open(&two, Hello { connection_id, ..Hello::default() }, Some("ann")).await.unwrap();
        assert_eq!(third.page.connection(), first.page.connection());
    }
}
