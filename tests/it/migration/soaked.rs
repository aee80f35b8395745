//! Phase 6: resident pages under load.

use serde_json::Value;

use crate::environment::store::StoreRoom;

#[tokio::test]
async fn phase_6_under_load_no_request_is_lost_every_push_arrives_and_memory_stays_flat() {
    let room = StoreRoom::open().await;
    let node = room.serve("5").await;
    let url = node.url();
    let printed = room.run(&["soak.py", "--minutes", "0.15", "--url", &url], &[]).await;
    let measured: Value = serde_json::from_str(&printed).expect("JSON");
    let count = |name: &str| measured[name].as_u64().unwrap_or_else(|| panic!("no {name} in {printed}"));
    assert!(count("rounds") >= 4 && count("pushes") >= 4 * 12, "{printed}");
}
