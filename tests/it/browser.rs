//! The start page in a real Chromium, used like a person would.

mod chromium;
mod first_use;
mod form;
mod handlers;
mod orders;
mod orders_rust;
mod proxy;
mod react;
mod resident;
mod tutorial;

use std::time::Duration;

use serde_json::json;

use self::chromium::{Browser, SECOND_WINDOW};
use self::proxy::Proxy;
use crate::environment::{Nats, Node, SOON, WorkerProcess, eventually};

/// Longer than the longest job in these tests.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn two_pages_of_a_session_find_each_other_and_talk() {
    let node = Node::start().await;
    let browser = Browser::start("talk").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    assert_eq!(browser.text("user-id").await, "anonymous");
    let [connection, session, page] = browser.ids().await;
    let node_number = browser.text("node").await;
    assert!(
        [&connection, &session, &page].iter().all(|id| id.ends_with(&format!("|{node_number}"))),
        "{page}"
    );

    browser.click("open-page").await;
    browser.window(SECOND_WINDOW).await;
    browser.shows("state", "open").await;
    let [other_connection, other_session, other_page] = browser.ids().await;
    assert_eq!((&other_connection, &other_session), (&connection, &session), "the same session");
    assert_ne!(other_page, page);
    browser.shows("peers", "…").await;
    assert_eq!(browser.value("push-id").await, page, "the first page answered the greeting of the second");
    browser.fill("push-text", "from the second page").await;
    browser.click("push-send").await;
    browser.shows("push-result", "reached 1 page").await;

    browser.window(0).await;
    browser.shows("log", "from the second page").await;
    browser.click("call-send").await;
    browser.shows("call-result", "6").await;
    browser.shows("call-latency", "ms").await;
    browser.screenshot("talk").await;
    browser.close().await;
}

#[tokio::test]
async fn every_message_missed_by_a_killed_socket_arrives_in_order() {
    let node = Node::start().await;
    let proxy = Proxy::start([node.address()]).await;
    let browser = Browser::start("recover").await;
    browser.goto(&proxy.url()).await;
    browser.shows("state", "open").await;
    let [_, _, page] = browser.ids().await;
    for round in 0..3 {
        proxy.cut();
        browser.shows("state", "waiting").await;
        for number in 0..5 {
            let report =
                node.api().send(json!({"page": page}), json!({"text": format!("{round}.{number}")})).await;
            assert_eq!((&report["reached"], &report["held"]), (&json!(0), &json!(1)), "{report}");
        }
        if round == 0 {
            browser.screenshot("waiting").await;
        }
        proxy.mend();
        browser.shows("state", "open").await;
        browser.shows("log", &format!("{round}.4")).await;
        browser.shows("notice", "Recovered").await;
    }
    let expected: Vec<_> = (0..3).flat_map(|round| (0..5).map(move |n| format!("{round}.{n}"))).collect();
    let messages = browser.messages().await;
    assert_eq!(messages.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), expected);
    assert!(messages.is_sorted_by(|(one, _), (next, _)| one < next), "{messages:?}");
    assert_eq!(browser.ids().await[2], page);
    browser.screenshot("recovered").await;
    browser.close().await;
}

#[tokio::test]
async fn a_page_waits_for_a_stopped_server_and_says_that_it_was_reset() {
    let mut node = Node::start().await;
    let browser = Browser::start("reset").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    node.terminate();
    node.exit(SOON).await;
    browser.shows("state", "waiting").await;
    browser.shows("countdown", "next attempt in").await;
    browser.shows("notice", "tries again").await;
    node.restart().await;
    browser.shows("state", "open").await;
    browser.shows("notice", "Reset").await;
    browser.shows("recovered", "reset").await;
    browser.click("call-send").await;
    browser.shows("call-result", "6").await;
    browser.screenshot("reset").await;
    browser.close().await;
}

#[tokio::test]
async fn a_tab_stays_the_same_page_and_its_duplicate_is_another_one() {
    let node = Node::start().await;
    let browser = Browser::start("tabs").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    let first = browser.ids().await;
    browser.reload().await;
    browser.shows("recovered", "recovered").await;
    assert_eq!(browser.ids().await, first);
    browser.goto(&format!("{}/pagewire.js", node.url())).await;
    browser.back().await;
    browser.shows("state", "open").await;
    assert_eq!(browser.ids().await, first, "also after a visit elsewhere");

    browser.duplicate_tab(&node.url()).await;
    browser.shows("state", "open").await;
    let duplicate = browser.ids().await;
    assert_eq!(duplicate[0], first[0], "the same browser");
    assert_ne!(duplicate[1], first[1], "a session of its own");
    assert_ne!(duplicate[2], first[2], "a page of its own");

    browser.window(0).await;
    let api = node.api();
    eventually("the first page is still held by the first tab", SOON, async || {
        let report = api.send(json!({"page": first[2]}), json!({"text": "still here"})).await;
        (report["reached"] == json!(1)).then_some(())
    })
    .await;
    browser.shows("log", "still here").await;
    assert_eq!(browser.ids().await, first);
    browser.close().await;
}

/// Returns the progress of the newest job in percent.
async fn percent(browser: &Browser) -> u32 {
    let text = browser.text("job-percent").await;
    text.trim_end_matches(" %").parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Stops `from`, and checks that the page resumes at `to` and that the progress of its job continues there.
async fn moves(browser: &Browser, from: &mut Node, to: &Node, stop: fn(&mut Node)) {
    browser.shows("node", &from.number().await).await;
    let before = percent(browser).await;
    stop(from);
    browser.shows("node", &to.number().await).await;
    browser.shows("state", "open").await;
    eventually("the bar goes on", SOON, async || (percent(browser).await > before).then_some(())).await;
}

#[tokio::test]
async fn a_page_moves_over_three_nodes_with_a_job_running_and_loses_nothing() {
    let nats = Nats::start().await;
    let member = || Node::setup().nats(&nats).start();
    let (mut first, mut second, mut third) = (member().await, member().await, member().await);
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let proxy = Proxy::start([first.address(), second.address(), third.address()]).await;
    let browser = Browser::start("three").await;
    browser.goto(&proxy.url()).await;
    browser.shows("state", "open").await;
    let [_, _, page] = browser.ids().await;
    browser.fill("job-data", r#"{"ms": 25000}"#).await;
    browser.click("job-submit").await;
    browser.shows("job-state", "running").await;
    let job = browser.text("job-id").await;

    moves(&browser, &mut first, &second, |node| node.terminate()).await;
    browser.screenshot("moved").await;
    moves(&browser, &mut second, &third, Node::kill).await;
    browser.shows("recovered", "reset").await;
    first.exit(SOON).await;
    first.restart().await;
    moves(&browser, &mut third, &first, |node| node.terminate()).await;
    let report = first.api().send(json!({"page": page}), json!({"text": "by its first address"})).await;
    assert_eq!(report["reached"], 1, "{report}");
    browser.shows("log", "by its first address").await;

    eventually("the job ends", LONG, async || (browser.text("job-state").await == "succeeded").then_some(()))
        .await;
    assert_eq!(browser.text("job-id").await, job);
    assert_eq!(browser.text("job-outcome").await, "null", "what the worker returned");
    assert_eq!(percent(&browser).await, 100);
    assert_eq!(browser.text("log").await.matches(&job).count(), 1, "it ended once");
    browser.screenshot("three").await;
    browser.close().await;
}

#[tokio::test]
async fn a_page_that_is_led_to_another_living_node_is_handed_over_with_everything() {
    let nats = Nats::start().await;
    let (first, second) = (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let _worker = WorkerProcess::start(&nats, "stable").await;
    let proxy = Proxy::start([first.address()]).await;
    let browser = Browser::start("handover").await;
    browser.goto(&proxy.url()).await;
    browser.shows("state", "open").await;
    let [_, _, page] = browser.ids().await;
    browser.fill("job-data", r#"{"ms": 5000}"#).await;
    browser.click("job-submit").await;
    browser.shows("job-state", "running").await;
    let mut sent = Vec::new();
    for (round, to) in [&second, &first, &second].into_iter().enumerate() {
        proxy.cut();
        browser.shows("state", "waiting").await;
        for number in 0..5 {
            let text = format!("{round}.{number}");
            let report = second.api().send(json!({"page": page}), json!({"text": text})).await;
            assert_eq!((&report["reached"], &report["held"]), (&json!(0), &json!(1)), "{report}");
            sent.push(text);
        }
        proxy.lead_to(to.address());
        browser.shows("node", &to.number().await).await;
        browser.shows("recovered", "recovered").await;
        browser.shows("log", sent.last().expect("a message")).await;
    }
    browser.shows("job-state", "succeeded").await;
    let texts: Vec<_> = browser.messages().await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, sent, "in order, nothing twice");
    browser.close().await;
}

#[tokio::test]
async fn the_end_of_a_job_waits_for_a_page_that_is_away() {
    let node = Node::start().await;
    let proxy = Proxy::start([node.address()]).await;
    let browser = Browser::start("away").await;
    browser.goto(&proxy.url()).await;
    browser.shows("state", "open").await;
    browser.fill("job-data", r#"{"ms": 4000}"#).await;
    browser.click("job-submit").await;
    browser.shows("job-state", "running").await;
    proxy.cut();
    browser.shows("state", "waiting").await;
    let api = node.api();
    let succeeded = r#"pagewire_jobs_total{kind="sleep",exec="local_free",outcome="succeeded"}"#;
    eventually("the job is over", SOON, async || (api.metric(succeeded).await == 1.0).then_some(())).await;
    assert_eq!(browser.text("job-state").await, "running", "as far as the page knows");
    // submitted while there is no socket
    browser.fill("job-data", r#"{"ms": 60000}"#).await;
    browser.click("job-submit").await;
    browser.shows("job-state", "submitted").await;
    proxy.mend();
    browser.shows("jobs", "succeeded").await;
    browser.shows("job-state", "running").await;
    browser.click("job-cancel").await;
    browser.shows("job-state", "cancelled").await;
    browser.screenshot("jobs").await;
    browser.close().await;
}

#[tokio::test]
async fn a_reloaded_page_hears_of_the_jobs_that_it_had_submitted() {
    let node = Node::start().await;
    let browser = Browser::start("reload").await;
    browser.goto(&node.url()).await;
    browser.shows("state", "open").await;
    browser.fill("job-data", r#"{"ms": 4000}"#).await;
    browser.click("job-submit").await;
    browser.shows("job-state", "running").await;
    let job = browser.text("job-id").await;
    browser.reload().await;
    browser.shows("recovered", "recovered").await;
    browser.shows("jobs", &job).await;
    browser.shows("job-state", "succeeded").await;
    assert_eq!(browser.text("job-id").await, job);
    browser.close().await;
}

#[tokio::test]
async fn a_page_of_a_drained_node_moves_to_another_one_and_does_not_notice() {
    let nats = Nats::start().await;
    let (mut first, second) =
        (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let browser = Browser::start("move").await;
    browser.goto(&first.url()).await;
    let opened = browser
        .printed(
            "const { Pagewire } = await import('/pagewire.js');
             const page = new Pagewire({ slot: 'test', local_storage: null, session_storage: null });
             const seen = (window.seen = { page, messages: [], states: [], answers: [] });
             await page.connect();
             page.on('state', ({ state }) => seen.states.push(state));
             page.on('reset', () => seen.states.push('reset'));
             page.on('message', ({ payload }) => seen.messages.push(payload));
             seen.calls = setInterval(async () => {
                 const count = (seen.count = (seen.count ?? 0) + 1);
                 seen.answers.push(await page.call('echo', count).catch((error) => String(error)));
             }, 20);
             console.log(page.registered.session_id);",
        )
        .await;
    let session = opened.first().expect("an id").clone();
    let api = second.api();
    let pushes = async {
        for number in 0..100 {
            let report = api.send(json!({"session": session}), json!(number)).await;
            let counted = [&report["reached"], &report["held"]].map(|count| count.as_u64().expect("a count"));
            assert_eq!(counted.iter().sum::<u64>(), 1, "{report}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let drain = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        first.terminate();
        let number = second.number().await;
        eventually("the page is at the other node", SOON, async || {
            let node = browser.printed("console.log(window.seen.page.registered.node)").await;
            (node == [number.clone()]).then_some(())
        })
        .await;
    };
    tokio::join!(pushes, drain);
    first.exit(SOON).await;
    let seen = browser
        .printed(
            "const { page, messages, states, answers, count } = window.seen;
             clearInterval(window.seen.calls);
             while (window.seen.messages.length < 100 || answers.length < window.seen.count) {
                 await new Promise((later) => setTimeout(later, 10));
             }
             console.log(JSON.stringify(messages));
             console.log(JSON.stringify(states));
             // calls run at the same time
             answers.sort((one, other) => one - other);
             console.log(answers.every((answer, index) => answer === index + 1));
             console.log(page.state);",
        )
        .await;
    let sent = serde_json::to_string(&(0..100).collect::<Vec<_>>()).expect("JSON");
    assert_eq!(seen, [sent.as_str(), "[]", "true", "open"]);
    browser.close().await;
}
