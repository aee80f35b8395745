//! Tests of the Bus during outages.

use std::time::{Duration, Instant};

use pagewire_cluster::engine::{
    BusEvent, ConnectionState, Engine, Gap, Message, PublishError, RequestError, Subscription,
};

use crate::proxy::Proxy;
use crate::server::{Server, TIMING, Trio, connect, eventually, url};

const ROOM: usize = 1024 * 1024;

async fn next(subscription: &mut Subscription) -> BusEvent {
    let received = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
    received.expect("something happens").expect("the engine lives")
}

async fn generation(engine: &Engine, above: u64) -> u64 {
    let mut link = engine.link();
    let up =
        link.wait_for(|link| matches!(link, ConnectionState::Up { generation } if *generation > above)).await;
    match *up.expect("the engine lives") {
        ConnectionState::Up { generation } => generation,
        ConnectionState::Down { .. } => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscription_learns_of_a_lost_connection_and_hears_again() {
    let mut server = Server::start();
    let [one, two] = [server.engine().await, server.engine().await];
    let mut ear = two.subscribe("t.*", None, ROOM).await.expect("subscribes");
    server.kill();
    eventually("down", async || one.publish(Message::new("t.a", "lost")).await == Err(PublishError::Down))
        .await;
    assert_eq!(two.request(Message::new("t.a", ""), TIMING.operation).await, Err(RequestError::Down));
    server.start_again();
    assert_eq!(next(&mut ear).await, BusEvent::Gap(Gap::Reconnect));
    generation(&one, 1).await;
    one.publish(Message::new("t.a", "again")).await.expect("publishes");
    // messages accepted before the loss was detected may arrive or not, but only before messages sent after
    // it
    let heard = loop {
        match next(&mut ear).await {
            BusEvent::Message(message) if message.payload == "lost" => {}
            other => break other,
        }
    };
    assert!(matches!(heard, BusEvent::Message(message) if message.payload == "again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_ends_with_its_connection_not_with_its_deadline() {
    let server = Server::start();
    let wire = Proxy::to(server.port);
    let asker = connect(vec![url(wire.port)], 1).await.expect("connects");
    let silent = server.engine().await;
    let mut questions = silent.subscribe("t.q", None, ROOM).await.expect("subscribes");
    let asking = tokio::spawn({
        let asker = asker.clone();
        async move { asker.request(Message::new("t.q", "?"), Duration::from_secs(3600)).await }
    });
    next(&mut questions).await;
    wire.cut();
    let answer = tokio::time::timeout(TIMING.operation * 2, asking).await.expect("at once");
    assert_eq!(answer.expect("no panic"), Err(RequestError::Down));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_leaves_a_server_that_is_about_to_stop() {
    let trio = Trio::start();
    // the engine learns the addresses of the other two servers from the first
    let engine = connect(vec![trio.0[0].url()], 3).await.expect("connects");
    let mut ear = engine.subscribe("t.a", None, ROOM).await.expect("subscribes");
    let begun = Instant::now();
    trio.0[0].become_a_lame_duck();
    assert_eq!(next(&mut ear).await, BusEvent::Gap(Gap::Reconnect));
    // the server itself waits 10 s before it closes the first connection
    assert!(begun.elapsed() < Duration::from_secs(8), "after {:?}", begun.elapsed());
    eventually("both connections moved", async || {
        generation(&engine, 0).await >= 3 && engine.publish(Message::new("t.a", "here")).await.is_ok()
    })
    .await;
    while next(&mut ear).await == BusEvent::Gap(Gap::Reconnect) {}
}
