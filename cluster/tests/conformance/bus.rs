//! Tests of the Bus: messages, delivered at most once.

use std::time::Duration;

use pagewire_cluster::engine::{
    BusEvent, ConnectionState, Engine, Gap, Headers, MAX_PAYLOAD, Message, PublishError, RequestError,
    Subscription,
};
use pagewire_cluster::subject::SubjectToken;
use pagewire_cluster::trace::TraceParent;

use crate::cluster::{Cluster, awkward_identities, eventually};

const ROOM: usize = 4 * 1024 * 1024;
const SOON: Duration = Duration::from_secs(10);

async fn listen(engine: &Engine, pattern: &str) -> Subscription {
    engine.subscribe(pattern, None, ROOM).await.expect("subscribes")
}

async fn join(engine: &Engine, pattern: &str, group: &str) -> Subscription {
    engine.subscribe(pattern, Some(group), ROOM).await.expect("subscribes")
}

async fn say(engine: &Engine, subject: &str, text: &str) {
    engine.publish(Message::new(subject, text.to_owned())).await.expect("publishes");
}

/// Returns the payload of the next message as text. A gap fails the test.
async fn hear(subscription: &mut Subscription) -> String {
    match subscription.next().await {
        Some(BusEvent::Message(message)) => String::from_utf8(message.payload.to_vec()).expect("is text"),
        other => panic!("expected a message, got {other:?}"),
    }
}

/// Returns the messages received before `last`.
async fn hear_until(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let text = hear(subscription).await;
        if text == last {
            return heard;
        }
        heard.push(text);
    }
}

/// Sends a text as the reply to every request, until the subscription ends.
fn answer_all(
    engine: &Engine,
    mut questions: Subscription,
    text: &'static str,
) -> tokio::task::JoinHandle<()> {
    let engine = engine.clone();
    tokio::spawn(async move {
        while let Some(BusEvent::Message(question)) = questions.next().await {
            engine.publish(question.reply_with(text).expect("wants an answer")).await.expect("publishes");
        }
    })
}

pub(crate) async fn a_message_reaches_every_process_that_listens_and_nobody_else(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let mut ears = [listen(&one, &format!("{t}.a")).await, listen(&two, &format!("{t}.a")).await];
    let mut other = listen(&two, &format!("{t}.b")).await;
    say(&one, &format!("{t}.a"), "hello").await;
    for ear in &mut ears {
        assert_eq!(hear(ear).await, "hello");
    }
    say(&one, &format!("{t}.b"), "end").await;
    assert_eq!(hear(&mut other).await, "end");
}

pub(crate) async fn a_subscription_hears_from_the_moment_it_returns(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    for round in 0..50 {
        let subject = format!("{t}.{round}");
        let mut ear = listen(&one, &subject).await;
        say(&two, &subject, "at once").await;
        assert_eq!(hear(&mut ear).await, "at once");
    }
}

pub(crate) async fn patterns_stand_for_one_token_or_for_the_rest(cluster: &Cluster) {
    let t = &cluster.name;
    let engine = cluster.process().await;
    let subjects = ["r.a", "r.a.b", "r.a.b.c", "r.b.b", "r", "s.a"];
    let cases: [(&str, &[&str]); 5] = [
        ("r.*", &["r.a"]),
        ("r.>", &["r.a", "r.a.b", "r.a.b.c", "r.b.b"]),
        ("r.*.b", &["r.a.b", "r.b.b"]),
        ("r.a.>", &["r.a.b", "r.a.b.c"]),
        ("r.a.b", &["r.a.b"]),
    ];
    for (pattern, expected) in cases {
        let mut ear = listen(&engine, &format!("{t}.{pattern}")).await;
        for subject in subjects {
            say(&engine, &format!("{t}.{subject}"), subject).await;
        }
        say(&engine, &format!("{t}.{}", expected[0]), "end").await;
        assert_eq!(hear_until(&mut ear, "end").await, expected, "{pattern}");
    }
}

pub(crate) async fn a_published_wildcard_is_only_a_character(cluster: &Cluster) {
    let t = &cluster.name;
    let engine = cluster.process().await;
    let mut ear = listen(&engine, &format!("{t}.b")).await;
    for subject in [format!("{t}.*"), format!("{t}.>"), ">".to_owned(), "*.b".to_owned(), "*.*".to_owned()] {
        // an engine may refuse the subject; the test is about the receivers
        let _ = engine.publish(Message::new(subject, "wildcard")).await;
    }
    say(&engine, &format!("{t}.b"), "end").await;
    assert_eq!(hear_until(&mut ear, "end").await, [""; 0]);
}

pub(crate) async fn messages_of_one_publisher_arrive_in_order(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let mut ear = listen(&two, &format!("{t}.>")).await;
    for number in 0..1000 {
        say(&one, &format!("{t}.{}", number % 7), &number.to_string()).await;
    }
    for number in 0..1000 {
        assert_eq!(hear(&mut ear).await, number.to_string());
    }
}

pub(crate) async fn each_group_hears_a_message_once(cluster: &Cluster) {
    let t = &cluster.name;
    const MESSAGES: usize = 60;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    for (group, engine) in [("red", &one), ("red", &two), ("red", &two), ("blue", &one), ("blue", &two)] {
        let (mut ear, heard) = (join(engine, &format!("{t}.*"), group).await, heard.clone());
        tokio::spawn(async move {
            loop {
                let text = hear(&mut ear).await;
                heard.send((group, text)).expect("the test listens");
            }
        });
    }
    let mut everything = listen(&two, &format!("{t}.>")).await;
    for number in 0..MESSAGES {
        say(&one, &format!("{t}.a"), &number.to_string()).await;
    }
    let mut seen = Vec::new();
    for _ in 0..2 * MESSAGES {
        seen.push(hearing.recv().await.expect("members live"));
    }
    for group in ["red", "blue"] {
        let mut numbers: Vec<usize> =
            seen.iter().filter(|(g, _)| *g == group).map(|(_, n)| n.parse().expect("a number")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{group}");
    }
    say(&one, &format!("{t}.b.c"), "end").await;
    assert_eq!(hear_until(&mut everything, "end").await.len(), MESSAGES, "who is in no group hears all");
    assert!(hearing.try_recv().is_err(), "a second member received a message");
}

pub(crate) async fn a_request_carries_its_headers_there_and_back(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let mut questions = listen(&two, &format!("{t}.q")).await;
    let headers =
        Headers { trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") };
    let question = Message { headers: headers.clone(), ..Message::new(format!("{t}.q"), "why?") };
    let asking = tokio::spawn({
        let one = one.clone();
        async move { one.request(question, SOON).await }
    });
    let Some(BusEvent::Message(question)) = questions.next().await else { panic!("no question") };
    assert_eq!((&question.subject, &question.payload[..]), (&format!("{t}.q"), &b"why?"[..]));
    assert_eq!(question.headers, headers);
    two.publish(question.reply_with("because").expect("wants an answer")).await.expect("publishes");
    let answer = asking.await.expect("no panic").expect("is answered");
    assert_eq!((&answer.payload[..], answer.headers), (&b"because"[..], headers));
}

pub(crate) async fn a_question_that_nobody_hears_is_answered_at_once(cluster: &Cluster) {
    let t = &cluster.name;
    let engine = cluster.process().await;
    let _unrelated = listen(&engine, &format!("{t}.other")).await;
    // longer than the time limit of a test, so only an immediate failure passes
    let within = Duration::from_secs(3600);
    let answer = engine.request(Message::new(format!("{t}.q"), "?"), within).await;
    assert_eq!(answer.map(drop), Err(RequestError::NoResponder));
}

pub(crate) async fn a_question_that_nobody_answers_ends_with_its_deadline(cluster: &Cluster) {
    let t = &cluster.name;
    let engine = cluster.process().await;
    let mut silent = listen(&engine, &format!("{t}.q")).await;
    let answer = engine.request(Message::new(format!("{t}.q"), "?"), Duration::from_millis(100)).await;
    assert_eq!(answer, Err(RequestError::Deadline));
    assert_eq!(hear(&mut silent).await, "?", "the request may have been processed");
}

pub(crate) async fn a_dropped_subscription_answers_nothing(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let leaving = join(&one, &format!("{t}.q"), "g").await;
    let stays = join(&two, &format!("{t}.q"), "g").await;
    drop(leaving);
    let answering = answer_all(&two, stays, "stays");
    let ask = async || one.request(Message::new(format!("{t}.q"), "?"), Duration::from_millis(300)).await;
    eventually("everything goes to the member that stays", async || {
        let mut answered = true;
        for _ in 0..5 {
            answered &= ask().await.is_ok();
        }
        answered
    })
    .await;
    answering.abort();
    eventually("no subscriber is left", async || ask().await == Err(RequestError::NoResponder)).await;
}

pub(crate) async fn payloads_have_a_limit(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let mut ear = listen(&two, &format!("{t}.a")).await;
    one.publish(Message::new(format!("{t}.a"), vec![7; MAX_PAYLOAD])).await.expect("fits");
    let Some(BusEvent::Message(message)) = ear.next().await else { panic!("no message") };
    assert!(message.payload == vec![7; MAX_PAYLOAD]);
    let too_large = || Message::new(format!("{t}.a"), vec![7; MAX_PAYLOAD + 1]);
    assert_eq!(one.publish(too_large()).await, Err(PublishError::TooLarge));
    assert_eq!(one.request(too_large(), SOON).await, Err(RequestError::TooLarge));
}

pub(crate) async fn a_slow_reader_is_told_where_messages_are_missing(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let mut slow = two.subscribe(&format!("{t}.>"), None, 10_000).await.expect("subscribes");
    let mut quick = listen(&two, &format!("{t}.>")).await;
    for number in 0..100 {
        say(&one, &format!("{t}.a"), &format!("{number:01000}")).await;
    }
    say(&one, &format!("{t}.a"), "end").await;
    assert_eq!(hear_until(&mut quick, "end").await.len(), 100);
    // messages after the burst are received again as soon as there is room
    let later = tokio::spawn({
        let (one, subject) = (one.clone(), format!("{t}.a"));
        async move {
            loop {
                say(&one, &subject, "later").await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let (mut expected, mut gaps, mut told) = (0, 0, false);
    loop {
        match slow.next().await.expect("the engine lives") {
            BusEvent::Gap(kind) => {
                assert_eq!(kind, Gap::Overflow);
                gaps += 1;
                told = true;
            }
            BusEvent::Message(heard) if heard.payload == "later" => break,
            BusEvent::Message(heard) if heard.payload == "end" => {}
            BusEvent::Message(heard) => {
                let number: usize =
                    std::str::from_utf8(&heard.payload).expect("text").parse().expect("a number");
                assert!(number == expected || told && number > expected, "{number} without a gap");
                expected = number + 1;
                told = false;
            }
        }
    }
    later.abort();
    assert!(gaps > 0 && expected >= 5, "{expected} of 100 messages of 1000 bytes in a budget of 10,000");
}

pub(crate) async fn awkward_identities_are_ordinary_subjects(cluster: &Cluster) {
    let t = &cluster.name;
    let [one, two] = [cluster.process().await, cluster.process().await];
    let identities = awkward_identities();
    let subject = |identity: &str| format!("{t}.user.{}", SubjectToken::new(identity));
    let mut ears = Vec::new();
    for identity in &identities {
        ears.push(listen(&one, &subject(identity)).await);
    }
    for identity in &identities {
        say(&two, &subject(identity), identity).await;
    }
    for (identity, ear) in identities.iter().zip(&mut ears) {
        say(&two, &subject(identity), "end").await;
        assert_eq!(hear_until(ear, "end").await, [identity.as_str()]);
    }
}

pub(crate) async fn the_link_is_up(cluster: &Cluster) {
    let engine = cluster.process().await;
    let mut link = engine.link();
    let up =
        link.wait_for(|link| matches!(link, ConnectionState::Up { .. })).await.expect("the engine lives");
    assert_eq!(*up, ConnectionState::Up { generation: 1 });
}
