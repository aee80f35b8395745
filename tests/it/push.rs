//! Messages to pages: every level, every sender, and the report to the sender.

use serde_json::{Value, json};

use crate::environment::{Nats, Node, Page, Token, pagewire};

/// A browser with a master page, an iframe and a second tab, all of one user, beside another user's page.
struct Scene {
    master: Page,
    iframe: Page,
    tab: Page,
    other_user: Page,
}

impl Scene {
    async fn open(node: &Node) -> Self {
        let token = Token::of("ann").sign();
        let master = Page::opening(node).token(&token).open().await;
        let iframe = Page::opening(node).token(&token).beside(&master).open().await;
        let tab = Page::opening(node).token(&token).same_browser(&master).open().await;
        let other_user = Page::opening(node).token(&Token::of("bob").sign()).open().await;
        Self { master, iframe, tab, other_user }
    }

    /// Returns each level with the pages that it reaches.
    fn levels(&self) -> [(Value, [bool; 4]); 5] {
        [
            (json!({"page": self.master.id()}), [true, false, false, false]),
            (json!({"session": self.master.session()}), [true, true, false, false]),
            (json!({"connection": self.master.connection()}), [true, true, true, false]),
            (json!({"user": "ann"}), [true, true, true, false]),
            (json!({"all": true}), [true, true, true, true]),
        ]
    }

    /// Checks that exactly those pages have the message next, and no page has another frame.
    async fn assert_received(&mut self, by: [bool; 4], payload: &Value) {
        let pages = [&mut self.master, &mut self.iframe, &mut self.tab, &mut self.other_user];
        for (page, receives) in pages.into_iter().zip(by) {
            if receives {
                assert_eq!(page.message().await, *payload);
            }
            page.has_nothing_to_read().await;
        }
    }
}

fn count(pages: [bool; 4]) -> usize {
    pages.into_iter().filter(|receives| *receives).count()
}

#[tokio::test]
async fn the_api_reaches_exactly_the_pages_of_a_level_and_counts_them() {
    let node = Node::setup().users().start().await;
    let mut scene = Scene::open(&node).await;
    for (to, by) in scene.levels() {
        let payload = json!({"to": to, "z": 1, "a": [1e3]});
        let report = node.api().send(to.clone(), payload.clone()).await;
        assert_eq!((&report["reached"], &report["held"]), (&json!(count(by)), &json!(0)), "{to}: {report}");
        assert_eq!(report["unreachable"], json!([]), "{report}");
        scene.assert_received(by, &payload).await;
    }
}

#[tokio::test]
async fn the_command_line_reaches_the_same_pages() {
    let node = Node::setup().users().start().await;
    let mut scene = Scene::open(&node).await;
    for (to, by) in scene.levels() {
        let (level, id) = to.as_object().expect("one member").iter().next().expect("one member");
        let flag = format!("--{level}");
        let target = match id.as_str() {
            Some(id) => vec![flag.as_str(), id],
            None => vec![flag.as_str()],
        };
        let output =
            pagewire(&node, &[&["push"], target.as_slice(), &["{\"n\":1}", "--json"]].concat()).await;
        assert_eq!(output.json()["reached"], count(by), "{to}: {output:?}");
        scene.assert_received(by, &json!({"n": 1})).await;
    }
}

#[tokio::test]
async fn a_page_reaches_its_own_chain_and_needs_a_role_for_others() {
    let node = Node::setup().users().start().await;
    let mut scene = Scene::open(&node).await;
    for (to, by) in scene.levels().into_iter().take(4) {
        let sent =
            scene.iframe.request(json!({"type": "send", "to": to, "payload": "from the iframe"})).await;
        assert_eq!(sent["type"], "result", "{to}: {sent}");
        assert_eq!(sent["value"], json!({"reached": count(by), "held": 0}), "{to}");
        scene.assert_received(by, &json!("from the iframe")).await;
    }
    let other_session = json!({"type": "send", "to": {"session": scene.master.session()}, "payload": 1});
    assert_eq!(scene.tab.error(other_session).await, "forbidden");
    let to_other_user = json!({"type": "send", "to": {"user": "bob"}, "payload": 1});
    assert_eq!(scene.tab.error(to_other_user.clone()).await, "forbidden");
    let to_page = json!({"type": "send", "to": {"page": scene.other_user.id()}, "payload": 1});
    assert_eq!(scene.tab.error(to_page).await, "forbidden");
    scene.other_user.has_nothing_to_read().await;
    let pusher = Token::of("carl").with_role("push").sign();
    let mut pusher = Page::opening(&node).token(&pusher).open().await;
    assert_eq!(pusher.result(to_other_user).await, json!({"reached": 1, "held": 0}));
    assert_eq!(scene.other_user.message().await, 1);
}

#[tokio::test]
async fn a_message_says_which_page_sent_it() {
    let node = Node::start().await;
    let mut master = Page::open(&node).await;
    let mut iframe = Page::opening(&node).beside(&master).open().await;
    let sent = iframe.result(json!({"type": "broadcast_session", "payload": {"k": "v"}})).await;
    assert_eq!(sent, json!({"reached": 2, "held": 0}));
    let message = master.expect("message").await;
    assert_eq!((&message["from"], &message["payload"]), (&json!(iframe.id()), &json!({"k": "v"})));
}

#[tokio::test]
async fn pages_in_their_resume_window_are_held_and_unknown_ones_are_neither() {
    let node = Node::start().await;
    let page = Page::open(&node).await;
    let id = page.id().to_owned();
    let away = page.lose_socket();
    let api = node.api();
    crate::environment::eventually("the node notices", crate::environment::SOON, async || {
        let report = api.send(json!({"page": id}), json!("while away")).await;
        (report["held"] == 1 && report["reached"] == 0).then_some(())
    })
    .await;
    let mut back = away.resume(&node).await;
    assert_eq!(back.message().await, "while away");
    let nowhere = format!("{}|p01", "0".repeat(22));
    let report = node.api().send(json!({"page": nowhere}), json!(1)).await;
    assert_eq!((&report["reached"], &report["held"]), (&json!(0), &json!(0)), "{report}");
}

/// Users with names that have a meaning elsewhere: in subjects, filters, paths, JSON.
fn awkward_users() -> Vec<String> {
    let mut users: Vec<_> =
        ["*", ">", "a.b", "a", "b", "..", ".", "a b", "_2A", "a/b", "a|p01", "%2A", "\"", "a*", "page"]
            .map(str::to_owned)
            .to_vec();
    users.push("🦀".repeat(64));
    users.push(format!("{}🦊", "🦀".repeat(63)));
    users
}

async fn awkward_users_never_reach_each_other(node: Node) {
    let mut pages = Vec::new();
    for user in awkward_users() {
        let page = Page::opening(&node).token(&Token::of(&user).sign()).open().await;
        assert_eq!(page.registered["user"], json!(user));
        pages.push((user, page));
    }
    for (user, _) in &pages {
        let report = node.api().send(json!({"user": user}), json!({"for": user})).await;
        assert_eq!((&report["reached"], &report["held"]), (&json!(1), &json!(0)), "{user}: {report}");
    }
    for (user, page) in &mut pages {
        assert_eq!(page.message().await, json!({"for": user}));
        page.has_nothing_to_read().await;
    }
}

#[tokio::test]
async fn awkward_users_are_ordinary_users_in_one_process() {
    awkward_users_never_reach_each_other(Node::setup().users().start().await).await;
}

#[tokio::test]
async fn awkward_users_are_ordinary_users_over_nats() {
    let nats = Nats::start().await;
    let _other = Node::setup().users().nats(&nats).start().await;
    awkward_users_never_reach_each_other(Node::setup().users().nats(&nats).start().await).await;
}

#[tokio::test]
async fn a_push_crosses_nodes_and_the_sender_counts_every_page() {
    let nats = Nats::start().await;
    let here = Node::setup().users().nats(&nats).start().await;
    let there = Node::setup().users().nats(&nats).start().await;
    let token = Token::of("ann").sign();
    let mut one = Page::opening(&here).token(&token).open().await;
    let mut two = Page::opening(&there).token(&token).open().await;
    assert_ne!(one.node(), two.node());
    // the address alone locates the page
    let report = here.api().send(json!({"page": two.id()}), json!("to the page")).await;
    assert_eq!(report["reached"], 1, "{report}");
    assert_eq!(two.message().await, "to the page");
    for to in [json!({"user": "ann"}), json!({"all": true})] {
        let mut expected = 0;
        let report = crate::environment::eventually(
            "both nodes see both pages",
            crate::environment::SOON,
            async || {
                expected += 1;
                let report = here.api().send(to.clone(), json!(expected)).await;
                (report["reached"] == 2).then_some(report)
            },
        )
        .await;
        assert_eq!(report["unreachable"], json!([]), "{report}");
        for page in [&mut one, &mut two] {
            while page.message().await != json!(expected) {}
            page.has_nothing_to_read().await;
        }
    }
}
