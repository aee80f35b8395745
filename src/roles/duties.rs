//! The duties of a node beside serving sockets and peers.
//!
//! Owns: when each duty runs, on the leader or on every node. Never: supervision, which `tasks` does. A duty that is
//! dropped between two steps leaves nothing that the next round does not repeat.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::clock::{self, ServerOffset};
use pagewire_cluster::engine::{ConnectionState, Engine};
use pagewire_cluster::id::Entity;
use pagewire_cluster::job::{JobReconciler, Jobs, WaitingJobsList};
use pagewire_cluster::keyring::Ages;
use pagewire_cluster::lease::{self, NodeLease};
use pagewire_cluster::registry::{Expirable, Registry};
use pagewire_cluster::rollout::Rollouts;
use pagewire_cluster::state::{OrphanTracker, StateStore};
use pagewire_cluster::subject::Subjects;
use pagewire_cluster::timing::Timing;
use tokio::sync::watch;

use super::leader::Leadership;
use super::services::Services;
use super::tasks::{TaskKind, Tasks, every};
use super::{resident_pages, rollout_analysis};
use crate::command::{self, Context, Waited};
use crate::config::Config;
use crate::pages::{Pages, exists};
use crate::telemetry::Metrics;

/// Checks for pages that need a new token, per lifetime of a page token.
const TOKEN_CHECKS: u32 = 48;

fn log_postponed(duty: &'static str, error: impl std::fmt::Display) {
    tracing::debug!(duty, %error, "duty postponed");
}

/// Spawns the duties of a node; the end of one drains the node.
pub(super) fn spawn_all(tasks: &Tasks, services: &Services, context: &Arc<Context>, config: &Config) {
    let (lifetime, websocket) = (&config.lifetime, &config.websocket);
    let pinged = Duration::from_millis(websocket.ping_ms + websocket.ping_timeout_ms);
    let Services {
        engine, subjects, timing, registry, lease, jobs, states, rollouts, analysis, latches, ..
    } = services;
    let (timing, rows, trees) = (*timing, || registry.clone(), || states.clone());
    resident_pages::spawn(tasks, services, context);
    let leadership = Leadership::new(rows(), lease.clone());
    let leads = || leadership.clone();
    let cleanup = Duration::from_secs(lifetime.cleanup_interval_s);
    let (unclaimed, grace) =
        (Duration::from_secs(lifetime.unclaimed_job_s), Duration::from_millis(lifetime.resume_ms));
    let next_node = watch_neighbour(engine.clone(), subjects.clone(), rows(), lease.clone(), timing);
    tasks.spawn("neighbour", TaskKind::Vital, next_node);
    tasks.spawn("sweep", TaskKind::Vital, sweep(leads(), rows(), timing));
    tasks.spawn(
        "jobs",
        TaskKind::Vital,
        reconcile_jobs(leads(), jobs.clone(), rollouts.clone(), timing, unclaimed),
    );
    let decisions = rollout_analysis::decide(leads(), analysis.clone(), rollouts.clone(), latches.clone());
    tasks.spawn("rollout decisions", TaskKind::Vital, decisions);
    tasks.spawn("tokens", TaskKind::Vital, renew_tokens(leads(), context.pages.clone(), timing));
    tasks.spawn("job results", TaskKind::Vital, find_job_results(context.clone(), timing));
    tasks.spawn("expiry", TaskKind::Vital, end_idle(leads(), rows(), trees(), timing, cleanup));
    tasks.spawn("server clocks", TaskKind::Vital, compare_server_clocks(leads(), engine.clone(), timing));
    let lanes = leave_closed_lanes(rollouts.clone(), context.pages.clone(), timing);
    tasks.spawn("lanes of nodes", TaskKind::Vital, lanes);
    tasks.spawn("living pages", TaskKind::Vital, count_living_pages(context.pages.clone(), pinged));
    tasks.spawn("orphans", TaskKind::Vital, remove_orphans(leads(), rows(), trees(), cleanup, grace));
}

/// Confirms the death of the next node in the ring, so that its pages leave the view before its lease expires.
async fn watch_neighbour(
    engine: Engine,
    subjects: Subjects,
    registry: Registry,
    own: NodeLease,
    timing: Timing,
) {
    let mut ticks = every(timing.lease_renew);
    loop {
        ticks.tick().await;
        let Some(holder) = own.holder() else { continue };
        let living: Vec<_> = registry.view().nodes().into_iter().map(|(holder, _)| holder.node).collect();
        let Some(next) = lease::next_in_ring(holder.node, &living) else { continue };
        if let Err(error) = lease::evict_dead_node(&engine, &subjects, timing, next).await {
            log_postponed("neighbour", error);
        }
    }
}

/// Names the servers of the engine whose clocks differ from the clock of the cluster, on the leader.
async fn compare_server_clocks(leadership: Leadership, engine: Engine, timing: Timing) {
    let mut turns = leadership.turns(timing.lease_ttl * 3);
    let mut named = Vec::new();
    loop {
        turns.next().await;
        let off = match engine.server_offsets().await {
            Ok(off) => off,
            Err(error) => {
                log_postponed("server clocks", error);
                continue;
            }
        };
        for ServerOffset { server, ahead_ms } in off.iter().filter(|off| !named.contains(&off.server)) {
            tracing::warn!(
                server,
                ahead_ms,
                "the clock of a NATS server differs from the clock of the cluster"
            );
        }
        named = off.into_iter().map(|off| off.server).collect();
    }
}

/// Deletes the rows of dead nodes, on the leader.
async fn sweep(leadership: Leadership, registry: Registry, timing: Timing) {
    let mut turns = leadership.turns(timing.lease_renew);
    loop {
        turns.next().await;
        let swept = registry.sweep().await;
        if swept > 0 {
            tracing::info!(swept, "rows of dead nodes deleted");
        }
    }
}

/// Removes the trees of pages that cannot come back any more, and of other entities that are gone, on the leader.
async fn remove_orphans(
    leadership: Leadership,
    registry: Registry,
    states: StateStore,
    interval: Duration,
    grace: Duration,
) {
    let mut turns = leadership.turns(interval);
    let mut orphans = OrphanTracker::default();
    loop {
        if turns.next().await.is_first {
            orphans = OrphanTracker::default();
        }
        let owners = match states.owners().await {
            Ok(owners) => owners,
            Err(error) => {
                log_postponed("orphans", error);
                continue;
            }
        };
        let dead = orphans.collect(owners, |owner| exists(&registry.view(), owner), clock::boot(), grace);
        for owner in &dead {
            if let Err(error) = states.remove(owner).await {
                tracing::debug!(%error, ?owner, "a tree without an entity is removed later");
            }
        }
    }
}

/// Ends sessions and connections that have expired, on the leader.
async fn end_idle(
    leadership: Leadership,
    registry: Registry,
    states: StateStore,
    timing: Timing,
    interval: Duration,
) {
    let mut turns = leadership.turns(interval);
    loop {
        turns.next().await;
        let mut ended = 0;
        if let Some(rev) = registry.mark_idle().await {
            // a view that is later shows the marks in the next round
            let _ = tokio::time::timeout(timing.view_wait, registry.reached(rev)).await;
        }
        for (row, rev) in registry.ended() {
            // the row goes last: a leader that exits before that leaves the rest to the next one
            let owner = match row.of() {
                Expirable::Session(session) => Entity::Session(session),
                Expirable::Connection(connection) => Entity::Connection(connection),
            };
            if states.remove(&owner).await.is_ok() && registry.remove_idle_row(&row, rev).await {
                ended += 1;
            }
        }
        if ended > 0 {
            tracing::info!(ended, "sessions and connections without pages have expired");
        }
    }
}

/// Gives pages new tokens, on every node; the leader also rotates the keys that sign them.
async fn renew_tokens(leadership: Leadership, pages: Arc<Pages>, timing: Timing) {
    let ages = Ages { signs: timing.signing_key, kept: timing.outlives_tokens() };
    let mut ticks = every(timing.page_token / TOKEN_CHECKS);
    loop {
        ticks.tick().await;
        pages.tokens.renew(&pages.store).await;
        if !leadership.is_leader() {
            continue;
        }
        match pages.tokens.keyring().maintain(ages).await {
            Ok(true) => tracing::info!(keys = ?pages.tokens.keyring().keys(), "keys of page tokens rotated"),
            Ok(false) => {}
            Err(error) => log_postponed("keys", error),
        }
    }
}

/// Finds jobs that no worker runs although one should, on the leader: regularly, when a worker loses its lease, and when a
/// rollout changes, which may take a lane back.
async fn reconcile_jobs(
    leadership: Leadership,
    jobs: Jobs,
    rollouts: Rollouts,
    timing: Timing,
    unclaimed: Duration,
) {
    let changes = vec![jobs.workers.changes(), rollouts.document_changes()];
    let mut turns = leadership.turns(timing.lease_renew).or_on_change(changes);
    let new = || JobReconciler::new(unclaimed).with_rollouts(rollouts.clone());
    let mut reconciler = new();
    loop {
        if turns.next_or_loss().await.is_none() {
            // another node follows and counts the jobs from now on
            reconciler = new();
            jobs.waiting.send_replace(WaitingJobsList::default());
            continue;
        }
        match reconciler.run_once(&jobs).await {
            Ok(0) => {}
            Ok(repaired) => tracing::info!(repaired, "jobs without a worker enqueued again"),
            Err(error) => log_postponed("jobs", error),
        }
        jobs.waiting.send_replace(reconciler.waiting(jobs.records.now_ms()));
    }
}

/// Sends the pages of a lane that was taken back to other nodes, on every node: at each change of a rollout, and again for
/// pages that could not move then. Never returns.
async fn leave_closed_lanes(rollouts: Rollouts, pages: Arc<Pages>, timing: Timing) {
    let mut changes = rollouts.document_changes();
    let mut ticks = every(timing.lease_ttl);
    let mut sent = 0;
    loop {
        changes.borrow_and_update();
        let revision = pages.store.rollout_revision();
        pages.relocator.leave_closed_lane(revision != sent).await;
        sent = revision;
        tokio::select! {
            _ = changes.changed() => {}
            _ = ticks.tick() => {}
        }
    }
}

/// Counts the pages of this node that have lived through a ping, so that lanes of nodes are not compared by the pages alone
/// that have ended. Never returns.
async fn count_living_pages(pages: Arc<Pages>, pinged: Duration) {
    let mut ticks = every(pinged);
    loop {
        ticks.tick().await;
        pages.ends.count_living(pinged);
    }
}

/// Reads the results of jobs that pages of this node wait for longer than a notification takes.
async fn find_job_results(context: Arc<Context>, timing: Timing) {
    let mut ticks = every(timing.redelivery * 2);
    let mut before = Waited::default();
    loop {
        ticks.tick().await;
        before = command::catch_up_on(&context, &before).await;
    }
}

/// Counts how often the engine reconnected. Ends with the engine.
pub(super) async fn count_reconnects(mut link: watch::Receiver<ConnectionState>, metrics: Arc<Metrics>) {
    let mut last = 1;
    loop {
        if let ConnectionState::Up { generation } = *link.borrow_and_update() {
            metrics.nats_reconnects.inc_by(generation.saturating_sub(last));
            last = generation.max(last);
        }
        if link.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_return_of_the_engine_is_counted_even_one_that_was_not_seen() {
        let metrics = Arc::new(Metrics::new("stable", "dev"));
        let (sender, link) = watch::channel(ConnectionState::Up { generation: 1 });
        let counting = tokio::spawn(count_reconnects(link, metrics.clone()));
        sender.send_replace(ConnectionState::Down { since: std::time::Instant::now() });
        sender.send_replace(ConnectionState::Up { generation: 3 });
        drop(sender);
        counting.await.unwrap();
        assert_eq!(metrics.nats_reconnects.get(), 2);
    }
}
