//! What a page takes when much is published, and what a process remembers of pages.

use super::super::taking::MAX_BYTES;
use super::*;

#[tokio::test]
async fn a_page_takes_what_fits_into_an_answer_and_the_rest_with_the_next_ones() {
    let (a, _) = with_pages().await;
    let large = json!({"path": "x", "value": "y".repeat(200 * 1024)});
    let mut published = Vec::new();
    for _ in 0..10 {
        let publication = Publication { changes: vec![raw(&large)], ..to(json!({"page": "p1"}), "x") };
        published.push(a.publish(&[publication]).await.unwrap().0);
    }
    let mut taken = Vec::new();
    while a.has_news(&page("p1")).await.unwrap() {
        let answer = a.take(&page("p1"), false).await.unwrap();
        let size = serde_json::to_vec(&answer).unwrap().len();
        assert!(size <= MAX_BYTES + 100, "{size} bytes");
        assert!(!answer.reset && !answer.entries.is_empty());
        taken.extend(answer.entries.iter().map(|entry| entry.position));
    }
    assert_eq!(taken, published);
}
