//! Measures notifications of state trees on another node, beside a put and a message; and the slowdown that a second
//! node causes for the sets of the first one.

use std::io;
use std::time::Instant;

use pagewire_cluster::engine::{Bucket, BusEvent, Engine, Kv, Message, Precondition, Put, Subscription};
use pagewire_cluster::id::Entity;
use pagewire_cluster::state::Path;
use pagewire_cluster::subject::Subjects;

use crate::cluster::Cluster;
use crate::nats::Nats;
use crate::report::Times;
use crate::state_options::StateOptions;
use crate::state_sets::{Sample, Sets, engine, node, set, value};
use crate::view::user;
use crate::{POOL, baseline_engine};
use pagewire::pages::WatchStream;
use pagewire::roles::Node;

/// Bytes of messages that may wait to be read.
const UNREAD: usize = 1024 * 1024;

/// The samples of one run with a second node.
pub(crate) struct Beside {
    pub(crate) trees: Sample,
    pub(crate) delivery: Times,
    pub(crate) update: Times,
}

/// The processes and clients of the measurement.
pub(crate) struct UpdateMeasure<'a> {
    sets: &'a Sets<'a>,
    reader: Node,
    listener: WatchStream,
    bare: Kv,
    publisher: Engine,
    subject: String,
    /// A subscription on another connection, which lives as long as the subscription.
    subscriber: Subscription,
    _receiving: Engine,
}

impl<'a> UpdateMeasure<'a> {
    pub(crate) async fn join(sets: &'a Sets<'a>, nats: &Nats, cluster: &Cluster) -> io::Result<Self> {
        let (reader, other) = (node(cluster).await?, Cluster::new(Some(nats)));
        let (publisher, receiving) = (engine(nats, &other).await?, engine(nats, &other).await?);
        let subject = Subjects::new(&other.name).calls(POOL, baseline_engine::LANE, "echo");
        let subscriber = receiving.subscribe(&subject, None, UNREAD).await.map_err(io::Error::other)?;
        let mut listener = reader.context.watching.listen(Entity::User(user(0).into()), Path::ROOT);
        listener.next().await;
        let bare = publisher.kv(Bucket::State);
        Ok(Self { sets, reader, listener, bare, publisher, subject, subscriber, _receiving: receiving })
    }

    pub(crate) async fn measure(&mut self, options: &StateOptions, times: u64) -> io::Result<Beside> {
        // lasts as long as a run without the second node
        let sets = options.sets * times / options.updates;
        Ok(Beside {
            trees: self.sets.trees(options, sets).await?,
            delivery: self.deliveries(times).await?,
            update: self.updates(times, options.bytes).await?,
        })
    }

    /// Puts a value, then publishes a message. Measures from before the put until a subscriber on another connection
    /// has the message.
    async fn deliveries(&mut self, times: u64) -> io::Result<Times> {
        let key = Entity::User(user(0).into()).tree_key();
        let (mut each, mut expect) = (Vec::new(), Precondition::Any);
        for _ in 0..times {
            let (value, started) = (value(self.sets.stored), Instant::now());
            let put = Put::new(key.clone(), value.clone(), expect);
            expect = Precondition::Rev(self.bare.put(put).await.map_err(io::Error::other)?);
            let message = Message::new(&*self.subject, value);
            self.publisher.publish(message).await.map_err(io::Error::other)?;
            match self.subscriber.next().await {
                Some(BusEvent::Message(_)) => each.push(started.elapsed().as_secs_f64() * 1e6),
                _ => return Err(io::Error::other("a message is missing")),
            }
        }
        Ok(Times::of(each))
    }

    /// Sets a tree at one node. Measures until a follower on another node is notified, which may be before the writer
    /// has its reply.
    async fn updates(&mut self, times: u64, bytes: usize) -> io::Result<Times> {
        let owner = Entity::User(user(0).into());
        let mut each = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            let written = set(&self.sets.writer.context, owner.clone(), bytes);
            let notified = async { (self.listener.next().await, started.elapsed()) };
            let (written, (update, elapsed)) = tokio::join!(written, notified);
            let written = written?;
            let update = update.and_then(|update| serde_json::from_slice::<serde_json::Value>(&update).ok());
            match update {
                Some(update) if update["changes"].is_array() && update["revision"] == written => {
                    each.push(elapsed.as_secs_f64() * 1e6);
                }
                other => return Err(io::Error::other(format!("{other:?} after a set to {written}"))),
            }
        }
        Ok(Times::of(each))
    }

    /// Stops the second node, which releases its number.
    pub(crate) async fn end(self) {
        self.reader.stop().await;
    }
}
