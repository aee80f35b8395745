//! Phase 4 and the shadow before it: the register is in Pagewire.

use serde_json::{Value, json};

use crate::environment::store::StoreRoom;
use crate::environment::{SOON, eventually};

/// What the log has of a difference.
const DIFFERS: &str = "a register differs";

#[tokio::test]
async fn phase_4_the_application_works_without_its_daemon_and_back_again() {
    let mut room = StoreRoom::open().await;
    let before = room.serve("3").await;
    room.visited(&before.url()).await;
    drop(before);
    room.stop_daemon();
    let node = room.serve("4").await;
    room.visited(&node.url()).await;
    room.tested(&node.url()).await;
    drop(node);
    room.start_daemon().await;
    let back = room.serve("3").await;
    room.visited(&back.url()).await;
}

#[tokio::test]
async fn phase_4_the_measurement_says_that_a_page_is_rebuilt_and_how_long_it_takes() {
    let room = StoreRoom::open().await;
    let node = room.serve("4").await;
    let printed = room.run(&["measure.py", &node.url(), "5"], &[]).await;
    let measured: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(measured["page"], json!(["rebuilt"]));
    assert!(measured["build_ms"].as_f64() > Some(0.0), "{measured}");
}

#[tokio::test]
async fn phase_shadow_both_registers_answer_alike_and_open_tabs_go_on_into_phase_4_and_back() {
    let room = StoreRoom::open().await;
    for (phase, again) in [("3", false), ("shadow", true), ("3", true), ("shadow", true), ("4", true)] {
        let node = room.serve(phase).await;
        let visited =
            if again { room.visited_again(&node.url()).await } else { room.visited(&node.url()).await };
        assert_eq!(visited.contains("the tab that bob has left open"), again, "{visited}");
        assert!(!node.log().contains(DIFFERS), "{}", node.log());
    }
}

#[tokio::test]
async fn phase_shadow_a_difference_is_reported() {
    let mut room = StoreRoom::open().await;
    let node = room.serve("shadow").await;
    room.visited(&node.url()).await;
    assert!(!node.log().contains(DIFFERS), "{}", node.log());
    // the daemon has lost its memory
    room.stop_daemon();
    room.start_daemon().await;
    room.visited(&node.url()).await;
    eventually("the difference is in the log", SOON, async || node.log().contains(DIFFERS).then_some(()))
        .await;
}
