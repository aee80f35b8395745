//! Presence: queried by the command line, and streamed as events.

use serde_json::{Value, json};

use crate::environment::{Events, Nats, Node, Page, SOON, Setup, Token, eventually, pagewire};

fn member(nats: &Nats) -> Setup {
    Node::setup().nats(nats).users().set("lifetime.resume_ms", 200)
}

async fn open(node: &Node, user: &str) -> Page {
    Page::opening(node).token(&Token::of(user).sign()).open().await
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().unwrap_or_else(|| panic!("a list: {list}"))
}

/// Waits until a node's `status` shows that many pages.
async fn status(node: &Node, pages: u64) -> Value {
    eventually(&format!("{pages} pages are seen"), SOON, async || {
        let status = pagewire(node, &["status", "--json"]).await.json();
        (status["stats"]["pages"] == pages).then_some(status)
    })
    .await
}

#[tokio::test]
async fn every_question_of_the_registry_is_answered_by_the_command_line_on_three_nodes() {
    let nats = Nats::start().await;
    let one = member(&nats).start().await;
    let two = member(&nats).start().await;
    let three = member(&nats).set("node.lane", "canary").start().await;
    let first = open(&one, "ann").await;
    let ann = Token::of("ann").sign();
    status(&two, 1).await;
    let second = Page::opening(&two).token(&ann).with("session_id", first.session()).open().await;
    let mut bob = open(&three, "bob").await;
    let carl = open(&three, "carl").await;
    let carls = carl.session().to_owned();
    status(&three, 4).await;
    drop(carl.lose_socket());
    let seen = status(&one, 3).await;
    let counts =
        |place: &Value| ["users", "connections", "sessions", "pages"].map(|level| place[level].as_u64());
    assert_eq!(counts(&seen["stats"]), [2, 2, 2, 3].map(Some), "{seen}");
    assert_eq!(seen["stats"]["idle_sessions"], 1, "{seen}");
    let lanes: Vec<_> = seen["stats"]["lanes"].as_array().unwrap().iter().map(counts).collect();
    assert_eq!(lanes, [[1, 1, 1, 1].map(Some), [1, 1, 1, 2].map(Some)], "canary, then stable: {seen}");
    assert_eq!(seen["stats"]["nodes"].as_array().map(Vec::len), Some(3));
    let output = pagewire(&two, &["status"]).await.out;
    assert!(output.contains("idle: 1 session, 1 connection") && output.contains("canary"), "{output}");

    let names = |list: &Value| items(list).iter().map(|user| user["user"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&pagewire(&two, &["users", "--online", "--json"]).await.json()), ["ann", "bob"]);
    assert_eq!(names(&pagewire(&two, &["users", "--offline", "--json"]).await.json()), ["carl"]);
    let piece = pagewire(&two, &["users", "--limit", "1", "--json"]).await.json();
    let cursor = piece["next_cursor"].as_str().expect("more users");
    assert_eq!(
        names(&pagewire(&three, &["users", "--cursor", cursor, "--json"]).await.json()),
        ["bob", "carl"]
    );
    assert!(pagewire(&three, &["users"]).await.out.starts_with("USER"));

    let show = async |level: &str, id: &str| pagewire(&three, &["show", level, id, "--json"]).await.json();
    let user = show("--user", "ann").await;
    assert_eq!((&user["online"], &user["pages"], items(&user["below"]).len()), (&json!(true), &json!(2), 1));
    let connection = show("--connection", first.connection()).await;
    assert_eq!((&connection["pages"], &connection["sessions"]), (&json!(2), &json!(1)));
    let session = show("--session", first.session()).await;
    let mut pages: Vec<_> =
        items(&session["below"]).iter().map(|page| page["page_id"].as_str().unwrap()).collect();
    pages.sort_unstable();
    let mut both = [first.id(), second.id()];
    both.sort_unstable();
    assert_eq!(pages, both);
    assert_eq!(show("--page", second.id()).await["node"], "p02");
    assert!(show("--session", &carls).await["idle_until"].is_string());
    assert!(pagewire(&one, &["show", "--session", first.session()]).await.out.contains("PAGE"));

    let output = pagewire(&one, &["unregister", "--user", "bob"]).await;
    assert_eq!((output.code, output.out.trim()), (0, "closed 1 page"), "{output:?}");
    assert_eq!(bob.closed().await.code, 4007);
    let output = pagewire(&one, &["unregister", "--page", bob.id()]).await;
    assert_eq!((output.code, output.out.trim()), (0, "closed 0 pages"), "{output:?}");
}

#[tokio::test]
async fn who_watches_is_told_who_comes_and_goes_in_the_whole_cluster() {
    let nats = Nats::start().await;
    let (one, two) = (member(&nats).start().await, member(&nats).start().await);
    let _here = open(&one, "here").await;
    status(&two, 1).await;
    let api = two.api();
    let mut users = Events::open(&api, "/api/v1/events?level=user", None).await;
    let mut anns = Events::open(&api, "/api/v1/events?user=ann", None).await;
    for watched in [&mut users, &mut anns] {
        assert_eq!(watched.next().await.expect("an event").0, "live");
    }
    // two pages of one user at two nodes cause one arrival and one departure of the user
    let first = open(&one, "ann").await;
    status(&two, 2).await;
    let second = open(&two, "ann").await;
    status(&two, 3).await;
    let page = first.id().to_owned();
    drop(first.lose_socket());
    status(&two, 2).await;
    drop(second.lose_socket());
    status(&two, 1).await;
    let (name, joined) = users.next().await.expect("an event");
    assert_eq!((name.as_str(), &joined["type"], &joined["id"]), ("join", &json!("join"), &json!("ann")));
    assert_eq!((&joined["level"], &joined["node"]), (&json!("user"), &json!("p01")), "{joined}");
    assert!(joined["at"].is_string(), "{joined}");
    let (name, left) = users.next().await.expect("an event");
    assert_eq!((name.as_str(), &left["id"], &left["node"]), ("leave", &json!("ann"), &json!("p02")));

    let mut events = Vec::new();
    while events.len() < 14 {
        let (name, data) = anns.next().await.expect("an event");
        events.push(format!("{name} {}", data["level"].as_str().expect("a level")));
        assert_eq!(data["user"], "ann");
        if events.len() == 4 {
            assert_eq!(data["id"], page.as_str(), "the first page is the last to join");
        }
    }
    assert_eq!(
        events,
        [
            "join user",
            "join connection",
            "join session",
            "join page",
            "join connection",
            "join session",
            "join page",
            "leave page",
            "leave session",
            "leave connection",
            "leave page",
            "leave session",
            "leave connection",
            "leave user",
        ]
    );
}

#[tokio::test]
async fn only_the_role_admin_watches() {
    let node = Node::setup().users().set("auth.api_keys", "a-key-of-the-tests").start().await;
    let pusher = node.api().with_key(&Token::of("ann").with_role("push").sign());
    assert_eq!(pusher.get("/api/v1/events").await.0, 403);
    let admin = node.api().with_key(&Token::of("ann").with_role("admin").sign());
    assert_eq!(Events::open(&admin, "/api/v1/events", None).await.next().await.expect("an event").0, "live");
}
