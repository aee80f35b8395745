//! Phase 0: Pagewire serves the application, and its daemon is unchanged.

use reqwest::Method;
use serde_json::{Value, json};

use crate::environment::store::StoreRoom;
use crate::environment::{Page, SOON, eventually};

#[tokio::test]
async fn phase_0_the_application_and_its_own_tests_pass_as_under_gunicorn_and_back_again() {
    let room = StoreRoom::open().await;
    let gunicorn = room.gunicorn().await;
    let direct = format!("http://{}", gunicorn.address);
    room.visited(&direct).await;
    room.tested(&direct).await;
    drop(gunicorn);
    let node = room.serve("0").await;
    room.visited(&node.url()).await;
    room.tested(&node.url()).await;
    drop(node);
    let gunicorn = room.gunicorn().await;
    room.visited(&format!("http://{}", gunicorn.address)).await;
}

#[tokio::test]
async fn phase_0_sockets_calls_and_jobs_answer_beside_the_application() {
    let room = StoreRoom::open().await;
    let node = room.serve("0").await;
    let mut page = Page::open(&node).await;
    let counted = page.result(json!({"type": "call", "method": "stocktake"})).await;
    assert_eq!(counted, json!({"pieces": 52}));
    let job = node.api().request(Method::POST, "/api/v1/jobs").json(&json!({"kind": "stocktake"}));
    let job: Value = job.send().await.expect("an answer").json().await.expect("JSON");
    let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap_or_else(|| panic!("{job}")));
    eventually("the job has ended", SOON, async || {
        let record = node.api().get_json(&path).await;
        (record["state"] == "succeeded").then(|| assert_eq!(record["result"], json!({"pieces": 52})))
    })
    .await;
}
