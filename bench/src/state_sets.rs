//! Measures sets of state trees by a single node, beside puts of the client library and of the engine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::engine::{Bucket, Consistency, Engine, Kv, Precondition, Put};
use pagewire_cluster::id::Entity;
use pagewire_cluster::id::Key;
use pagewire_cluster::state::{ClientPath, DraftWrite, Edit, Operation};
use pagewire_cluster::timing::Timing;
use serde_json::Value;

use crate::baseline_engine;
use crate::baseline_nats_client;
use crate::cluster::Cluster;
use crate::helper_process::unexpected;
use crate::helper_protocol::HelperResponse;
use crate::load::run_load;
use crate::measure::cpu;
use crate::nats::Nats;
use crate::plan::Plan;
use crate::state_options::{StateOptions, WARM_UP};
use crate::view::user;
use pagewire::command::Context;
use pagewire::roles::Node;

/// Sets of one tree per sequential put. Puts run one at a time and are slower, so fewer of them are measured.
const PER_PUT: u64 = 10;

/// Sets or puts per second, and CPU time of each in microseconds: of this process and of NATS.
pub(crate) struct Sample {
    pub(crate) rate: f64,
    pub(crate) own: f64,
    pub(crate) nats: Option<f64>,
}

impl Sample {
    /// Returns the CPU time of all processes.
    pub(crate) fn cost(&self) -> f64 {
        self.own + self.nats.unwrap_or_default()
    }
}

/// The samples of one run of a single node.
pub(crate) struct Run {
    pub(crate) one_put: Sample,
    pub(crate) one_tree: Sample,
    /// As many keys as trees, by the client library alone; `engine` does the same by the engine alone.
    pub(crate) plain: Sample,
    pub(crate) engine: Sample,
    pub(crate) trees: Sample,
}

/// The processes and clients of the measurement.
pub(crate) struct Sets<'a> {
    pub(crate) writer: Node,
    /// The engine of a separate cluster, whose buckets have no watchers.
    engine: Kv,
    plain: baseline_nats_client::Bucket,
    /// Bytes of a stored tree, and so of a bare value.
    pub(crate) stored: usize,
    nats: &'a Nats,
}

impl<'a> Sets<'a> {
    pub(crate) async fn make(options: &StateOptions, nats: &'a Nats, cluster: &Cluster) -> io::Result<Self> {
        let (writer, other) = (node(cluster).await?, Cluster::new(Some(nats)));
        let owner = Entity::User(user(0).into());
        // fill the history of the tree to its full length
        for _ in 0..WARM_UP {
            set(&writer.context, owner.clone(), options.bytes).await?;
        }
        let trees = engine(nats, cluster).await?.kv(Bucket::State);
        let entry = trees.get(&owner.tree_key(), Consistency::Latest).await.map_err(io::Error::other)?;
        let stored = entry.ok_or_else(|| io::Error::other("a tree that was set is not there"))?.value.len();
        let engine = engine(nats, &other).await?.kv(Bucket::State);
        Ok(Self {
            writer,
            engine,
            plain: baseline_nats_client::Bucket::create(&nats.urls).await?,
            stored,
            nats,
        })
    }

    pub(crate) async fn measure(&self, options: &StateOptions, sets: u64) -> io::Result<Run> {
        let per_tree = (sets / options.trees).max(1);
        Ok(Run {
            one_put: self.plain(1, (sets / PER_PUT).max(1)).await?,
            one_tree: self.one_tree(options, sets).await?,
            plain: self.plain(options.trees, per_tree).await?,
            engine: self.engine(options.trees, per_tree).await?,
            trees: self.trees(options, sets).await?,
        })
    }

    async fn one_tree(&self, options: &StateOptions, sets: u64) -> io::Result<Sample> {
        self.sets(1, options.in_flight, (sets / options.in_flight).max(1), options.bytes).await
    }

    /// Sets all trees concurrently.
    pub(crate) async fn trees(&self, options: &StateOptions, sets: u64) -> io::Result<Sample> {
        self.sets(options.trees, options.trees, (sets / options.trees).max(1), options.bytes).await
    }

    /// Puts that many keys concurrently by compare-and-set; the puts of one key are sequential.
    async fn plain(&self, keys: u64, times: u64) -> io::Result<Sample> {
        let (bucket, stored) = (self.plain.clone(), self.stored);
        self.way(Plan::together(keys, keys), times, move |number| {
            let (bucket, key) = (bucket.clone(), Entity::User(user(number).into()).tree_key());
            async move {
                let mut over = None;
                for _ in 0..times {
                    over = Some(bucket.put(&key, value(stored).into(), over).await?);
                }
                Ok(())
            }
        })
        .await
    }

    async fn engine(&self, keys: u64, times: u64) -> io::Result<Sample> {
        let (bare, stored) = (self.engine.clone(), self.stored);
        self.way(Plan::together(keys, keys), times, move |number| {
            let (bare, key) = (bare.clone(), Entity::User(user(number).into()).tree_key());
            async move {
                let mut expect = Precondition::Any;
                for _ in 0..times {
                    let put = Put::new(key.clone(), value(stored), expect);
                    expect = Precondition::Rev(bare.put(put).await.map_err(io::Error::other)?);
                }
                Ok(())
            }
        })
        .await
    }

    /// Sets the trees in turn with that many concurrent tasks; the sets of one task are sequential.
    async fn sets(&self, trees: u64, lanes: u64, times: u64, bytes: usize) -> io::Result<Sample> {
        let context = self.writer.context.clone();
        // trees without followers: the cost of notifications is measured separately
        self.way(Plan::together(lanes, lanes), times, move |number| {
            let (context, owner) = (context.clone(), Entity::User(user(1 + number % trees).into()));
            async move {
                for _ in 0..times {
                    set(&context, owner.clone(), bytes).await?;
                }
                Ok(())
            }
        })
        .await
    }

    /// Measures one variant. Each operation of the plan consists of that many sets or puts.
    async fn way<F, W>(&self, plan: Plan, times: u64, work: F) -> io::Result<Sample>
    where
        F: Fn(u64) -> W + Clone + Send + 'static,
        W: Future<Output = io::Result<()>> + Send + 'static,
    {
        let used = || Ok::<_, io::Error>((cpu(std::process::id())?, self.nats.cpu()?));
        let before = used()?;
        let seconds = match run_load(plan, work).await? {
            HelperResponse::Took { seconds, .. } => seconds,
            other => return Err(unexpected(&other)),
        };
        let (after, all) = (used()?, (plan.pieces * times) as f64);
        let each =
            |(before, after): (Duration, Duration)| after.saturating_sub(before).as_secs_f64() * 1e6 / all;
        let nats = before.1.zip(after.1).map(each);
        Ok(Sample { rate: all / seconds, own: each((before.0, after.0)), nats })
    }
}

/// Opens the engine of a cluster.
pub(crate) async fn engine(nats: &Nats, cluster: &Cluster) -> io::Result<Engine> {
    baseline_engine::engine(&nats.urls, nats.replicas, &cluster.name, Timing::PRODUCTION).await
}

/// Starts a node in this process.
pub(crate) async fn node(cluster: &Cluster) -> io::Result<Node> {
    let node = Node::start(cluster.config()?, Timing::PRODUCTION).await.map_err(io::Error::other)?;
    node.ready.wait().await;
    Ok(node)
}

/// Sets a tree at the point where a page's command or a program's request has been parsed. Returns the tree's revision.
pub(crate) async fn set(context: &Arc<Context>, owner: Entity, bytes: usize) -> io::Result<u64> {
    let path = "text".parse::<ClientPath>().map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let edit = Edit { path, value: Some(Value::String(value(bytes))) };
    let write =
        DraftWrite { operation: Operation::Edit(vec![edit]), if_revision: None, from: None, fence: None };
    let written = context.write(&owner, write).await;
    written.map_err(|error| io::Error::other(error.to_string()))
}

/// Returns a new text of that many bytes, because an equal value would not be written.
pub(crate) fn value(bytes: usize) -> String {
    let mut text = Key::random().to_string();
    text.extend(std::iter::repeat_n('.', bytes.saturating_sub(text.len())));
    text
}
