//! What a page takes when much is published, and what a process remembers of pages.

use super::super::taking::{MAX_BYTES, PageCursor};
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

#[tokio::test]
async fn a_process_forgets_the_cursor_of_a_page_that_another_one_has_ended() {
    let (a, b) = with_pages().await;
    for id in ["p1", "p2"] {
        assert!(!b.has_news(&page(id)).await.unwrap());
    }
    let is_seen = |id: &str| b.seen().get(&page(id).cursor(&b.name)).is_some();
    assert!(is_seen("p1") && is_seen("p2"));
    a.write(&page("p1"), &ItemEdit::deletion()).await.unwrap();
    b.reach(a.publish(&[]).await.unwrap().0).await;
    assert!(!is_seen("p1") && is_seen("p2"));
}

#[tokio::test]
async fn a_cursor_that_is_read_while_its_page_ends_is_not_kept() {
    let (a, b) = with_pages().await;
    let id = page("p1");
    let cursor = PageCursor::of(&b, &id).await.unwrap();
    a.write(&id, &ItemEdit::deletion()).await.unwrap();
    b.reach(a.publish(&[]).await.unwrap().0).await;
    assert!(cursor.look(None).await.unwrap().1.is_none(), "nothing is for the page");
    assert!(b.seen().get(&id.cursor(&b.name)).is_none());
}
