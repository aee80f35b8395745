//! Lanes of mounts: two releases of one application, and which of them serves whom.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use reqwest::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::environment::children::send;
use crate::environment::releases::{Releases, Visitor, children, lane_has, releases_of, rollout};
use crate::environment::{Node, SOON, Setup, Token, eventually, venv};
use crate::mount_processes::setup;

/// Users of a test: so many that each lane has some.
pub(crate) const USERS: usize = 60;

/// Configures a node with a canary, and accepts users.
pub(crate) fn with_canary(releases: &Releases, mount: &str, canary: &str) -> Setup {
    setup(&(releases.mount(mount) + &releases.canary(canary))).users()
}

/// Starts a node with two processes of release 1.0 and one of release 2.0, and waits for them.
async fn started(releases: &Releases) -> Node {
    let node = with_canary(releases, "", "processes = 1").start().await;
    ready(&node, 1).await;
    node
}

/// Starts a rollout, and waits until the canary can get users: a lane without ready processes is refused.
async fn ready(node: &Node, canary: usize) {
    lane_has(node, "stable", 2).await;
    weigh(node, "0", &[]).await;
    lane_has(node, "canary", canary).await;
}

/// Changes the weight of the canary.
pub(crate) async fn weigh(node: &Node, weight: &str, more: &[&str]) {
    let lane = format!("canary={weight}");
    let output = rollout(node, &[&["set-weight", "shop", &lane], more].concat()).await;
    assert_eq!(output.code, 0, "{output:?}");
}

/// Returns the users who get release 2.0.
pub(crate) async fn in_canary(node: &Node) -> BTreeSet<usize> {
    let releases = releases_of(node, USERS).await;
    let canary = releases.iter().enumerate().filter(|(_, release)| *release == "2.0");
    canary.map(|(user, _)| user).collect()
}

#[tokio::test]
async fn users_are_split_between_two_releases_and_each_stays_until_more_follow_or_all_come_back() {
    let releases = Releases::create();
    let own = releases.venv("2.0");
    let more = format!("processes = 1\nvenv = {}\nenv = {{ FEATURE = \"new\" }}", json!(own));
    let shared = format!("env = {{ FEATURE = \"old\", COMMON = \"1\" }}\nserver_venv = {}", json!(venv()));
    let node = with_canary(&releases, &shared, &more).start().await;
    lane_has(&node, "stable", 2).await;
    assert_eq!(in_canary(&node).await, BTreeSet::new(), "without a rollout all users have the mount itself");
    ready(&node, 1).await;
    weigh(&node, "30", &[]).await;
    let few = in_canary(&node).await;
    assert!((5..=35).contains(&few.len()), "{few:?}");
    assert_eq!(in_canary(&node).await, few, "each user stays");
    let user = Visitor::user(*few.first().expect("a user"));
    let (_, seen) = user.shown(&node).await;
    assert_eq!(
        (&seen["feature"], &seen["common"], &seen["prefix"]),
        (&json!("new"), &json!("1"), &json!(own))
    );
    let explained = node.api().get_json("/api/v1/rollouts/shop/explain?user=user-0").await;
    let lane = if few.contains(&0) { ("canary", "2.0") } else { ("stable", "1.0") };
    assert_eq!((&explained["lane"], &explained["release"]), (&json!(lane.0), &json!(lane.1)));

    let (canary, stable) = (lane_has(&node, "canary", 1).await, lane_has(&node, "stable", 2).await);
    assert_eq!((&canary["releases"], &stable["releases"]), (&json!(["2.0"]), &json!(["1.0"])));
    assert!(canary["assigned"].as_u64() >= Some(few.len() as u64), "{canary}");
    let status = rollout(&node, &["status", "shop"]).await;
    assert!(status.out.contains("2.0") && !status.err.contains("warning"), "{status:?}");
    let counted =
        "pagewire_mount_lane_requests_total{mount=\"/shop\",lane=\"canary\",release=\"2.0\",status=";
    assert!(node.api().metric(&format!("{counted}\"200\"}}")).await >= few.len() as f64);
    assert_eq!(user.request(&node, Method::GET, "/shop/fail").await.status(), 500);
    assert_eq!(node.api().metric(&format!("{counted}\"500\"}}")).await, 1.0);
    let answer = user.request(&node, Method::GET, "/shop/").await;
    let told = answer.headers().iter().any(|(name, value)| {
        name.as_str().contains("lane") || value.to_str().is_ok_and(|value| value.contains("canary"))
    });
    assert!(!told && !answer.headers().contains_key(SET_COOKIE), "{:?}", answer.headers());

    weigh(&node, "70", &[]).await;
    let many = in_canary(&node).await;
    assert!(many.is_superset(&few) && many.len() > few.len(), "{few:?} {many:?}");
    let aborted = rollout(&node, &["abort", "shop", "--lane", "canary"]).await;
    assert_eq!(aborted.code, 0, "{aborted:?}");
    assert_eq!(in_canary(&node).await, BTreeSet::new());
}

#[tokio::test]
async fn a_release_that_answers_with_errors_is_taken_back_by_itself() {
    let releases = Releases::create();
    let node = started(&releases).await;
    let wanted = json!({"lanes": [{"name": "canary", "weight": 30, "on_regression": "abort"}]});
    let change = node.api().request(Method::PUT, "/api/v1/rollouts/shop").header("if-match", "*");
    assert_eq!(change.json(&wanted).send().await.expect("an answer").status(), StatusCode::OK);
    let few = in_canary(&node).await;
    for user in 0..USERS {
        let path = if few.contains(&user) { "/shop/fail" } else { "/shop/" };
        Visitor::user(user).request(&node, Method::GET, path).await;
    }
    let status = eventually("the canary is taken back", SOON, async || {
        let status = node.api().get_json("/api/v1/rollouts/shop").await;
        (status["updated_by"] == "analysis").then_some(status)
    })
    .await;
    assert_eq!(status["lanes"][0]["weight"], 0, "{status}");
    let comment = status["comment"].as_str().expect("a comment");
    assert!(comment.contains("with 5xx answers, 0 of"), "{comment}");
    assert_eq!(status["evidence"]["release"], "2.0", "{status}");
    assert_eq!(in_canary(&node).await, BTreeSet::new());
}

#[tokio::test]
async fn a_browser_without_a_user_stays_in_its_lane_by_the_cookie_of_its_connection() {
    let releases = Releases::create();
    let node = started(&releases).await;
    weigh(&node, "50", &[]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..24 {
        let first = node.api().request(Method::GET, "/shop/").send().await.expect("an answer");
        let browser = Visitor::browser_of(&first);
        let first: Value = first.json().await.expect("JSON");
        let release = browser.release(&node).await;
        assert_eq!(first["release"], release.as_str(), "{browser:?}");
        let Visitor::Browser(cookie) = &browser else { panic!("{browser:?}") };
        let connection = cookie.strip_prefix("pagewire_connection=").expect("the cookie of a connection");
        let explained = format!("/api/v1/rollouts/shop/explain?connection={connection}");
        assert_eq!(node.api().get_json(&explained).await["release"], release.as_str());
        seen.insert(release);
    }
    assert_eq!(seen.len(), 2, "some browsers are in each lane");
}

#[tokio::test]
async fn an_abort_under_load_fails_no_request_and_what_has_begun_ends_where_it_began() {
    let releases = Releases::create();
    let node = with_canary(&releases, "", "processes = 2").real_timing().start().await;
    ready(&node, 2).await;
    weigh(&node, "100", &[]).await;
    let gate = releases.gate();
    let path = format!("/shop/stream?{}", gate.display());
    let mut begun = Visitor::user(0).request(&node, Method::GET, &path).await;
    assert_eq!(begun.chunk().await.expect("a part").expect("a part"), "2.0");
    let before = children(&node, "canary").await;
    let (done, ended) = tokio::sync::watch::channel(false);
    let client = async |number: usize| {
        let mut releases = vec![Visitor::user(number).release(&node).await];
        while !*ended.borrow() {
            releases.push(Visitor::user(number).release(&node).await);
        }
        releases
    };
    let load = join_all((0..4).map(client));
    let change = async {
        for _ in 0..2 {
            node.hang_up();
            rollout(&node, &["abort", "shop", "--lane", "canary"]).await;
            assert_eq!(Visitor::user(9).release(&node).await, "1.0");
            weigh(&node, "100", &["--force"]).await;
            assert_eq!(Visitor::user(9).release(&node).await, "2.0");
        }
        rollout(&node, &["abort", "shop", "--lane", "canary"]).await;
        assert_eq!(releases_of(&node, 20).await, vec!["1.0"; 20]);
        done.send_replace(true);
    };
    let (seen, ()) = futures_util::join!(load, change);
    assert!(seen.iter().all(|releases| releases.last().is_some_and(|last| last == "1.0")), "{seen:?}");
    assert!(seen.iter().flatten().any(|release| release == "2.0"), "{seen:?}");
    std::fs::write(&gate, "").expect("a file");
    assert_eq!(begun.text().await.expect("the rest"), " 2.0", "the response ends in its process");
    eventually("a reload has replaced the processes of the canary, too", SOON * 2, async || {
        let now = children(&node, "canary").await;
        let is_new = |child: &Value| before.iter().all(|old| old["pid"] != child["pid"]);
        (now.len() == 2 && now.iter().all(is_new)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lane_whose_processes_die_follows_the_fallback_and_the_node_stays_ready() {
    let releases = Releases::create();
    let node = started(&releases).await;
    rollout(&node, &["assign", "shop", "canary", "--user", "ann"]).await;
    let (ann, bob) = (Visitor::User("ann".to_owned()), Visitor::User("bob".to_owned()));
    assert_eq!((ann.release(&node).await, bob.release(&node).await), ("2.0".to_owned(), "1.0".to_owned()));
    releases.set_broken("2.0", true);
    for child in children(&node, "canary").await {
        send(&child["pid"], Signal::KILL);
    }
    eventually("the canary has no process", SOON, async || {
        (ann.shown(&node).await.0 == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let refused = ann.request(&node, Method::GET, "/shop/").await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().expect("text"))
    );
    let body = refused.text().await.expect("a body");
    assert!(!body.contains("canary"), "{body}");
    let log = node.log();
    let reason =
        log.lines().find(|line| line.contains("an upstream has not answered") && line.contains("canary"));
    assert!(reason.is_some_and(|line| line.contains("no process is ready")), "{log}");
    assert_eq!(bob.release(&node).await, "1.0");
    assert!(node.api().is_ready().await, "a lane that fails does not take its node away");
    let status = node.api().get_json("/api/v1/rollouts/shop").await;
    let warning = "lane canary has 0% of the users and 1 user of its own and no ready processes: the requests of its users are refused";
    assert_eq!(status["warnings"], json!([warning]));
    let refused = rollout(&node, &["set-weight", "shop", "canary=10"]).await;
    assert!(refused.code == 1 && refused.err.contains("(lane_without_workers)"), "{refused:?}");
    assert!(refused.err.contains("lane canary of pool shop has no ready processes"), "{refused:?}");

    let helped = rollout(&node, &["set-weight", "shop", "canary=10", "--fallback", "base"]).await;
    assert!(helped.code == 0 && helped.err.contains("the base lane does the work"), "{helped:?}");
    assert_eq!(ann.release(&node).await, "1.0");
    let explained = node.api().get_json("/api/v1/rollouts/shop/explain?user=ann").await;
    assert_eq!((&explained["lane"], &explained["reason"]), (&json!("stable"), &json!("fallback")));
    releases.set_broken("2.0", false);
    eventually("the canary serves again", SOON * 3, async || {
        (ann.release(&node).await == "2.0").then_some(())
    })
    .await;
    // the death of a process that the node does not know of yet
    for child in children(&node, "canary").await {
        send(&child["pid"], Signal::KILL);
        let (status, shown) = ann.shown(&node).await;
        assert!(status == StatusCode::OK || status == StatusCode::BAD_GATEWAY, "{status} {shown}");
    }
}

#[tokio::test]
async fn a_user_previews_a_lane_that_no_other_user_has_yet() {
    let releases = Releases::create();
    let node = with_canary(&releases, "", "processes = 1").start().await;
    lane_has(&node, "stable", 2).await;
    let unknown = rollout(&node, &["assign", "shop", "canary", "--user", "ann"]).await;
    assert!(unknown.code != 0 && unknown.err.contains("has no lane canary"), "{unknown:?}");
    ready(&node, 1).await;
    assert_eq!(rollout(&node, &["assign", "shop", "canary", "--user", "user-3"]).await.code, 0);
    assert_eq!(in_canary(&node).await, BTreeSet::from([3]));
    let switched = rollout(&node, &["switch", "shop", "canary"]).await;
    assert_eq!(switched.code, 0, "{switched:?}");
    assert_eq!(in_canary(&node).await.len(), USERS, "the other colour is the base");
    assert_eq!(rollout(&node, &["switch", "shop", "stable"]).await.code, 0);
    assert_eq!(rollout(&node, &["unassign", "shop", "--user", "user-3"]).await.code, 0);
    assert_eq!(in_canary(&node).await, BTreeSet::new());
    let absent = rollout(&node, &["start", "shop", "--lane", "beta", "--steps", "100"]).await;
    assert!(
        absent.code == 1 && absent.err.contains("lane beta of pool shop has no ready processes"),
        "{absent:?}"
    );
    assert_eq!(
        rollout(&node, &["start", "shop", "--lane", "beta", "--steps", "100", "--force"]).await.code,
        0
    );
    assert_eq!(Visitor::user(0).shown(&node).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(node.log().contains("no node has a process of the lane"), "{}", node.log());
}

#[tokio::test]
async fn a_websocket_keeps_the_lane_of_its_opening_and_the_next_one_follows_the_abort() {
    let releases = Releases::create();
    let file = (releases.mount("") + &releases.canary("")).replace("wsgi = \"shop\"", "asgi = \"shop:app\"");
    let node = setup(&format!("{file}processes = 1")).users().start().await;
    ready(&node, 1).await;
    weigh(&node, "100", &[]).await;
    let open = async || {
        let url = format!("ws://{}/shop/live", node.address());
        let mut request = url.into_client_request().expect("a request");
        let token = format!("Bearer {}", Token::of("ann").sign());
        request.headers_mut().insert(AUTHORIZATION, token.parse().expect("text"));
        tokio_tungstenite::connect_async(request).await.expect("a handshake").0
    };
    let mut before = open().await;
    rollout(&node, &["abort", "shop", "--lane", "canary"]).await;
    let mut after = open().await;
    for (socket, release) in [(&mut before, "2.0"), (&mut after, "1.0")] {
        socket.send(Message::text("which?")).await.expect("the application reads");
        let told = socket.next().await.expect("an answer").expect("a message");
        assert_eq!(told.into_text().expect("text").as_str(), release);
    }
}

#[tokio::test]
async fn a_program_of_any_language_has_lanes_of_its_own_folders() {
    let releases = Releases::create();
    for release in ["1.0", "2.0"] {
        std::fs::write(releases.folder(release).join("release.txt"), release).expect("a file");
    }
    let (stable, canary) = (json!(releases.folder("1.0")), json!(releases.folder("2.0")));
    let file = format!(
        "[[mount]]\npath = \"/shop\"\nhttp = \"http://127.0.0.1:{{port}}/\"\nprocesses = 1\ndirectory = {stable}\n\
         command = [\"python3\", \"-m\", \"http.server\", \"{{port}}\", \"--bind\", \"127.0.0.1\"]\n\
         [[mount.lane]]\nname = \"canary\"\ndirectory = {canary}\n"
    );
    let node = Node::setup().users().file(&file).start().await;
    lane_has(&node, "stable", 1).await;
    weigh(&node, "50", &["--force"]).await;
    lane_has(&node, "canary", 1).await;
    let mut seen = BTreeSet::new();
    for number in 0..USERS {
        let user = Visitor::user(number);
        let answer = user.request(&node, Method::GET, "/shop/release.txt").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let release = answer.text().await.expect("a body");
        let again = user.request(&node, Method::GET, "/shop/release.txt").await;
        assert_eq!(again.text().await.expect("a body"), release);
        seen.insert(release);
    }
    assert_eq!(seen, BTreeSet::from(["1.0".to_owned(), "2.0".to_owned()]));
    let anonymous = node.api().request(Method::GET, "/shop/release.txt").header(COOKIE, "a=1").send().await;
    assert!(anonymous.expect("an answer").headers().contains_key(SET_COOKIE));
}

#[tokio::test]
async fn the_processes_of_a_lane_of_a_mount_keep_within_its_limits() {
    let releases = Releases::create();
    let node = with_canary(&releases, "", "processes = 2").start().await;
    ready(&node, 2).await;
    weigh(&node, "50", &[]).await;
    let serve = async |lane: &str, expected: usize| {
        eventually(&format!("{expected} processes of {lane} serve"), SOON * 2, async || {
            let children = children(&node, lane).await;
            let ready = children.iter().filter(|child| child["state"] == "ready").count();
            (ready == expected).then_some(())
        })
        .await;
    };
    serve("canary", 2).await;
    let limited = rollout(&node, &["limits", "shop", "canary", "--max-processes", "1"]).await;
    assert_eq!(limited.code, 0, "{limited:?}");
    serve("canary", 1).await;
    assert!(!in_canary(&node).await.is_empty(), "it serves its users");
    let unlimited = rollout(&node, &["limits", "shop", "canary"]).await;
    assert_eq!(unlimited.code, 0, "{unlimited:?}");
    serve("canary", 2).await;
}
