//! State trees: sets of one tree and of many through a node's entry, and news of them on another node, beside the engine
//! alone, in turns on the same server; and one tree that many pages watch.
//!
//! The nodes that write and follow are in this process, without listeners, like the bare engine beside them, so both have
//! the same threads. The node of the pages and their clients are processes of their own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pagewire_cluster::engine::{
    Bucket, Consistency, Engine, Expect, Kv, Message, Put, Received, Subscription,
};
use pagewire_cluster::id::Key;
use pagewire_cluster::state::{Act, Edit, Locator, News, Owner, Path, Write};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use serde_json::Value;

use super::child::unexpected;
use super::cluster::Cluster;
use super::flight::{Plan, fly};
use super::measure::cpu;
use super::nats::Nats;
use super::order::Answer;
use super::report::{Goal, Report, Times, progress};
use super::state_pages::Pages;
use super::view::user;
use super::{POOL, bare};
use crate::command::Context;
use crate::node::Node;
use crate::session::Listener;

/// Times the sequential bare rate.
const ONE: Goal = Goal::AtLeast(10.0);
/// Part of the pipelined bare rate.
const MANY: Goal = Goal::AtLeast(70.0);
/// Times a bare put and one delivery.
const TOLD: Goal = Goal::AtMost(2.0);
/// One put at a time is slower than many: so many sets of one tree are measured beside one.
const PER_PUT: u64 = 10;
/// Each way runs for a part of its time before the first measurement.
const WARM_UP: u64 = 10;
/// Bytes of messages that nobody has read.
const UNREAD: usize = 1024 * 1024;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Sets of one run, on one tree and on many.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    sets: u64,
    /// Sets of the one tree at the same time.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1000))]
    in_flight: u64,
    /// Trees that are set at the same time, each one set after the other.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    trees: u64,
    /// Bytes of the value that is set.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(usize))]
    bytes: usize,
    /// Sets of one run that a follower on another node is told, one at a time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    told: u64,
    /// Pages of another node that all watch one tree.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// Sets of that tree in one run, one at a time.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    watched: u64,
    /// A NATS server; without it one is started (NATS_SERVER, else `nats-server` in PATH).
    #[arg(long)]
    nats: Option<String>,
    /// Times that each way is measured, in turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Sets or puts per second, and microseconds of CPU for each: of this process, and of NATS.
struct Way {
    rate: f64,
    own: f64,
    nats: Option<f64>,
}

impl Way {
    /// Of all processes.
    fn cost(&self) -> f64 {
        self.own + self.nats.unwrap_or_default()
    }
}

/// One run of what is compared.
struct Run {
    one_put: Way,
    one_tree: Way,
    puts: Way,
    trees: Way,
    delivery: Times,
    told: Times,
}

/// What takes part.
struct Bed {
    writer: Node,
    reader: Node,
    listener: Listener,
    bare: Kv,
    publisher: Engine,
    subject: String,
    /// At another connection, like the listener's, which lives as long as it.
    subscriber: Subscription,
    _receiving: Engine,
    /// How long a tree is in the store, so how long a bare value has to be.
    stored: usize,
    cluster: Cluster,
    /// Ends after those who are connected to it.
    nats: Nats,
}

pub(super) async fn run(options: Options) -> io::Result<Report> {
    let mut bed = Bed::make(&options).await?;
    let small = |pieces: u64| (pieces / WARM_UP).max(1);
    bed.measure(&options, small(options.sets), small(options.told)).await?;
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("run {number} of {}", options.runs));
        runs.push(bed.measure(&options, options.sets, options.told).await?);
    }
    progress("opening pages");
    let owner = Owner::User(user(0));
    let mut pages = Pages::open(&bed.cluster, options.pages).await?;
    let (mut each, mut costs) = (Vec::new(), Vec::new());
    for number in 0..=options.runs {
        progress(&format!("pages, run {number} of {}", options.runs));
        let context = &bed.writer.context;
        let (times, cost) =
            pages.measure(options.watched, || set(context, owner.clone(), options.bytes)).await?;
        // the first one warms up
        if number > 0 {
            each.push(times);
            costs.push(cost);
        }
    }
    progress("");
    let mut report = report(&options, bed.stored, &runs);
    let name = format!("one tree, {} pages", options.pages);
    report.row(
        format!("{name}: last page has it, p50"),
        "ms",
        &each.iter().map(|times| times.p50_us / 1e3).collect::<Vec<_>>(),
    );
    report.row(format!("{name}: CPU of their node"), "µs/page", &costs);
    bed.end().await;
    Ok(report)
}

impl Bed {
    async fn make(options: &Options) -> io::Result<Self> {
        let nats = Nats::start(options.nats.as_deref()).await?;
        let (cluster, other) = (Cluster::new(Some(&nats)), Cluster::new(Some(&nats)));
        let (writer, reader) = (node(&cluster).await?, node(&cluster).await?);
        let engine = async |cluster: &Cluster| {
            bare::engine(&nats.urls, nats.replicas, &cluster.name, Timing::REAL).await
        };
        let (publisher, receiving) = (engine(&other).await?, engine(&other).await?);
        let subject = Subjects::new(&other.name).calls(POOL, bare::LANE);
        let subscriber = receiving.subscribe(&subject, None, UNREAD).await.map_err(io::Error::other)?;
        let owner = Owner::User(user(0));
        // the trail of a tree has its full length
        for _ in 0..WARM_UP {
            set(&writer.context, owner.clone(), options.bytes).await?;
        }
        let trees = engine(&cluster).await?.kv(Bucket::State);
        let entry = trees.get(&owner.key(), Consistency::Latest).await.map_err(io::Error::other)?;
        let stored = entry.ok_or_else(|| io::Error::other("a tree that was set is not there"))?.value.len();
        let mut listener = reader.context.watching.listen(owner, Path::ROOT);
        listener.next().await;
        let bare = publisher.kv(Bucket::State);
        Ok(Self {
            writer,
            reader,
            listener,
            bare,
            publisher,
            subject,
            subscriber,
            _receiving: receiving,
            stored,
            cluster,
            nats,
        })
    }

    async fn measure(&mut self, options: &Options, sets: u64, told: u64) -> io::Result<Run> {
        let (one, many) = (options.in_flight, options.trees);
        let (per_lane, per_tree) = ((sets / one).max(1), (sets / many).max(1));
        Ok(Run {
            one_put: self.puts(1, (sets / PER_PUT).max(1)).await?,
            one_tree: self.sets(1, one, per_lane, options.bytes).await?,
            puts: self.puts(many, per_tree).await?,
            trees: self.sets(many, many, per_tree, options.bytes).await?,
            delivery: self.deliveries(told).await?,
            told: self.news(told, options.bytes).await?,
        })
    }

    /// That many keys at the same time, each put that many times, one after the other, by compare-and-set.
    async fn puts(&self, keys: u64, times: u64) -> io::Result<Way> {
        let (bare, stored) = (self.bare.clone(), self.stored);
        self.way(Plan::together(keys, keys), times, move |number| {
            let (bare, key) = (bare.clone(), Owner::User(user(number)).key());
            async move {
                let mut expect = Expect::Any;
                for _ in 0..times {
                    let put = Put::new(key.clone(), value(stored), expect);
                    expect = Expect::Rev(bare.put(put).await.map_err(io::Error::other)?);
                }
                Ok(())
            }
        })
        .await
    }

    /// That many at the same time set the trees in turn, each that many times, one after the other.
    async fn sets(&self, trees: u64, lanes: u64, times: u64, bytes: usize) -> io::Result<Way> {
        let context = self.writer.context.clone();
        // trees that nobody follows: what being told costs is measured apart
        self.way(Plan::together(lanes, lanes), times, move |number| {
            let (context, owner) = (context.clone(), Owner::User(user(1 + number % trees)));
            async move {
                for _ in 0..times {
                    set(&context, owner.clone(), bytes).await?;
                }
                Ok(())
            }
        })
        .await
    }

    /// Each piece of the plan is so many sets or puts.
    async fn way<F, W>(&self, plan: Plan, times: u64, work: F) -> io::Result<Way>
    where
        F: Fn(u64) -> W + Clone + Send + 'static,
        W: Future<Output = io::Result<()>> + Send + 'static,
    {
        let used = || Ok::<_, io::Error>((cpu(std::process::id())?, self.nats.cpu()?));
        let before = used()?;
        let seconds = match fly(plan, work).await? {
            Answer::Took { seconds, .. } => seconds,
            other => return Err(unexpected(&other)),
        };
        let (after, all) = (used()?, (plan.pieces * times) as f64);
        let each =
            |(before, after): (Duration, Duration)| after.saturating_sub(before).as_secs_f64() * 1e6 / all;
        let nats = before.1.zip(after.1).map(each);
        Ok(Way { rate: all / seconds, own: each((before.0, after.0)), nats })
    }

    /// A put, then a message: from before the put until a subscriber at another connection has the message.
    async fn deliveries(&mut self, times: u64) -> io::Result<Times> {
        let key = Owner::User(user(0)).key();
        let (mut each, mut expect) = (Vec::new(), Expect::Any);
        for _ in 0..times {
            let (value, started) = (value(self.stored), Instant::now());
            let put = Put::new(key.clone(), value.clone(), expect);
            expect = Expect::Rev(self.bare.put(put).await.map_err(io::Error::other)?);
            let message = Message::new(&*self.subject, value);
            self.publisher.publish(message).await.map_err(io::Error::other)?;
            match self.subscriber.next().await {
                Some(Received::Message(_)) => each.push(started.elapsed().as_secs_f64() * 1e6),
                _ => return Err(io::Error::other("a message is missing")),
            }
        }
        Ok(Times::of(each))
    }

    /// A set at one node: until a follower at another one is told, which may be before the writer has its answer.
    async fn news(&mut self, times: u64, bytes: usize) -> io::Result<Times> {
        let owner = Owner::User(user(0));
        let mut each = Vec::new();
        for _ in 0..times {
            let started = Instant::now();
            let written = set(&self.writer.context, owner.clone(), bytes);
            let told = async { (self.listener.next().await, started.elapsed()) };
            let (written, (news, elapsed)) = tokio::join!(written, told);
            let written = written?;
            match news.map(|delivery| delivery.news) {
                Some(News::Changed { revision, .. }) if revision == written => {
                    each.push(elapsed.as_secs_f64() * 1e6);
                }
                other => return Err(io::Error::other(format!("{other:?} after a set to {written}"))),
            }
        }
        Ok(Times::of(each))
    }

    /// The nodes give their numbers back.
    async fn end(self) {
        self.writer.stop().await;
        self.reader.stop().await;
    }
}

/// A node of this process.
async fn node(cluster: &Cluster) -> io::Result<Node> {
    let node = Node::start(cluster.config()?, Timing::REAL).await.map_err(io::Error::other)?;
    node.ready.wait().await;
    Ok(node)
}

/// Where the command of a page and the request of a program have been read; the tree's revision afterwards.
async fn set(context: &Arc<Context>, owner: Owner, bytes: usize) -> io::Result<u64> {
    let path = "text".parse::<Locator>().map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let edit = Edit { path, value: Some(Value::String(value(bytes))) };
    let write = Write { act: Act::Edit(vec![edit]), if_revision: None, from: None };
    let written = context.write(&owner, write).await;
    written.map_err(|error| io::Error::other(error.to_string()))
}

/// A text of that many bytes that has never been there: the same again would not be written.
fn value(bytes: usize) -> String {
    let mut text = Key::random().to_string();
    text.extend(std::iter::repeat_n('.', bytes.saturating_sub(text.len())));
    text
}

/// What of a run a row is about.
type Part<T> = fn(&Run) -> &T;

fn report(options: &Options, stored: usize, runs: &[Run]) -> Report {
    let mut report = Report::new(format!(
        "State: {} sets of {} bytes, {} at the same time on one tree, or {} trees; {stored} bytes in the store; \
         on one NATS server",
        options.sets, options.bytes, options.in_flight, options.trees
    ));
    let of = |part: &dyn Fn(&Run) -> f64| runs.iter().map(part).collect::<Vec<_>>();
    let (trees, pipelined) =
        (format!("{} trees", options.trees), format!("bare puts, {} in flight", options.trees));
    let ways: [(&str, &str, Part<Way>); 4] = [
        ("bare puts of one key", "puts/s", |run| &run.one_put),
        ("one tree", "sets/s", |run| &run.one_tree),
        (&pipelined, "puts/s", |run| &run.puts),
        (&trees, "sets/s", |run| &run.trees),
    ];
    for (name, unit, way) in ways {
        report.row(name, unit, &of(&|run| way(run).rate));
        report.row(format!("{name}, CPU of this process"), "µs each", &of(&|run| way(run).own));
        let nats: Vec<_> = runs.iter().filter_map(|run| way(run).nats).collect();
        report.row(format!("{name}, CPU of nats-server"), "µs each", &nats);
    }
    report.goal("one tree : bare, rate", "times", &of(&|run| run.one_tree.rate / run.one_put.rate), ONE);
    report.goal("many trees : bare, rate", "%", &of(&|run| 100.0 * run.trees.rate / run.puts.rate), MANY);
    let per_cpu = of(&|run| 100.0 * run.puts.cost() / run.trees.cost());
    report.row("many trees : bare, per CPU second", "%", &per_cpu);
    let told: [(&str, Part<Times>); 2] =
        [("bare put and delivery", |run| &run.delivery), ("told on another node", |run| &run.told)];
    for (name, times) in told {
        report.row(format!("{name}, p50"), "µs", &of(&|run| times(run).p50_us));
        report.row(format!("{name}, p99"), "µs", &of(&|run| times(run).p99_us));
    }
    report.goal("told : bare, p50", "times", &of(&|run| run.told.p50_us / run.delivery.p50_us), TOLD);
    report
}
