//! `GET /stats` and `/nodes`: the cluster in numbers.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Parts;
use super::pages::List;

/// Counts over the living pages of the cluster, as this node sees them.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Stats {
    /// The cluster's name.
    cluster: String,
    /// The node that answers; absent while it has no number.
    #[schema(example = "p01")]
    node: Option<String>,
    /// Users with at least one page.
    users: usize,
    /// Connections with at least one page.
    connections: usize,
    /// Sessions with at least one page.
    sessions: usize,
    /// Pages, with a socket or in their resume window.
    pages: usize,
    /// By node.
    nodes: Vec<NodePages>,
    /// By lane and release.
    lanes: Vec<LanePages>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct NodePages {
    #[schema(example = "p01")]
    node: String,
    lane: String,
    release: String,
    pages: usize,
}

#[derive(Serialize, utoipa::ToSchema)]
struct LanePages {
    lane: String,
    release: String,
    nodes: usize,
    pages: usize,
}

/// A living node.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Node {
    /// Its number.
    #[schema(example = "p01")]
    node: String,
    /// Grows with every life of the number.
    epoch: u64,
    /// Its configured name, if any.
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    /// Its lane.
    lane: String,
    /// Its release.
    release: String,
    /// Where browsers reach it.
    advertise: String,
    /// The oldest and the newest wire that it speaks.
    proto: [u32; 2],
    /// Its pages.
    pages: usize,
    /// Whether it is the node that answers.
    answering: bool,
}

/// Counts users, connections, sessions and pages.
#[utoipa::path(get, path = "/api/v1/stats", tag = "cluster", responses((status = 200, body = Stats)))]
pub(super) async fn stats(State(parts): State<Parts>) -> Json<Stats> {
    let seen = parts.registry.view().stats();
    let mut lanes = BTreeMap::<(&str, &str), (usize, usize)>::new();
    for node in &seen.nodes {
        let (nodes, pages) = lanes.entry((&node.lane, &node.release)).or_default();
        *nodes += 1;
        *pages += node.pages;
    }
    let lanes = lanes.into_iter().map(|((lane, release), (nodes, pages))| LanePages {
        lane: lane.to_owned(),
        release: release.to_owned(),
        nodes,
        pages,
    });
    let lanes = lanes.collect();
    let nodes = seen.nodes.into_iter().map(|node| NodePages {
        node: node.node.to_string(),
        lane: node.lane,
        release: node.release,
        pages: node.pages,
    });
    Json(Stats {
        cluster: parts.config.cluster.clone(),
        node: parts.lease.holder().map(|holder| holder.node.to_string()),
        users: seen.users,
        connections: seen.connections,
        sessions: seen.sessions,
        pages: seen.pages,
        nodes: nodes.collect(),
        lanes,
    })
}

/// Lists the living nodes in the order of their numbers.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "cluster", responses((status = 200, body = List<Node>)))]
pub(super) async fn nodes(State(parts): State<Parts>) -> Json<List<Node>> {
    let own = parts.lease.holder();
    let view = parts.registry.view();
    let counts = view.stats().nodes;
    let items = view.nodes().into_iter().map(|(holder, row)| Node {
        node: holder.node.to_string(),
        epoch: holder.epoch,
        name: row.name.clone(),
        lane: row.lane.clone(),
        release: row.release.clone(),
        advertise: row.advertise.clone(),
        proto: [row.proto.min, row.proto.max],
        pages: counts.iter().find(|count| count.node == holder.node).map_or(0, |count| count.pages),
        answering: own == Some(holder),
    });
    Json(List::whole(items.collect()))
}
