//! Rollouts that go on by themselves while the node that decides is killed at each of their steps, with a checker of what must
//! hold afterwards: the rollout has ended once, each of its steps is in the history once, and no user or page went back.
//!
//! `PAGEWIRE_ROLLOUT_RUNS` is the number of rollouts; each of them kills at other moments.

mod cluster;

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::cluster::{
    Cluster, DECIDES, Leaders, Moment, Shown, follow, history, shows, start, wait, write_fresh,
};
use crate::environment::{Node, Page, SOON, Token, eventually};

/// The weights of the lane, one after the other.
const STEPS: [u32; 5] = [10, 25, 45, 70, 90];
/// Users with lanes that are looked at after each step.
const USERS: usize = 40;
/// Pages that stay open at the node that is never killed.
const PAGES: usize = 6;
/// Pages at the node that is killed.
const GUESTS: usize = 2;

fn runs() -> usize {
    std::env::var("PAGEWIRE_ROLLOUT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Makes calls of users who come only once, calls of the pages, and jobs, until the rollouts are over. Each call of the base lane
/// succeeds, and each of a good canary. Returns the jobs.
async fn load(witness: &Node, pages: &mut [Page], over: &AtomicBool, is_bad: bool) -> Vec<String> {
    let (mut jobs, mut users) = (Vec::new(), 0);
    let api = witness.api();
    while !over.load(Ordering::Relaxed) {
        let calls = (users..users + 8).map(async |user| {
            let body = json!({"method": "echo", "params": [user], "user": format!("guest-{user}")});
            let answer =
                api.request(Method::POST, "/api/v1/calls").json(&body).send().await.expect("an answer");
            let status = answer.status();
            assert!(status == StatusCode::OK || is_bad, "{status}: {:?}", answer.text().await);
        });
        join_all(calls).await;
        users += 8;
        for page in pages.iter_mut() {
            let ended = page.request(json!({"type": "call", "method": "echo", "params": 1})).await;
            assert!(ended["type"] == "result" || (is_bad && ended["code"] == "failed"), "{ended}");
        }
        let body = json!({"kind": "echo", "data": 1, "user": format!("guest-{users}"), "retries": 20});
        let response = api.request(Method::POST, "/api/v1/jobs").json(&body).send().await;
        let job: Value = response.expect("an answer").json().await.expect("a JSON body");
        jobs.push(job["id"].as_str().expect("an id").to_owned());
    }
    jobs
}

async fn all_succeed(witness: &Node, jobs: &[String]) {
    for job in jobs {
        eventually("the job has succeeded", SOON, async || {
            let record = witness.api().get_json(&format!("/api/v1/jobs/{job}")).await;
            (record["state"] == "succeeded").then_some(())
        })
        .await;
    }
}

async fn open(node: &Node, user: String) -> Page {
    Page::opening(node).token(&Token::of(&user).sign()).open().await
}

/// Returns the lane that a page keeps.
async fn pin(witness: &Node, page: &str) -> Value {
    let page = page.replace('|', "%7C");
    let explained = witness.api().get_json(&format!("/api/v1/rollouts/default/explain?page={page}")).await;
    explained["pin"].clone()
}

/// The lanes of users and pages at one moment.
#[derive(Debug)]
struct Lanes {
    in_canary: Vec<bool>,
    pins: Vec<Value>,
}

impl Lanes {
    async fn of(witness: &Node, pages: &[String]) -> Self {
        let mut in_canary = Vec::with_capacity(USERS);
        for user in 0..USERS {
            let path = format!("/api/v1/rollouts/default/explain?user=user-{user}");
            in_canary.push(witness.api().get_json(&path).await["lane"] == "canary");
        }
        let mut pins = Vec::new();
        for page in pages {
            pins.push(pin(witness, page).await);
        }
        Self { in_canary, pins }
    }

    /// Checks that no user has gone back since `before`, and that each page keeps its lane.
    fn went_on_from(&self, before: &Self) {
        let back = before.in_canary.iter().zip(&self.in_canary).filter(|(was, is)| **was && !**is).count();
        assert_eq!(back, 0, "users who came back while the weight rose");
        for (was, is) in before.pins.iter().zip(&self.pins).filter(|(was, _)| !was.is_null()) {
            assert_eq!(was, is, "a page keeps its lane while the weight rises");
        }
    }
}

/// Pages at the node that is killed, with the lane that each of them keeps.
struct Guests(Vec<(Page, Value)>);

impl Guests {
    /// Opens pages. Their rows have the lanes that they keep.
    async fn open(leader: &Node, witness: &Node, label: &str) -> Self {
        let mut guests = Vec::new();
        for number in 0..GUESTS {
            let mut page = open(leader, format!("{label}-{number}")).await;
            page.request(json!({"type": "call", "method": "echo", "params": 1})).await;
            let kept = eventually("the lane of the page is stored", SOON, async || {
                Some(pin(witness, page.id()).await).filter(|pin| !pin.is_null())
            })
            .await;
            guests.push((page, kept));
        }
        Self(guests)
    }

    /// Resumes them after the death of their node: a page of the base lane does not begin to wander, and no page leaves a
    /// canary that was not taken back.
    async fn resume(self, witness: &Node, label: &str, is_bad: bool) {
        for (number, (page, kept)) in self.0.into_iter().enumerate() {
            let token = Token::of(&format!("{label}-{number}")).sign();
            let mut page = page.memory().resuming(witness).token(&token).open().await;
            let ended = page.request(json!({"type": "call", "method": "echo", "params": 1})).await;
            assert!(ended["type"] == "result" || is_bad, "{ended}");
            let keeps = pin(witness, page.id()).await;
            assert!(keeps == kept || (is_bad && kept == "canary" && keeps == "stable"), "{kept} {keeps}");
        }
    }
}

/// One good rollout. Its leader is killed at each step, and once more when it has ended.
async fn promote(
    leaders: &mut Leaders,
    witness: &Node,
    shown: &mut watch::Receiver<Shown>,
    pages: &[String],
    number: usize,
) {
    write_fresh(witness, number).await;
    let mut lanes = Lanes::of(witness, pages).await;
    for step in 0..STEPS.len() {
        let (leader, label) = (leaders.current(), format!("guest-of-{number}-{step}"));
        let guests = Guests::open(leader, witness, &label).await;
        if step == 0 {
            start(witness, &STEPS.map(|step| step.to_string()).join(",")).await;
        }
        let moment = match step {
            0 => Moment::BeforeTheDecision,
            _ if step == STEPS.len() - 1 => Moment::AfterTheWrite,
            _ => Moment::OF_A_STEP[(step + number) % Moment::OF_A_STEP.len()],
        };
        wait(moment, step as u64, shown, leader).await;
        leader.kill();
        guests.resume(witness, &label, false).await;
        // some come back at once, know nothing of the work before, and lead again
        if step % 2 == 0 {
            leader.restart().await;
        }
        shows(shown, "the next step", |shown| shown.step() > step as u64 || shown.has_ended()).await;
        let after = Lanes::of(witness, pages).await;
        after.went_on_from(&lanes);
        lanes = after;
        leaders.complete(witness).await;
    }
}

/// Checks that the history has each step once, in order, with its evidence.
fn check_promotions(history: &[Value]) {
    assert_eq!(history.len(), STEPS.len(), "{history:#?}");
    let first = history[0]["revision"].as_u64().expect("a revision");
    for (step, revision) in history.iter().enumerate() {
        assert_eq!(revision["revision"], first + step as u64, "{revision}");
        assert_eq!(revision["plan"]["step"], step, "{revision}");
        assert_eq!(
            revision["lanes"],
            json!([{"name": "canary", "weight": STEPS[step], "on_regression": "abort"}])
        );
        let state = if step == STEPS.len() - 1 { "completed" } else { "running" };
        assert_eq!(revision["plan"]["state"], state, "{revision}");
        if step == 0 {
            continue;
        }
        assert_eq!(revision["updated_by"], "analysis", "{revision}");
        let comment = revision["comment"].as_str().expect("a comment");
        assert!(comment.starts_with("lane canary is not worse: 0 of "), "{comment}");
        let evidence = &revision["evidence"];
        assert_eq!((&evidence["lane"], &evidence["needs"]), (&json!("canary"), &json!(0)), "{evidence}");
    }
}

async fn pages_of_users(witness: &Node) -> (Vec<Page>, Vec<String>) {
    let mut pages = Vec::new();
    for number in 0..PAGES {
        pages.push(open(witness, format!("user-{number}")).await);
    }
    let ids = pages.iter().map(|page| page.id().to_owned()).collect();
    (pages, ids)
}

#[tokio::test]
async fn a_rollout_whose_leader_is_killed_at_each_step_takes_each_step_once_and_no_page_back() {
    let mut cluster = Cluster::start(false).await;
    let (witness, leaders) = (&cluster.witness, &mut cluster.leaders);
    let mut shown = follow(witness).await;
    let (mut pages, ids) = pages_of_users(witness).await;
    let over = AtomicBool::new(false);
    let rollouts = async {
        for number in 0..runs() {
            promote(leaders, witness, &mut shown, &ids, number).await;
            check_promotions(&history(witness).await);
        }
        over.store(true, Ordering::Relaxed);
    };
    let (jobs, ()) = tokio::join!(load(witness, &mut pages, &over, false), rollouts);
    all_succeed(witness, &jobs).await;
}

/// One bad rollout. Its leader is killed when it takes the lane back.
async fn take_back(
    leaders: &mut Leaders,
    witness: &Node,
    shown: &mut watch::Receiver<Shown>,
    moment: Moment,
    number: usize,
) {
    write_fresh(witness, number).await;
    let (leader, label) = (leaders.current(), format!("guest-of-{number}"));
    let guests = Guests::open(leader, witness, &label).await;
    let decided = leader.log().matches(DECIDES).count();
    start(witness, "30,100").await;
    match moment {
        Moment::AtTheDecision => {
            eventually("the leader decides", SOON, async || {
                (leader.log().matches(DECIDES).count() > decided).then_some(())
            })
            .await;
        }
        _ => shows(shown, "the lane is taken back", Shown::has_ended).await,
    }
    leader.kill();
    shows(shown, "the lane is taken back", |shown| shown.document["plan"]["state"] == "aborted").await;
    guests.resume(witness, &label, true).await;
    leaders.complete(witness).await;
}

/// Checks that the history has the start, and one abort with its evidence.
fn check_abort(history: &[Value]) {
    let [start, abort] = history else { panic!("a start and an abort: {history:#?}") };
    assert_eq!(abort["revision"], start["revision"].as_u64().expect("a revision") + 1);
    assert_eq!((&abort["plan"]["state"], &abort["updated_by"]), (&json!("aborted"), &json!("analysis")));
    assert_eq!(abort["lanes"], json!([{"name": "canary", "weight": 0, "on_regression": "abort"}]), "{abort}");
    assert!(abort["evidence"]["evidence"].as_f64() >= Some(100.0), "{abort}");
    assert!(abort["comment"].as_str().expect("a comment").starts_with("lane canary is worse: "), "{abort}");
}

#[tokio::test]
async fn a_bad_lane_whose_leader_is_killed_while_it_is_taken_back_is_taken_back_once_with_all_of_its_work() {
    let mut cluster = Cluster::start(true).await;
    let (witness, leaders) = (&cluster.witness, &mut cluster.leaders);
    let mut shown = follow(witness).await;
    let (mut pages, ids) = pages_of_users(witness).await;
    let over = AtomicBool::new(false);
    let rollouts = async {
        for (number, moment) in [Moment::AtTheDecision, Moment::AfterTheWrite].into_iter().enumerate() {
            take_back(leaders, witness, &mut shown, moment, number).await;
            check_abort(&history(witness).await);
            let lanes = Lanes::of(witness, &ids).await;
            assert!(lanes.in_canary.iter().all(|is_canary| !is_canary), "{lanes:?}");
            assert!(lanes.pins.iter().all(|pin| pin != "canary"), "{lanes:?}");
        }
        over.store(true, Ordering::Relaxed);
    };
    let (jobs, ()) = tokio::join!(load(witness, &mut pages, &over, true), rollouts);
    all_succeed(witness, &jobs).await;
    for page in &mut pages {
        page.result(json!({"type": "call", "method": "echo", "params": 1})).await;
    }
}
