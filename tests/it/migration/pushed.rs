//! Phase 3: pages have sockets and changes are pushed to them, while requests and the daemon are unchanged.

use crate::environment::store::StoreRoom;

#[tokio::test]
async fn phase_3_push_reaches_live_pages_and_a_page_without_a_socket_polls_as_before() {
    let room = StoreRoom::open().await;
    let node = room.serve("3").await;
    let steps = room.visited(&node.url()).await;
    assert!(steps.contains("a change is pushed to a page with a socket"), "{steps}");
}

#[tokio::test]
async fn phase_3_requests_and_the_daemon_are_unchanged_so_that_open_tabs_go_on_and_back_again() {
    let room = StoreRoom::open().await;
    let before = room.serve("0").await;
    room.visited(&before.url()).await;
    drop(before);
    let node = room.serve("3").await;
    room.visited_again(&node.url()).await;
    room.tested(&node.url()).await;
    drop(node);
    let back = room.serve("0").await;
    let steps = room.visited_again(&back.url()).await;
    assert!(!steps.contains("pushed"), "{steps}");
}

#[tokio::test]
async fn phase_3_a_new_password_and_a_closed_account_end_the_pages_of_their_user_alone() {
    let room = StoreRoom::open().await;
    let node = room.serve("3").await;
    let steps = room.run(&["accounts.py", &node.url()], &[]).await;
    assert!(steps.ends_with("others stay\n"), "{steps}");
}
