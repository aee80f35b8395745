//! Programs with handlers in Rust (`pagewire::App`), in the process of the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pagewire::testing::Cluster;
use pagewire::{App, BlockingCtx, Client, Ctx, Fail, Level, RequestError, Stop, To};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::environment::{Opening, Page, SECRET, SOON, Token, eventually};

/// A time that no test waits for.
const LONG: Duration = Duration::from_secs(60);

async fn cluster(app: App) -> (Cluster, Client) {
    let configuration = format!("welcome = false\n[auth]\nhs256_secret = {SECRET:?}\n");
    let cluster = Cluster::start(app.configuration(&configuration)).await.expect("a node");
    let key = Token::of("operator").with_role("admin").sign();
    let client = cluster.client().expect("a client").key(&key);
    (cluster, client)
}

async fn page_of(cluster: &Cluster, user: &str) -> Page {
    let url = format!("{}/_ws", cluster.url().replacen("http", "ws", 1));
    Opening::at_url(&url).token(&Token::of(user).sign()).open().await
}

#[derive(Deserialize)]
struct Remember {
    word: String,
    #[serde(default)]
    times: u32,
}

/// Counts a word in the tree of the user, and tells the page that asked and the other pages of the user.
async fn remember(ctx: Ctx, Remember { word, times }: Remember) -> Result<u32, Fail> {
    let count = |words: &mut BTreeMap<String, u32>| {
        let count = words.entry(word.clone()).or_default();
        *count += times.max(1);
        Ok(*count)
    };
    let count = ctx.tree(Level::User).update("words", count).await?;
    ctx.page().send(&json!({ "heard": word })).await?;
    ctx.user().send(&json!({ "count": count })).await?;
    Ok(count)
}

async fn whoami(ctx: Ctx, (): ()) -> Result<Value, Fail> {
    Ok(json!({"user": ctx.user().id(), "page": ctx.page().id(), "method": ctx.method(), "job": ctx.job()}))
}

#[tokio::test]
async fn a_handler_of_a_program_has_effects_for_its_user_and_the_page_that_asked() {
    let app = App::new().handler("remember", remember).assigned().handler("whoami", whoami);
    let (cluster, client) = cluster(app).await;
    let mut page = page_of(&cluster, "ann").await;
    let mut other = page_of(&cluster, "ann").await;
    let call = json!({"type": "call", "method": "remember", "params": {"word": "tea"}});
    assert_eq!(page.result(call).await, 1);
    assert_eq!([page.message().await, page.message().await], [json!({"heard": "tea"}), json!({"count": 1})]);
    assert_eq!(other.message().await, json!({"count": 1}));
    let who = page.result(json!({"type": "call", "method": "whoami"})).await;
    assert_eq!(who, json!({"user": "ann", "page": page.id(), "method": "whoami", "job": null}));
    let tree = client.tree_of(Level::User, "ann");
    assert_eq!(tree.get::<u32>("words.tea").await, Ok(Some(1)));
    let counts =
        (0..8).map(|_| client.call::<u32>("remember", &json!({"word": "tea"})).user("ann").into_future());
    for count in futures_util::future::join_all(counts).await {
        count.expect("a count");
    }
    assert_eq!(tree.get::<u32>("words.tea").await, Ok(Some(9)), "no count is lost");
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn wrong_parameters_are_refused_with_their_name_and_a_panic_is_a_failure() {
    let panics = async |_: Ctx, (): ()| -> Result<(), Fail> { panic!("a fault of this test") };
    let app = App::new().handler("remember", remember).handler("panics", panics);
    let (cluster, client) = cluster(app).await;
    let refusal = async |params: Value| {
        client.call::<u32>("remember", &params).user("ann").await.expect_err("a refusal")
    };
    let missing = refusal(Value::Null).await;
    assert_eq!((missing.code(), missing.message()), ("malformed", "missing field `word`"));
    let wrong = refusal(json!({"word": "tea", "times": "two"})).await;
    assert_eq!(wrong.code(), "malformed");
    assert!(wrong.message().starts_with("times: invalid type: string \"two\""), "{wrong}");
    let panicked = client.call::<()>("panics", &()).await.expect_err("a failure");
    assert_eq!(panicked.code(), "failed");
    assert!(panicked.message().contains("a fault of this test"), "{panicked}");
    assert_eq!(
        client.call::<u32>("remember", &json!({"word": "tea"})).user("ann").await,
        Ok(1),
        "the node lives"
    );
    let unknown = client.call::<()>("nothing", &()).await.expect_err("a refusal");
    assert_eq!((unknown.code(), unknown.is_retryable()), ("no_executor", true));
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_job_is_tried_again_put_off_and_fails_for_good_as_its_handler_says() {
    let soon = Duration::from_millis(10);
    let flaky = move |ctx: Ctx, (): ()| async move {
        match ctx.attempt() {
            1 => Err(Fail::retry("not yet").retry_after(soon)),
            2 => Err(Fail::from(std::io::Error::other("broken")).retry_after(soon)),
            attempt => Ok(json!({"attempt": attempt, "left": ctx.attempts_left()})),
        }
    };
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let sleepy = move |_: Ctx, (): ()| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move { if run == 0 { Err(Fail::snooze(soon)) } else { Ok(run) } }
    };
    let picky = async |_: Ctx, (): ()| Err::<(), _>(Fail::new("no_stock", "sold out"));
    let app = App::new()
        .handler("flaky", flaky)
        .retries(3)
        .handler("sleepy", sleepy)
        .handler("picky", picky)
        .retries(3);
    let (cluster, client) = cluster(app).await;
    let jobs = client.jobs();
    let end = async |kind: &str| {
        let id = jobs.submit(kind, &()).await.expect("an id");
        jobs.wait(&id, SOON).await.expect("an end")
    };
    let flaky = end("flaky").await;
    assert_eq!((flaky.attempts, flaky.into_result::<Value>()), (3, Ok(json!({"attempt": 3, "left": 1}))));
    assert_eq!(end("sleepy").await.into_result::<u32>(), Ok(1));
    let picky = end("picky").await;
    assert_eq!((picky.state.as_str(), picky.attempts), ("failed", 1));
    assert_eq!(picky.error().map(|error| error.to_string()).as_deref(), Some("no_stock: sold out"));
    cluster.shutdown().await.expect("a clean end");
}

/// Tells that an async handler was dropped.
struct Dropped(mpsc::UnboundedSender<Option<Stop>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(None).expect("the test waits");
    }
}

#[tokio::test]
async fn work_that_is_cancelled_or_takes_too_long_stops_whether_it_waits_or_blocks() {
    let (sender, mut stopped) = mpsc::unbounded_channel();
    let dropped = sender.clone();
    let waits = move |ctx: Ctx, (): ()| {
        let guard = Dropped(dropped.clone());
        async move {
            ctx.progress_message(0.5, "half");
            tokio::time::sleep(LONG).await;
            drop(guard);
            Ok::<_, Fail>(())
        }
    };
    let blocks = move |ctx: BlockingCtx, (): ()| {
        for step in ctx.track(vec![(); 60_000]) {
            if step.is_err() {
                sender.send(ctx.stopped()).expect("the test waits");
            }
            step?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok::<_, Fail>(())
    };
    let app = App::new().handler("waits", waits.clone()).blocking("blocks", blocks.clone());
    let short = Duration::from_millis(50);
    let app =
        app.handler("waits_shortly", waits).timeout(short).blocking("blocks_shortly", blocks).timeout(short);
    let (cluster, client) = cluster(app).await;
    let jobs = client.jobs();
    for kind in ["waits", "blocks"] {
        let id = jobs.submit(kind, &()).await.expect("an id");
        eventually("it runs", SOON, async || {
            (jobs.get(&id).await.expect("a job").state == "running").then_some(())
        })
        .await;
        jobs.cancel(&id).await.expect("a state");
        assert_eq!(jobs.wait(&id, SOON).await.map(|job| job.state), Ok("cancelled".to_owned()), "{kind}");
        let expected = if kind == "waits" { None } else { Some(Stop::Cancelled) };
        assert_eq!(stopped.recv().await, Some(expected), "{kind}");
    }
    for (kind, expected) in [("waits_shortly", None), ("blocks_shortly", Some(Stop::Deadline))] {
        let late = client.call::<()>(kind, &()).await.expect_err("a timeout");
        assert_eq!(late.code(), "timeout", "{late}");
        assert_eq!(stopped.recv().await, Some(expected), "{kind}");
    }
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_handler_that_outlives_its_work_has_no_effects_any_more() {
    let (sender, mut refused) = mpsc::unbounded_channel();
    let leaves = move |ctx: Ctx, (): ()| {
        let sender = sender.clone();
        async move {
            let later = ctx.clone();
            tokio::spawn(async move {
                while ctx.stopped().is_none() {
                    tokio::task::yield_now().await;
                }
                let pushed = ctx.send(To::All, &1).await.map(|_| ());
                let written = ctx.tree(Level::User).set("late", &1).await.map(|_| ());
                sender.send([pushed, written]).expect("the test waits");
            });
            Ok::<_, Fail>(later.method().to_owned())
        }
    };
    let (cluster, client) = cluster(App::new().handler("leaves", leaves)).await;
    assert_eq!(client.call::<String>("leaves", &()).user("ann").await, Ok("leaves".to_owned()));
    for effect in refused.recv().await.expect("two effects") {
        assert_eq!(effect.expect_err("a refusal").code(), "stale");
    }
    assert_eq!(client.tree_of(Level::User, "ann").get::<u8>("late").await, Ok(None));
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn handlers_submit_jobs_make_calls_and_hold_locks() {
    let (reached, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (holds, waits) = (reached.clone(), goes_on.clone());
    let holder = move |ctx: Ctx, (): ()| {
        let (reached, goes_on) = (holds.clone(), waits.clone());
        async move {
            let lock = ctx.lock("stock", LONG).await?;
            reached.notify_one();
            goes_on.notified().await;
            // dropped with the handler, and released then
            Ok::<_, Fail>(lock.token())
        }
    };
    let tries = async |ctx: Ctx, wait_ms: u64| {
        let lock = ctx.lock("stock", LONG).wait(Duration::from_millis(wait_ms)).await?;
        let (token, held) = (lock.token(), lock.is_held());
        lock.release().await?;
        Ok::<_, Fail>((token, held))
    };
    let nested = async |ctx: Ctx, (): ()| {
        let doubled: u32 = ctx.call("double", &4).await?;
        let id = ctx.jobs().submit("double", &doubled).key("one").await?;
        let again = ctx.jobs().submit("double", &doubled).key("one").await?;
        let job = ctx.jobs().wait(&id, SOON).await?;
        Ok::<_, Fail>((id == again, job.into_result::<u32>()?))
    };
    let double = async |_: Ctx, number: u32| Ok::<_, Fail>(2 * number);
    let app = App::new().handler("holder", holder).handler("tries", tries);
    let (cluster, client) = cluster(app.handler("nested", nested).handler("double", double)).await;
    assert_eq!(client.call::<(bool, u32)>("nested", &()).user("ann").await, Ok((true, 16)));
    let holding = tokio::spawn(client.call::<u64>("holder", &()).into_future());
    reached.notified().await;
    let locked = client.call::<(u64, bool)>("tries", &0).await.expect_err("a refusal");
    assert_eq!(locked.code(), "locked");
    goes_on.notify_one();
    let first = holding.await.expect("no panic").expect("a token");
    let (second, held) = client.call::<(u64, bool)>("tries", &10_000).await.expect("the lock");
    assert!(second > first && held, "{second} {first}");
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_client_reads_and_changes_state_and_a_conflict_is_resolved() {
    let (cluster, client) = cluster(App::new()).await;
    let tree = client.tree_of(Level::User, "a/b");
    assert_eq!(tree.get::<Value>("form.name").await, Ok(None));
    let first = tree.set("form.name", &"Ann").await.expect("a revision");
    let changes =
        [pagewire::Change::set("form.age", &30).expect("JSON"), pagewire::Change::delete("form.name")];
    let second = tree.patch(&changes, Some(first)).await.expect("a revision");
    let stale = tree.patch(&changes, Some(first)).await.expect_err("a conflict");
    assert!(stale.is_conflict(), "{stale}");
    let read = tree.read::<Value>("").await.expect("the tree");
    assert_eq!((read.value, read.revision), (Some(json!({"form": {"age": 30}})), second));
    let raises = (0..6).map(|_| {
        tree.update("count", |count: &mut u32| {
            *count += 1;
            Ok(*count)
        })
    });
    let mut counts: Vec<u32> = futures_util::future::join_all(raises)
        .await
        .into_iter()
        .map(|count| count.expect("a count"))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
    let keyless = cluster.client().expect("a client").key("wrong").jobs().get("nothing").await;
    assert_eq!(keyless.map(|_| ()).map_err(|error| error.status()), Err(Some(401)));
    let nowhere = Client::new("http://127.0.0.1:1").expect("a client").send(To::All, &1).await;
    assert_eq!(nowhere.map_err(|error: RequestError| error.code().to_owned()), Err("unavailable".to_owned()));
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn three_nodes_of_a_program_share_pages_and_work() {
    assert!(Cluster::has_nats(), "NATS_SERVER names a nats-server");
    let here = async |ctx: Ctx, (): ()| {
        let reach = ctx.send(To::Topic("news"), &json!({"from": ctx.method()})).await?;
        Ok::<_, Fail>(reach.reached)
    };
    let app =
        App::new().handler("here", here).any().configuration("welcome = false\n[topics]\nopen = [\"news\"]");
    let cluster = Cluster::start_nodes(app, 3).await.expect("three nodes");
    let mut pages = Vec::new();
    for address in cluster.addresses() {
        let mut page = Opening::at_url(&format!("ws://{address}/_ws")).open().await;
        page.result_without_value(json!({"type": "subscribe", "topic": "news"})).await;
        pages.push(page);
    }
    let nodes: std::collections::BTreeSet<_> = pages.iter().map(|page| page.node().to_owned()).collect();
    assert_eq!(nodes.len(), 3);
    for client in cluster.clients().expect("clients") {
        assert_eq!(client.call::<u64>("here", &()).await, Ok(3));
        for page in &mut pages {
            assert_eq!(page.message().await, json!({"from": "here"}));
        }
    }
    let jobs = cluster.client().expect("a client").jobs();
    let id = jobs.submit("here", &()).await.expect("an id");
    assert_eq!(jobs.wait(&id, SOON).await.expect("an end").into_result::<u64>(), Ok(3));
    drop(pages);
    cluster.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_node_that_cannot_start_says_why() {
    for (configuration, reason) in [
        ("lsiten = \"127.0.0.1:1\"", "the program: "),
        (
            "[[pool]]\nname = \"default\"\nmethods = [\"nothing\"]",
            "no handler nothing; it has echo, fail, hash, here",
        ),
    ] {
        let app = App::new().handler("here", whoami).configuration(configuration);
        let error = Cluster::start(app).await.expect_err("a refusal").to_string();
        assert!(error.contains(reason), "{error}");
    }
}
