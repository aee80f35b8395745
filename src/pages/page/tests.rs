//! One page: its holder and the frames that it gets.

use pagewire_cluster::id::NodeNumber;
use serde_json::value::RawValue;
use tokio::sync::futures::Notified;

use super::*;
use crate::protocol::CloseCode;

fn page() -> Page {
    let at = |bits| Address { key: Key::from_bits(bits), node: NodeNumber::new(1).unwrap() };
    let place = Membership::new(at(2), at(3), None);
    Page::new(Key::from_bits(1), place, 0, 1, 1, Budget { outbox: 400, replay: 4000 })
}

const AGAIN: AttachKind = AttachKind::Resumed { seq: 0 };

fn registered(_: RegisteredState) -> FrameBody {
    crate::protocol::pong()
}

fn message() -> FrameBody {
    FrameBody::message(&RawValue::from_string("1".into()).unwrap(), None, None)
}

fn frames(page: &Page, ticket: AttachmentId) -> (Vec<String>, DrainOutcome) {
    let mut frames = Vec::new();
    let taken = page.take(ticket, 10_000, &mut |head, tail| {
        frames.push(String::from_utf8([head, tail.bytes()].concat()).unwrap());
    });
    (frames, taken)
}

#[test]
fn every_frame_is_json_with_the_next_number() {
    let page = page();
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    assert!(matches!(page.push(&message()), PushOutcome::Reached));
    let (frames, taken) = frames(&page, ticket);
    assert_eq!(frames, [r#"{"type":"pong"}"#, r#"{"seq":1,"type":"message","payload":1}"#]);
    assert_eq!(taken, DrainOutcome::Empty);
}

#[test]
fn the_newest_socket_wins_and_the_older_one_is_told() {
    let page = page();
    let old = page.attach(AttachKind::New, registered).unwrap();
    let new = page.attach(AGAIN, registered).unwrap();
    let (_, taken) = frames(&page, old);
    assert!(matches!(taken, DrainOutcome::Close(close) if close.code == CloseCode::Replaced));
    assert!(!page.accept(old));
    assert!(page.accept(new));
    assert!(!page.detach(old), "the older socket's end does not detach the page");
    assert!(page.is_live());
}

#[test]
fn a_socket_that_is_sent_away_moves_if_its_client_can_and_closes_with_the_advice_otherwise() {
    let close = Close::new(CloseCode::Draining, "");
    let moving = || FrameBody::move_to(Some("ws://b:1/_ws"), std::time::Duration::ZERO);
    let page = page();
    assert_eq!(send_away(&page, moving(), close), SendAway::NoSocket);
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    set_knows_move(&page, true);
    page.push(&message());
    assert_eq!(send_away(&page, moving(), close), SendAway::Moves);
    let (sent, taken) = frames(&page, ticket);
    assert!(sent[1].starts_with(r#"{"type":"move","#) && sent[2].starts_with(r#"{"seq":1,"#), "{sent:?}");
    assert_eq!(taken, DrainOutcome::Empty, "the socket serves the page until another node has it");
    set_knows_move(&page, false);
    assert_eq!(send_away(&page, moving(), close), SendAway::Closes);
    assert!(matches!(page.push(&message()), PushOutcome::Held), "for its next socket");
    assert_eq!(frames(&page, ticket), (Vec::new(), DrainOutcome::Close(close)));
}

#[tokio::test]
async fn a_page_that_leaves_waits_for_the_command_that_it_has_counted() {
    let page = Arc::new(page());
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    idle(&page).await;
    let running = RunningCommand::begin(&page, ticket).unwrap();
    assert!(page.freeze(NodeNumber::new(2).unwrap(), 2, 5, 0).is_some());
    assert!(RunningCommand::begin(&page, ticket).is_none(), "the other node processes the later frames");
    let (ended, ()) = tokio::join!(idle(&page), async { drop(running) });
    assert_eq!(ended, ());
}

#[test]
fn a_page_in_its_resume_window_holds_messages_and_a_slow_one_is_closed() {
    let page = page();
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    frames(&page, ticket);
    assert!(page.detach(ticket));
    assert!(matches!(page.push(&message()), PushOutcome::Held));
    let ticket = page.attach(AGAIN, registered).unwrap();
    while matches!(page.push(&message()), PushOutcome::Reached) {}
    let (late, taken) = frames(&page, ticket);
    assert!(late.is_empty(), "a slow page gets its frames at its next resume or a reset");
    assert!(matches!(taken, DrainOutcome::Close(close) if close.code == CloseCode::SlowConsumer));
}

#[test]
fn the_end_of_a_job_is_told_once_for_each_id_that_the_page_gave_it() {
    let page = page();
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    for frame in ["1", "\"a\""] {
        page.track_job(Key::from_bits(7), frame);
    }
    for frame in ["1", "1", "\"a\"", "1"] {
        assert!(matches!(
            page.deliver_job_result(Key::from_bits(7), frame, &message()),
            PushOutcome::Reached
        ));
    }
    assert_eq!(frames(&page, ticket).0.len(), 3, "registered and two ends");
}

#[test]
fn a_copy_that_does_not_wait_for_a_job_leaves_its_end_to_the_page_elsewhere() {
    let page = page();
    let job = Key::from_bits(7);
    assert!(matches!(page.deliver_job_result(job, "1", &message()), PushOutcome::Missed));
    assert!(matches!(page.push_job_update(job, "1", &message()), PushOutcome::Missed));
    let named = format!("\"{job}\"");
    assert!(
        matches!(page.deliver_job_result(job, &named, &message()), PushOutcome::Held),
        "a program submitted it for the page"
    );
}

#[test]
fn no_progress_of_a_job_is_told_after_its_end() {
    let page = page();
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    let job = Key::from_bits(7);
    page.track_job(job, "1");
    page.track_job(job, "2");
    page.push_job_update(job, "1", &message());
    page.deliver_job_result(job, "1", &message());
    assert!(matches!(page.push_job_update(job, "1", &message()), PushOutcome::Reached));
    page.push_job_update(job, "2", &message());
    assert_eq!(frames(&page, ticket).0.len(), 1 + 3, "registered, and all but the late one");
}

#[test]
fn a_window_that_ends_after_a_new_socket_came_ends_nothing() {
    let page = page();
    let old = page.attach(AttachKind::New, registered).unwrap();
    page.detach(old);
    page.attach(AGAIN, registered).unwrap();
    assert!(!page.leave(Some(old), Close::new(CloseCode::Unregistered, "")));
    assert!(page.is_live());
}

/// Polls with a waker that has no effect.
fn is_notified(changed: &mut std::pin::Pin<&mut Notified<'_>>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    changed.as_mut().poll(&mut context).is_ready()
}

#[test]
fn a_socket_that_has_taken_everything_is_told_of_a_burst_once() {
    let page = page();
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    let mut changed = std::pin::pin!(page.changed());
    frames(&page, ticket);
    for burst in 0..3 {
        assert!(!is_notified(&mut changed), "burst {burst}: nothing is new");
        page.push(&message());
        page.push(&message());
        assert!(is_notified(&mut changed), "burst {burst}: something waits");
        changed.set(page.changed());
        let (taken, _) = frames(&page, ticket);
        assert_eq!(taken.len(), 2);
    }
}

#[test]
fn a_frame_that_comes_right_after_the_last_take_is_not_missed() {
    let page = page();
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    frames(&page, ticket);
    let mut changed = std::pin::pin!(page.changed());
    page.push(&message());
    assert!(is_notified(&mut changed));
    changed.set(page.changed());
    assert_eq!(page.take(ticket, 10_000, &mut |_, _| {}), DrainOutcome::Empty);
    page.push(&message());
    assert!(is_notified(&mut changed));
}

#[test]
fn a_node_that_has_not_heard_that_a_page_has_left_answers_held() {
    let page = page();
    let ticket = page.attach(AttachKind::New, registered).unwrap();
    page.detach(ticket);
    // another node has won the row, and this node is cut off
    assert!(matches!(page.push(&message()), PushOutcome::Held));
    assert!(matches!(page.push_scoped(Some(1), &message()), PushOutcome::Held));
    // this node is connected again and sees the row: it forwards the buffered frames to the page's new node
    let (_, mut forwarding) = page.freeze(NodeNumber::new(2).unwrap(), 2, 9, u64::MAX).unwrap();
    assert!(matches!(page.push(&message()), PushOutcome::Forwarded(_)));
    let mut forwarded = 0;
    while forwarding.frames.try_recv().is_ok() {
        forwarded += 1;
    }
    assert_eq!(forwarded, 3);
}
