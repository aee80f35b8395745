//! Resident pages in programs in Rust (`pagewire::Page`), in the process of the test.

use std::time::Duration;

use pagewire::testing::Cluster;
use pagewire::{App, BlockingCtx, Client, Fail, Level, PageClass};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::environment::{Opening, Page, SECRET, SOON, Token, eventually};

/// The notes of a page, and what has happened to its object.
#[derive(Serialize, Deserialize)]
struct Board {
    notes: Vec<String>,
    events: Vec<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct Note {
    text: String,
}

impl Board {
    fn add(&mut self, ctx: BlockingCtx, Note { text }: Note) -> Result<usize, Fail> {
        self.notes.push(text.clone());
        assert_ne!(text, "panic", "a fault of this test");
        ctx.wait(ctx.page().send(&json!({"added": text, "by": ctx.method()})))?;
        Ok(self.notes.len())
    }

    fn peek(&mut self, _: BlockingCtx, (): ()) -> Result<Value, Fail> {
        Ok(json!({"notes": self.notes, "events": self.events, "user": self.user}))
    }

    /// Works for longer than it may, until it is asked to stop.
    fn slow(&mut self, ctx: BlockingCtx, (): ()) -> Result<(), Fail> {
        self.happened("slow")?;
        loop {
            ctx.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn happened(&mut self, event: &str) -> Result<(), Fail> {
        self.events.push(event.to_owned());
        Ok(())
    }

    fn methods(class: PageClass<Self>) -> PageClass<Self> {
        let short = Duration::from_millis(20);
        class.method("add", Self::add).method("peek", Self::peek).method("slow", Self::slow).timeout(short)
    }
}

impl pagewire::Page for Board {
    const CLASS: &'static str = "Board";

    fn open(ctx: BlockingCtx) -> Result<Self, Fail> {
        if ctx.user().id() == Some("eve") {
            return Err(Fail::new("no_board", "eve has no board"));
        }
        let user = ctx.user().id().map(str::to_owned);
        Ok(Self { notes: Vec::new(), events: vec!["open".to_owned()], user })
    }

    fn save(&self) -> Option<Value> {
        let keeps = self.notes.first().is_none_or(|note| note != "forget");
        keeps.then(|| json!(self))
    }

    fn restore(ctx: BlockingCtx, saved: Option<Value>, why: &str) -> Result<Self, Fail> {
        let mut board = match saved {
            Some(saved) => serde_json::from_value(saved)?,
            None => Self::open(ctx)?,
        };
        board.happened(&format!("restore {why}"))?;
        Ok(board)
    }

    fn away(&mut self, _: BlockingCtx) -> Result<(), Fail> {
        self.happened("away")
    }

    fn back(&mut self, _: BlockingCtx) -> Result<(), Fail> {
        self.happened("back")
    }

    fn close(self, ctx: BlockingCtx) -> Result<(), Fail> {
        ctx.wait(ctx.tree(Level::User).set("last", &self.notes))?;
        Ok(())
    }
}

async fn cluster(more: &str) -> (Cluster, Client) {
    let configuration = format!("welcome = false\n[auth]\nhs256_secret = {SECRET:?}\n{more}");
    let app = App::new().page::<Board>(Board::methods).configuration(&configuration);
    let cluster = Cluster::start(app).await.expect("a node");
    let key = Token::of("operator").with_role("admin").sign();
    let client = cluster.client().expect("a client").key(&key);
    (cluster, client)
}

fn opening(cluster: &Cluster) -> Opening {
    let url = format!("{}/_ws", cluster.url().replacen("http", "ws", 1));
    Opening::at_url(&url).with("resident", json!({"class": "Board"}))
}

async fn open(cluster: &Cluster, user: &str) -> Page {
    opening(cluster).token(&Token::of(user).sign()).open().await
}

fn rpc(method: &str, params: Value) -> Value {
    json!({"type": "call", "method": format!("Board.{method}"), "params": params})
}

/// Calls a method over HTTP and returns the status and the body.
async fn post(cluster: &Cluster, page: &str, method: &str, user: &str, params: Value) -> (u16, Value) {
    let url = format!("{}/_page/{}/{method}", cluster.url(), page.replace('|', "%7C"));
    let request = reqwest::Client::new().post(url).bearer_auth(Token::of(user).sign()).json(&params);
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

/// Waits for what the page is told about its object: the state and the reason.
async fn told(page: &mut Page) -> (Value, Value) {
    loop {
        let frame = page.next().await;
        if frame["type"] == "resident" {
            return (frame["state"].clone(), frame["why"].clone());
        }
    }
}

async fn error_of(page: &mut Page, call: Value) -> (Value, Value) {
    let response = page.request(call).await;
    let error = if response["type"] == "error" { &response } else { &response["error"] };
    (error["code"].clone(), error["message"].clone())
}

#[tokio::test]
async fn a_page_and_http_meet_the_object_of_a_program_from_its_opening_to_its_end() {
    let (cluster, client) = cluster("[lifetime]\nresume_ms = 1500\n").await;
    let mut page = open(&cluster, "ann").await;
    assert_eq!(told(&mut page).await, (json!("open"), Value::Null));
    assert_eq!(page.result(rpc("add", json!({"text": "milk"}))).await, 1);
    assert_eq!(page.message().await, json!({"added": "milk", "by": "Board.add"}));
    let id = page.id().to_owned();
    assert_eq!(post(&cluster, &id, "add", "ann", json!({"text": "tea"})).await, (200, json!(2)));
    assert_eq!(post(&cluster, &id, "peek", "bob", Value::Null).await.0, 404);
    let (known, seen) = (page.registered.clone(), page.seen);
    drop(page.lose_socket());
    let happened = async |events: &[&str]| {
        eventually("the object is told", SOON, async || {
            let (_, board) = post(&cluster, &id, "peek", "ann", Value::Null).await;
            (board["events"] == json!(events)).then_some(board)
        })
        .await
    };
    happened(&["open", "away"]).await;
    let resuming = ["connection_id", "session_id", "page_id"]
        .into_iter()
        .fold(opening(&cluster), |opening, member| opening.with(member, known[member].clone()))
        .with("resume", json!({"token": known["token"], "seq": seen}));
    let page = resuming.token(&Token::of("ann").sign()).open().await;
    let board = happened(&["open", "away", "back"]).await;
    assert_eq!((&board["notes"], &board["user"]), (&json!(["milk", "tea"]), &json!("ann")));
    drop(page.lose_socket());
    let tree = client.tree_of(Level::User, "ann");
    let last = eventually("the object ends with its page", SOON, async || {
        tree.get::<Vec<String>>("last").await.expect("a tree")
    })
    .await;
    assert_eq!(last, ["milk", "tea"]);
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn wrong_parameters_of_a_method_are_named_and_its_object_outlives_a_panic_and_a_timeout() {
    let (cluster, client) = cluster("").await;
    let mut page = open(&cluster, "ann").await;
    let missing = error_of(&mut page, rpc("add", json!({}))).await;
    assert_eq!(missing, (json!("malformed"), json!("missing field `text`")));
    let (status, wrong) = post(&cluster, page.id(), "add", "ann", json!({"text": 1})).await;
    assert_eq!((status, &wrong["error"]["code"]), (422, &json!("malformed")));
    let message = wrong["error"]["message"].as_str().expect("a message");
    assert!(message.starts_with("text: invalid type: integer `1`"), "{message}");
    let (code, message) = error_of(&mut page, rpc("add", json!({"text": "panic"}))).await;
    assert_eq!(code, "failed");
    assert!(message.as_str().is_some_and(|text| text.contains("`Board.add` has panicked")), "{message}");
    assert_eq!(error_of(&mut page, rpc("slow", Value::Null)).await.0, "timeout");
    let board = page.result(rpc("peek", Value::Null)).await;
    assert_eq!((&board["notes"], &board["events"]), (&json!(["panic"]), &json!(["open", "slow"])));
    assert_eq!(error_of(&mut page, rpc("remove", Value::Null)).await.0, "no_executor");
    let pageless = client.call::<Value>("Board.peek", &()).user("ann").await.expect_err("a refusal");
    assert_eq!(pageless.code(), "malformed", "{pageless}");
    let mut refused = open(&cluster, "eve").await;
    assert_eq!(
        error_of(&mut refused, rpc("peek", Value::Null)).await,
        (json!("no_board"), json!("eve has no board"))
    );
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn an_object_is_saved_and_restored_when_its_page_logs_in_or_another_one_needs_its_room() {
    let (cluster, _) = cluster("[[pool]]\nname = \"default\"\n[pool.pages]\nmax = 1\n").await;
    let mut page = opening(&cluster).open().await;
    assert_eq!(told(&mut page).await, (json!("open"), Value::Null));
    assert_eq!(page.result(rpc("add", json!({"text": "milk"}))).await, 1);
    page.request(json!({"type": "auth", "token": Token::of("ann").sign()})).await;
    let board = page.result(rpc("peek", Value::Null)).await;
    assert_eq!((&board["notes"], &board["events"]), (&json!(["milk"]), &json!(["open", "restore user"])));
    assert_eq!(told(&mut page).await, (json!("restored"), json!("user")));
    let mut other = open(&cluster, "bob").await;
    assert_eq!(told(&mut other).await, (json!("open"), Value::Null));
    assert_eq!(other.result(rpc("add", json!({"text": "forget"}))).await, 1);
    let board = page.result(rpc("peek", Value::Null)).await;
    assert_eq!(board["events"], json!(["open", "restore user", "restore full"]));
    assert_eq!(told(&mut page).await, (json!("restored"), json!("full")));
    // saved nothing
    let board = other.result(rpc("peek", Value::Null)).await;
    assert_eq!((&board["notes"], &board["events"]), (&json!([]), &json!(["open", "restore full"])));
    assert_eq!(told(&mut other).await, (json!("rebuilt"), json!("full")));
    cluster.shutdown().await.expect("a clean end");
}
