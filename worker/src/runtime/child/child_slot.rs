//! One place of a pool, in which a child follows another one.
//!
//! Owns: starting, watching and ending the child of this place. Never: which work it runs.
//!
//! A child is starting until its `ready` message, then ready, then draining, then gone. A child that is replaced although
//! it works drains only when the next one is ready: while the next one does not start, it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagewire_cluster::worker::WorkerType;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::child_event::ChildEvent;
use super::frame_reader::FrameReader;
use super::frame_writer::FrameWriter;
use super::handshake::{LAST_LINES, Started, explained, start};
use super::http_socket::HttpSocket;
use super::members::LostChildren;
use super::objects::PoolObjects;
use super::pool::{NewMember, PoolShared};
use super::process::{Process, ending, resident_memory};
use super::recycling::{RecycleLimits, Usage};
use super::restarts::Restarts;
use super::session::{Session, SessionEnd};
use super::wire::WireError;

/// A place of a pool.
pub(super) struct ChildSlot {
    pool: Arc<PoolShared>,
    kind: WorkerType,
    /// The number of the place.
    place: u32,
    /// Cancelled when the place is not needed any more.
    stopping: CancellationToken,
    /// Shows the number of the child that serves.
    current: Arc<AtomicU64>,
    restarts: Restarts,
}

/// Why a place needs another child.
enum Replacement {
    /// The child has ended by itself, or is ended because it does not do its work.
    Failed(String),
    /// The child has reached a limit.
    Recycled(&'static str),
}

/// A child that runs in a task of its own.
struct RunningChild {
    retire: CancellationToken,
    replacement: oneshot::Receiver<Replacement>,
    since: Instant,
    task: JoinHandle<()>,
}

impl ChildSlot {
    pub(super) fn new(
        pool: Arc<PoolShared>,
        kind: WorkerType,
        place: u32,
        stopping: CancellationToken,
        current: Arc<AtomicU64>,
    ) -> Self {
        Self { pool, kind, place, stopping, current, restarts: Restarts::default() }
    }

    /// Runs one child after the other, once there is what they need, until the place is not needed any more.
    pub(super) async fn run(self) {
        let stopping = self.stopping.clone();
        tokio::select! {
            () = self.pool.prerequisites_met() => self.run_children().await,
            () = stopping.cancelled() => {}
        }
    }

    async fn run_children(mut self) {
        let stopping = self.stopping.clone();
        let mut generation = self.pool.generation.subscribe();
        let mut old: Option<RunningChild> = None;
        loop {
            generation.mark_unchanged();
            let started = tokio::select! {
                started = self.start() => started,
                Ok(()) = generation.changed() => {
                    // what starts now is not the current program any more
                    self.restarts = Restarts::default();
                    continue;
                }
                () = stopping.cancelled() => break,
            };
            let mut child = match started {
                Ok(child) => child,
                Err(reason) => {
                    let is_replaced = old.as_ref().is_some_and(|old| !old.task.is_finished());
                    self.record_failure(&reason, is_replaced);
                    let pause = self.restarts.failed(Duration::ZERO);
                    // there is no hurry while the one before it does the work
                    let pause = if is_replaced { Restarts::LONGEST } else { pause };
                    match self.pause(pause, &mut generation).await {
                        true => continue,
                        false => break,
                    }
                }
            };
            if let Some(old) = old.take() {
                old.retire.cancel();
            }
            let replacement = tokio::select! {
                replacement = &mut child.replacement => replacement.ok(),
                Ok(()) = generation.changed() => None,
                () = stopping.cancelled() => {
                    old = Some(child);
                    break;
                }
            };
            match replacement {
                Some(Replacement::Failed(reason)) => {
                    self.record_failure(&reason, false);
                    let pause = self.restarts.failed(child.since.elapsed());
                    if !self.pause(pause, &mut generation).await {
                        break;
                    }
                }
                recycled => {
                    let why = if let Some(Replacement::Recycled(why)) = recycled { why } else { "reload" };
                    tracing::info!(pool = self.pool.options.pool, why, "a child is replaced");
                    old = Some(child);
                }
            }
        }
        if let Some(old) = old {
            old.retire.cancel();
        }
    }

    /// Records why there is no next child. `is_replaced`: the one before it goes on until there is.
    fn record_failure(&self, reason: &str, is_replaced: bool) {
        let pool = &self.pool.options.pool;
        // the lines are in the log already
        let why = reason.split_once(LAST_LINES).map_or(reason, |(why, _)| why);
        if is_replaced {
            tracing::error!(pool, "the new program does not start, the one before it goes on: {why}");
        } else {
            tracing::error!(pool, "a child has failed: {why}");
        }
        self.pool.record_failure(reason, is_replaced);
    }

    /// Waits before the next start, until a reload. Returns `false` when the place is not needed any more.
    async fn pause(&mut self, pause: Duration, generation: &mut watch::Receiver<u64>) -> bool {
        tracing::debug!(pool = self.pool.options.pool, ?pause, "a child is going to start");
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            Ok(()) = generation.changed() => {
                self.restarts = Restarts::default();
                true
            }
            () = self.stopping.cancelled() => false,
        }
    }

    async fn start(&self) -> Result<RunningChild, String> {
        let PoolShared { options, timing, directory, .. } = &*self.pool;
        let number = self.pool.next_number();
        let began = Instant::now();
        let started = start(options, timing, directory, number).await?;
        let Started { process, reader, writer, pid, sdk, slots, methods, http } = started;
        let (pool, took_ms) = (&options.pool, began.elapsed().as_millis() as u64);
        tracing::info!(pool, child = number, pid, sdk, methods = methods.len(), took_ms, "a child is ready");
        let log = process.log.clone();
        let applications = options.applications.clone().filter(|_| http.is_some());
        let writer = FrameWriter::new(writer);
        let session = Arc::new(Session::new(number, pool, writer, log, *timing, applications));
        let (kind, place, session_of, http_of) = (self.kind, self.place, session.clone(), http.clone());
        let member = NewMember { session: session_of, kind, place, slots, methods, http: http_of, pid, sdk };
        self.current.store(number, Ordering::Relaxed);
        self.pool.add(member);
        let (report, replacement) = oneshot::channel();
        let (retire, since) = (CancellationToken::new(), Instant::now());
        let supervised = SupervisedChild {
            pool: self.pool.clone(),
            session,
            http,
            process,
            reader,
            pid,
            since,
            limits: options.recycle.jittered(rand_share(number)),
            report: Some(report),
        };
        let task = self.pool.tasks.spawn(supervised.run(retire.clone()));
        Ok(RunningChild { retire, replacement, since, task })
    }
}

/// Returns a number from 0 to 1 that differs from child to child.
fn rand_share(number: u64) -> f64 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1u64 << 24) as f64
}

/// A child with its process, until it is gone.
struct SupervisedChild {
    pool: Arc<PoolShared>,
    session: Arc<Session>,
    /// Where it serves HTTP.
    http: Option<Arc<HttpSocket>>,
    process: Process,
    reader: FrameReader,
    pid: u32,
    since: Instant,
    limits: RecycleLimits,
    /// Tells the place once that it needs another child.
    report: Option<oneshot::Sender<Replacement>>,
}

impl SupervisedChild {
    async fn run(mut self, retire: CancellationToken) {
        let event = self.next_event(&retire).await;
        let number = self.session.number;
        if let Some(reason) = event.loss() {
            let lost = &mut self.pool.lock().lost;
            *lost = LostChildren { count: lost.count + 1, reason: reason.to_owned() };
        }
        self.pool.close(number);
        match event {
            ChildEvent::Exited(how) => self.died(how).await,
            ChildEvent::Disconnected(read) => {
                let reason = read.err().map(|WireError(reason)| format!("it breaks the protocol: {reason}"));
                self.disconnected(reason).await;
            }
            ChildEvent::Stuck(why) => {
                let reason = explained(&why, &self.process.log);
                self.request_replacement(Replacement::Failed(reason));
                self.end_within(self.pool.timing.child_stop, SessionEnd::Replaced).await;
            }
            ChildEvent::Retired => {
                self.objects_left().await;
                self.requests_ended().await;
                self.end_within(self.pool.timing.drain, SessionEnd::Replaced).await;
            }
        }
        self.pool.remove(number);
        tracing::debug!(pool = self.pool.options.pool, child = number, "a child is gone");
    }

    fn request_replacement(&mut self, replacement: Replacement) {
        if let Some(report) = self.report.take() {
            // an error means that the place has begun with the next child already
            let _ = report.send(replacement);
        }
    }

    /// Waits for the end of the ready state.
    async fn next_event(&mut self, retire: &CancellationToken) -> ChildEvent {
        let timing = self.pool.timing;
        let mut ticks = tokio::time::interval(timing.child_watch);
        let mut pings = tokio::time::interval(timing.child_ping);
        let (session, mut shrunk) = (self.session.clone(), None);
        let mut reading = std::pin::pin!(session.read(&mut self.reader));
        let mut writing = std::pin::pin!(async {
            session.write().await;
            // the end of the connection shows at its reading half
            std::future::pending::<()>().await;
        });
        loop {
            tokio::select! {
                read = &mut reading => return ChildEvent::Disconnected(read),
                () = &mut writing => {}
                status = self.process.wait() => {
                    // what it sent before its end is still in the socket
                    let _ = tokio::time::timeout(timing.child_stop, &mut reading).await;
                    return ChildEvent::Exited(ending(status));
                }
                () = retire.cancelled() => return ChildEvent::Retired,
                _ = pings.tick() => {
                    if !session.ping(self.http.as_ref().is_some_and(|http| http.is_busy())) {
                        return ChildEvent::Stuck("it does not answer pings".to_owned());
                    }
                }
                _ = ticks.tick() => {
                    if let Some(method) = session.overdue() {
                        return ChildEvent::Stuck(format!("{method} does not stop after its time is over"));
                    }
                    if self.http.as_ref().is_some_and(|http| http.is_refusing()) {
                        return ChildEvent::Stuck("it does not accept connections".to_owned());
                    }
                    let work = session.done() + self.http.as_ref().map_or(0, |http| http.done());
                    let age = self.since.elapsed();
                    let rss = if self.limits.watch_memory() { resident_memory(self.pid) } else { 0 };
                    let is_large = self.limits.objects_rss.is_some_and(|most| rss > most);
                    // memory is given back some time after objects have left
                    if is_large && shrunk.is_none_or(|at: Instant| at.elapsed() >= 20 * timing.child_watch) {
                        shrunk = Some(Instant::now());
                        PoolObjects(&self.pool).shrink(self.session.number);
                    }
                    let reached = self.limits.reached(Usage { work, rss, age });
                    if let Some(limit) = reached
                        && let Some(report) = self.report.take()
                    {
                        // an error means that the place has begun with the next child already
                        let _ = report.send(Replacement::Recycled(limit));
                    }
                }
            }
        }
    }

    async fn died(&mut self, how: String) {
        self.session.end_all(SessionEnd::Died);
        self.process.kill().await;
        let reason = explained(&how, &self.process.log);
        self.request_replacement(Replacement::Failed(reason));
    }

    /// The process of a closed connection is about to exit, or is of no use any more.
    async fn disconnected(&mut self, reason: Option<String>) {
        let exited = tokio::time::timeout(self.pool.timing.child_stop, self.process.wait()).await;
        let how = match (reason, exited) {
            (Some(reason), _) => reason,
            (None, Ok(status)) => ending(status),
            (None, Err(_)) => "it has closed its socket".to_owned(),
        };
        self.died(how).await;
    }

    /// Waits until the objects of resident pages have left, or have taken too long.
    async fn objects_left(&mut self) {
        let (session, pool) = (self.session.clone(), self.pool.clone());
        let objects = PoolObjects(&pool);
        tokio::select! {
            () = objects.left(session.number, pool.timing.drain) => {}
            read = session.read(&mut self.reader) => drop(read),
            _ = self.process.wait() => {}
            () = async { session.write().await; std::future::pending().await } => {}
        }
    }

    /// Waits until the requests of HTTP have ended, or have taken too long. The child does not know of its end before, so
    /// it answers them as always.
    async fn requests_ended(&mut self) {
        let (Some(http), Some(limits)) = (self.http.clone(), self.pool.options.http) else { return };
        let (session, pool) = (self.session.clone(), self.pool.clone());
        let over = async {
            tokio::select! {
                () = tokio::time::sleep(limits.drain) => {}
                () = pool.stopping.cancelled() => tokio::time::sleep(pool.timing.drain).await,
            }
        };
        tokio::select! {
            () = http.idle() => {}
            () = over => {}
            read = session.read(&mut self.reader) => drop(read),
            _ = self.process.wait() => {}
            () = async { session.write().await; std::future::pending().await } => {}
        }
    }

    /// Lets the work end for a time, then ends the process: by request, by SIGTERM, by SIGKILL.
    async fn end_within(&mut self, within: Duration, remaining: SessionEnd) {
        let stop = self.pool.timing.child_stop;
        let session = self.session.clone();
        session.drain(within);
        let ended = async {
            tokio::select! {
                read = session.read(&mut self.reader) => drop(read),
                () = session.idle() => {}
                () = session.write() => std::future::pending().await,
            }
        };
        // an error means that some work has not ended
        let _ = tokio::time::timeout(within, ended).await;
        session.end_all(remaining);
        if tokio::time::timeout(stop, self.process.wait()).await.is_ok() {
            return;
        }
        self.process.terminate().await;
        if tokio::time::timeout(stop, self.process.wait()).await.is_err() {
            self.process.kill().await;
        }
    }
}
