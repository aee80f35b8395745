//! Rules that send users to a lane by what is known of their pages.

use serde_json::{Value, json};

use crate::environment::{Nats, Node, Page, SOON, Token, WorkerProcess, eventually, pagewire};

/// Starts a worker of each lane, and waits until the nodes see them.
async fn workers(nats: &Nats, nodes: [&Node; 2]) -> [WorkerProcess; 2] {
    let workers = [WorkerProcess::start(nats, "stable").await, WorkerProcess::start(nats, "canary").await];
    for node in nodes {
        node.api().sees_workers(2).await;
    }
    workers
}

/// Returns the lane of a user or connection, and why.
async fn lane(node: &Node, who: &str) -> (String, String) {
    let explained = node.api().get_json(&format!("/api/v1/rollouts/default/explain?{who}")).await;
    let text = |member: &str| explained[member].as_str().expect("a text").to_owned();
    (text("lane"), text("reason"))
}

fn is(lane: &str, reason: &str) -> (String, String) {
    (lane.to_owned(), reason.to_owned())
}

/// Waits until a node knows that the user or connection is there.
async fn becomes(node: &Node, who: &str, lane: &str, reason: &str) {
    eventually(&format!("{who} is in {lane}"), SOON, async || {
        (self::lane(node, who).await == is(lane, reason)).then_some(())
    })
    .await;
}

/// Runs a job of a user and returns its lane.
async fn job_of(node: &Node, user: &str) -> Value {
    let arguments = ["job", "submit", "--json", "echo", "1", "--user", user];
    let submitted = pagewire(node, &arguments).await.json();
    let path = format!("/api/v1/jobs/{}", submitted["id"].as_str().expect("an id"));
    eventually("the job ends", SOON, async || {
        let job = node.api().get_json(&path).await;
        (job["state"] == "succeeded").then(|| job["lane"].clone())
    })
    .await
}

#[tokio::test]
async fn a_rule_about_a_claim_a_header_or_an_address_holds_for_the_jobs_of_the_user_on_every_node() {
    let nats = Nats::start().await;
    let setup = || Node::setup().nats(&nats).users().set("proxy.trusted", "127.0.0.1");
    let (one, two) = (setup().start().await, setup().start().await);
    let _workers = workers(&nats, [&one, &two]).await;
    let run = async |arguments: &[&str]| pagewire(&one, &[&["rollout"], arguments].concat()).await;
    assert_eq!(run(&["set-weight", "default", "canary=0"]).await.code, 0);
    let rules: [&[&str]; 4] = [
        &["target", "default", "canary", "--claim", "plan=beta"],
        &["target", "default", "canary", "--header", "X-Beta=1"],
        &["target", "default", "canary", "--address", "10.0.0.0/8"],
        &["target", "default", "stable", "--user", "kim", "--first"],
    ];
    for rule in rules {
        let output = run(rule).await;
        assert_eq!(output.code, 0, "{output:?}");
    }
    let status = run(&["status", "default"]).await.out;
    let rows: Vec<String> =
        status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for row in ["1 user kim stable", "2 claim plan=beta canary", "4 address 10.0.0.0/8 canary"] {
        assert!(rows.iter().any(|line| line == row), "{row}: {status}");
    }

    let beta = |user: &str| Token::of(user).with_claim("plan", "beta").sign();
    let plain = |user: &str| Token::of(user).sign();
    let open = |user: &str| Page::opening(&one).token(&plain(user));
    let _ann = Page::opening(&one).token(&beta("ann")).open().await;
    let _kim = Page::opening(&one).token(&beta("kim")).open().await;
    let _bob = open("bob").header("x-beta", "1").open().await;
    let _max = open("max").header("x-forwarded-for", "10.9.8.7").open().await;
    let _eve = open("eve").header("x-forwarded-for", "192.0.2.1").open().await;
    assert_eq!(lane(&one, "user=ann").await, is("canary", "targeting"), "at once where the page is");
    for user in ["ann", "bob", "max"] {
        becomes(&two, &format!("user={user}"), "canary", "targeting").await;
        assert_eq!(job_of(&two, user).await, "canary", "{user}");
    }
    assert_eq!(lane(&two, "user=kim").await, is("stable", "targeting"), "the first rule decides");
    assert_eq!(lane(&two, "user=eve").await, is("stable", "base"));
    assert_eq!(job_of(&two, "eve").await, "stable");
    let explained = run(&["explain", "default", "ann"]).await.out;
    assert!(explained.contains("a rule sends the user to canary"), "{explained}");

    let anonymous = Page::opening(&two).header("x-beta", "1").open().await;
    let connection = format!("connection={}", anonymous.connection());
    becomes(&one, &connection, "canary", "targeting").await;

    // the last page of a user decides
    let _without = Page::opening(&two).token(&plain("ann")).open().await;
    becomes(&one, "user=ann", "stable", "base").await;
    // and a rule that is gone has no effect
    let gone = run(&["untarget", "default", "--header", "x-beta=1"]).await;
    assert_eq!(gone.code, 0, "{gone:?}");
    for node in [&one, &two] {
        becomes(node, "user=bob", "stable", "base").await;
        becomes(node, &connection, "stable", "base").await;
    }
    let none = run(&["untarget", "default", "--address", "10.0.0.0/9"]).await;
    assert!(none.code != 0 && none.err.contains("no such rule"), "{none:?}");
    let wrong = run(&["target", "default", "canary", "--address", "10.0.0.0/33"]).await;
    assert!(wrong.code != 0 && wrong.err.contains("not an address or a range"), "{wrong:?}");
    let unknown = run(&["target", "default", "canry", "--claim", "plan=beta"]).await;
    assert!(unknown.code != 0 && unknown.err.contains("no lane canry"), "{unknown:?}");

    // an abort takes the rules of the lane with it, and undo restores them
    assert_eq!(run(&["abort", "default", "--lane", "canary"]).await.code, 0);
    becomes(&two, "user=max", "stable", "base").await;
    let refused = json!(run(&["status", "default", "--json"]).await.json()["targeting"]);
    assert_eq!(refused, json!([{"users": ["kim"], "lane": "stable"}]));
    assert_eq!(run(&["undo", "default"]).await.code, 0);
    becomes(&two, "user=max", "canary", "targeting").await;
}

#[tokio::test]
async fn a_page_chooses_a_lane_where_the_rollout_allows_it_until_the_lane_is_aborted() {
    let nats = Nats::start().await;
    let setup = || Node::setup().nats(&nats).users();
    let (one, two) = (setup().start().await, setup().start().await);
    let _workers = workers(&nats, [&one, &two]).await;
    let run = async |arguments: &[&str]| pagewire(&one, &[&["rollout"], arguments].concat()).await;
    assert_eq!(run(&["set-weight", "default", "canary=0"]).await.code, 0);
    let mut ann = Page::opening(&one).token(&Token::of("ann").sign()).open().await;
    let choose = |lane: Value| json!({"type": "rollout", "lane": lane});
    assert_eq!(ann.error(choose(json!("canary"))).await, "forbidden", "a page never chooses by itself");
    assert_eq!(run(&["set-weight", "default", "canary=0", "--self-service", "true"]).await.code, 0);
    let status = run(&["status", "default"]).await.out;
    assert!(status.contains("pages may choose a lane"), "{status}");
    assert_eq!(ann.error(choose(json!("canry"))).await, "unknown");
    let chosen = ann.result(choose(json!("canary"))).await;
    assert_eq!(chosen, json!({"lane": "canary", "reason": "choice"}));
    becomes(&two, "user=ann", "canary", "choice").await;
    assert_eq!(job_of(&two, "ann").await, "canary");
    assert_eq!(ann.result(choose(Value::Null)).await, json!({"lane": "stable", "reason": "base"}));
    becomes(&two, "user=ann", "stable", "base").await;

    assert_eq!(run(&["set-weight", "default", "canary=100"]).await.code, 0);
    let mut anonymous = Page::opening(&two).open().await;
    assert_eq!(
        anonymous.result(choose(json!("stable"))).await,
        json!({"lane": "stable", "reason": "choice"}),
        "out of the canary"
    );
    ann.result(choose(json!("canary"))).await;
    assert_eq!(run(&["assign", "default", "stable", "--user", "ann"]).await.code, 0);
    let overridden = ann.result(choose(json!("canary"))).await;
    assert_eq!(overridden, json!({"lane": "stable", "reason": "override"}), "an operator comes first");
    assert_eq!(run(&["unassign", "default", "--user", "ann"]).await.code, 0);
    assert_eq!(run(&["abort", "default", "--lane", "canary"]).await.code, 0);
    becomes(&two, "user=ann", "stable", "base").await;
    eventually("no page chooses the aborted lane", SOON, async || {
        let (mut page, token) = (Page::opening(&two), Token::of("eve").sign());
        page = page.token(&token);
        (page.open().await.error(choose(json!("canary"))).await == "forbidden").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_stays_in_a_lane_when_its_weight_falls_until_it_is_back_at_its_start() {
    let nats = Nats::start().await;
    let (one, two) = (Node::setup().nats(&nats).start().await, Node::setup().nats(&nats).start().await);
    let _workers = workers(&nats, [&one, &two]).await;
    let run = async |arguments: &[&str]| pagewire(&one, &[&["rollout"], arguments].concat()).await;
    let started = run(&["set-weight", "default", "canary=10", "--enrolment", "latched"]).await;
    assert_eq!(started.code, 0, "{started:?}");
    assert_eq!(run(&["set-weight", "default", "canary=100"]).await.code, 0);
    // two users whose buckets do not belong to 11 %
    let mut users = Vec::new();
    for number in 0.. {
        let path = format!("/api/v1/rollouts/default/explain?user=user-{number}");
        if one.api().get_json(&path).await["bucket"].as_u64() >= Some(1100) {
            users.push(format!("user-{number}"));
        }
        if users.len() == 2 {
            break;
        }
    }
    let (worked, idle) = (&users[0], &users[1]);
    assert_eq!(job_of(&one, worked).await, "canary");
    eventually("a node has written that the user stays", SOON, async || {
        assert_eq!(run(&["set-weight", "default", "canary=11"]).await.code, 0);
        let stays = lane(&two, &format!("user={worked}")).await == is("canary", "latched");
        if !stays {
            assert_eq!(run(&["set-weight", "default", "canary=100"]).await.code, 0);
        }
        stays.then_some(())
    })
    .await;
    assert_eq!(lane(&two, &format!("user={idle}")).await, is("stable", "base"));
    assert_eq!(job_of(&two, worked).await, "canary");
    assert_eq!(run(&["set-weight", "default", "canary=10"]).await.code, 0);
    becomes(&two, &format!("user={worked}"), "stable", "base").await;
}
