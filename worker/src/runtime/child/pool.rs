//! The children of a pool together.
//!
//! Owns: which children are ready, their free slots, the users that are assigned to them, and the handlers that they have.
//! Never: processes (`child_slot`), or the decision which child runs work (`choice`).

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pagewire_cluster::code::ErrorCode;
use pagewire_cluster::rollout::LimitShare;
use pagewire_cluster::timing::Timing;
use pagewire_cluster::wire::HandlerError;
use pagewire_cluster::worker::{Affinity, WorkerType};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::choice::Wanted;
use super::http_socket::HttpSocket;
use super::members::{ChoiceRules, Member, Need, PoolState, QueuedWork};
use super::objects::PoolObjects;
use super::options::ChildOptions;
use super::prerequisites::connectable;
use super::private_directory::PrivateDirectory;
use super::restarts::RecentFailures;
use super::scaler::Scaler;
use super::scaling::Load;
use super::session::Session;
use super::status::ChildPoolStatus;
use super::wire::Method;
use crate::handlers::{HandlerInput, Handlers, HandlersBuilder, RunFailure, RunResult, WorkUnit};
use crate::object::Seat;

/// A pool of child processes. Cheap to clone.
#[derive(Clone)]
pub struct ChildPool(Arc<PoolShared>);

/// What the children of a pool share.
pub(super) struct PoolShared {
    pub(super) options: ChildOptions,
    pub(super) timing: Timing,
    pub(super) directory: PrivateDirectory,
    /// The limits of the lane, which narrow those of the pool.
    pub(super) lane_limits: watch::Sender<LimitShare>,
    /// Changes when all children have to be replaced.
    pub(super) generation: watch::Sender<u64>,
    pub(super) stopping: CancellationToken,
    /// Cancelled when the first child is ready or has failed.
    settled: CancellationToken,
    pub(super) tasks: TaskTracker,
    state: Mutex<PoolState>,
    /// A child, a slot or a reservation has become free.
    pub(super) changed: Notify,
    handlers: watch::Sender<Option<Handlers>>,
    /// The places with a child that serves HTTP, in order.
    pub(super) places: watch::Sender<Vec<u32>>,
    numbers: AtomicU64,
    pub(super) tickets: AtomicU64,
}

/// What a child is, for its pool.
pub(super) struct NewMember {
    pub(super) session: Arc<Session>,
    pub(super) kind: WorkerType,
    pub(super) place: u32,
    pub(super) slots: u32,
    pub(super) methods: BTreeMap<String, Method>,
    pub(super) http: Option<Arc<HttpSocket>>,
    pub(super) pid: u32,
    pub(super) sdk: String,
}

/// Slots of a child that are in use until this is dropped.
pub(super) struct Credit {
    pool: Arc<PoolShared>,
    child: u64,
    slots: u32,
    user: Option<Arc<str>>,
}

impl Credit {
    pub(super) fn new(pool: Arc<PoolShared>, child: u64, slots: u32, user: Option<Arc<str>>) -> Self {
        Self { pool, child, slots, user }
    }

    pub(super) fn child(&self) -> u64 {
        self.child
    }

    /// Gives the child no more work.
    pub(super) fn close(&self) {
        self.pool.close(self.child);
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.pool.lock().give_back(self.child, self.slots, self.user.as_ref());
        self.pool.changed.notify_waiters();
    }
}

/// Work that waits for a child.
pub(super) struct WaitingPiece<'a> {
    pub(super) pool: &'a PoolShared,
    pub(super) ticket: u64,
}

impl Drop for WaitingPiece<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.pool.lock();
            state.waiting.remove(&self.ticket);
            state.unreserve(self.ticket);
        }
        self.pool.changed.notify_waiters();
    }
}

impl ChildPool {
    /// Starts the children of a pool. The pool has no handlers until the first one is ready.
    ///
    /// # Errors
    ///
    /// When the directory for the sockets cannot be created.
    pub fn start(options: ChildOptions, timing: Timing) -> io::Result<Self> {
        let pool = Arc::new(PoolShared {
            directory: PrivateDirectory::create("")?,
            options,
            timing,
            lane_limits: watch::Sender::default(),
            generation: watch::Sender::new(0),
            stopping: CancellationToken::new(),
            settled: CancellationToken::new(),
            tasks: TaskTracker::new(),
            state: Mutex::default(),
            changed: Notify::new(),
            handlers: watch::Sender::new(None),
            places: watch::Sender::default(),
            numbers: AtomicU64::new(0),
            tickets: AtomicU64::new(0),
        });
        for (kind, limits) in &pool.options.children {
            pool.set_growing(*kind, limits.min < limits.max);
            pool.tasks.spawn(Scaler::new(pool.clone(), *kind, *limits).run());
        }
        pool.tasks.close();
        Ok(Self(pool))
    }

    pub(super) fn shared(&self) -> &Arc<PoolShared> {
        &self.0
    }

    /// Returns the handlers of the pool, which change when a program with other handlers is loaded. `None` until the first
    /// child is ready.
    pub fn handlers(&self) -> watch::Receiver<Option<Handlers>> {
        self.0.handlers.subscribe()
    }

    /// Returns whether children fail again and again.
    pub fn is_failing(&self) -> bool {
        self.0.is_failing()
    }

    /// Resolves when the first child is ready, or has failed.
    pub async fn settled(&self) {
        self.0.settled.cancelled().await;
    }

    /// Replaces all children, each by a new one that is ready before the old one drains.
    pub fn reload(&self) {
        // the failures are those of the program before it
        self.0.lock().failures = RecentFailures::default();
        self.0.generation.send_modify(|generation| *generation += 1);
    }

    /// Returns what the pool does now.
    pub fn status(&self) -> ChildPoolStatus {
        self.0.lock().status()
    }

    /// Ends all children: they finish what they run, for as long as a drain takes.
    pub async fn stop(&self) {
        self.0.stopping.cancel();
        self.0.tasks.wait().await;
        // the handlers refer to the pool
        self.0.handlers.send_replace(None);
    }
}

impl PoolShared {
    /// Each change leaves the state consistent, so a poisoned lock is still usable.
    pub(super) fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of the next child, from 1.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a child that is ready.
    pub(super) fn add(self: &Arc<Self>, new: NewMember) {
        let NewMember { session, kind, place, slots, methods, http, pid, sdk } = new;
        let methods = Arc::new(methods);
        let changed = {
            let mut state = self.lock();
            let since = Instant::now();
            let member = Member {
                session,
                kind,
                place,
                slots,
                used: 0,
                users: 0,
                methods,
                http,
                idle_since: Some(since),
                closed: false,
                reserved: None,
                pid,
                sdk,
                since,
                objects: HashMap::new(),
            };
            let changed = state.methods != member.methods || self.handlers.borrow().is_none();
            state.methods = member.methods.clone();
            state.is_outdated = false;
            state.members.push(member);
            self.publish_places(&state);
            changed.then(|| state.methods.clone())
        };
        if let Some(methods) = changed {
            self.handlers.send_replace(Some(self.handlers_of(&methods)));
        }
        self.settled.cancel();
        self.changed.notify_waiters();
    }

    /// Returns what the children of one kind do; `children` is the number of their places.
    pub(super) fn load(&self, kind: WorkerType, children: usize, max_users: Option<usize>) -> Load {
        self.lock().load(kind, children, max_users)
    }

    /// Returns whether children fail again and again.
    pub(super) fn is_failing(&self) -> bool {
        self.lock().failures.are_reported(Instant::now())
    }

    /// Notes whether new users may wait for another child of a kind.
    pub(super) fn set_growing(&self, kind: WorkerType, is_growing: bool) {
        if kind.takes(Affinity::Assigned) && self.lock().is_growing != is_growing {
            self.lock().is_growing = is_growing;
            self.changed.notify_waiters();
        }
    }

    /// Gives a child no more work.
    pub(super) fn close(&self, child: u64) {
        let mut state = self.lock();
        if let Some(member) = state.member(child) {
            member.closed = true;
        }
        self.publish_places(&state);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Removes a child that is gone.
    pub(super) fn remove(&self, child: u64) {
        let mut state = self.lock();
        let lost = state.remove(child);
        self.publish_places(&state);
        drop(state);
        lost.iter().for_each(Seat::died);
        self.changed.notify_waiters();
    }

    /// Records that a child has ended by itself, or was not ready in time. `is_replaced`: the one before it goes on, so
    /// the pool does its work all the same.
    pub(super) fn record_failure(&self, reason: &str, is_replaced: bool) {
        let mut state = self.lock();
        if !is_replaced {
            state.failures.record(Instant::now());
        }
        state.is_outdated = is_replaced;
        state.restarts += 1;
        state.last_error = Some(reason.to_owned());
        self.settled.cancel();
    }

    /// Waits for what the children need before they start.
    pub(super) async fn prerequisites_met(&self) {
        let pool = &self.options.pool;
        for need in &self.options.needs {
            connectable(need, &self.timing, |reason| {
                tracing::warn!(pool, "{reason}");
                self.lock().last_error = Some(reason);
                self.settled.cancel();
            })
            .await;
        }
    }

    fn handlers_of(self: &Arc<Self>, methods: &BTreeMap<String, Method>) -> Handlers {
        let add = |builder: HandlersBuilder, method: &Method| {
            let (pool, name) = (self.clone(), Arc::<str>::from(method.name.as_str()));
            builder.runtime(&method.name, method.options(), move |input| {
                let (pool, name) = (pool.clone(), name.clone());
                async move { pool.run(&name, input).await }
            })
        };
        methods.values().fold(HandlersBuilder::default(), add).build()
    }

    /// Runs a handler in a child.
    async fn run(self: Arc<Self>, method: &str, mut input: HandlerInput) -> RunResult {
        let own = self.lock().methods.get(method).and_then(|method| method.timeout_ms);
        let within = input.time_limit(own.map(Duration::from_millis), &self.timing);
        let (began, mut stop) = (Instant::now(), input.stop.clone());
        let object = input.object.clone();
        let taken = tokio::select! {
            // in this order, so that work that need not wait sets no timer
            biased;
            taken = self.take(method, &input) => taken,
            _ = stop.requested() => return Err(RunFailure::Stopped),
            () = tokio::time::sleep(within) => {
                let message = format!("no child of pool {} was free for {method} in time", self.options.pool);
                return Err(RunFailure::Failed(HandlerError::new(ErrorCode::Timeout, message)));
            }
        };
        let Some((session, credit)) = taken else { return Err(RunFailure::NoObject) };
        if input.unit == WorkUnit::Call {
            input.within = Some(within.saturating_sub(began.elapsed()));
        }
        let (remaining, child) = (input.within.unwrap_or(within), session.number);
        let result = session.run(method, input, remaining, credit).await;
        if let Some(work) = object {
            PoolObjects(&self).step_ended(child, &work, result.is_ok());
        }
        result
    }

    /// Waits for a child that can run the work, and takes a slot of it. Returns `None` when the child of an object is gone.
    async fn take(self: &Arc<Self>, method: &str, input: &HandlerInput) -> Option<(Arc<Session>, Credit)> {
        if let Some(child) = input.object.as_ref().and_then(|work| work.seat.executor()) {
            return PoolObjects(self).take_seat(child).await;
        }
        // a browser without a user is assigned like a user
        let connection = input.connection.filter(|_| input.user.is_none()).map(|key| format!("\0{key}"));
        let user = input.user.as_deref().or(connection.as_deref());
        let wanted = Wanted {
            user,
            affinity: if user.is_some() { input.affinity } else { Affinity::Free },
            alone: input.alone,
            stays: input.object.is_some(),
        };
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        if let Some(taken) = self.try_take(method, wanted, ticket) {
            return Some(taken);
        }
        let waiting = QueuedWork { affinity: wanted.affinity, since: Instant::now() };
        self.lock().waiting.insert(ticket, waiting);
        let _waiting = WaitingPiece { pool: self, ticket };
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(taken) = self.try_take(method, wanted, ticket) {
                return Some(taken);
            }
            changed.await;
        }
    }

    pub(super) fn choice_rules(&self) -> ChoiceRules {
        let mut limits = self.options.children.iter().filter(|(kind, _)| kind.takes(Affinity::Assigned));
        let max_users = limits.find_map(|(_, limits)| limits.max_users);
        ChoiceRules { affinity: self.options.affinity, max_users }
    }

    fn try_take(
        self: &Arc<Self>,
        method: &str,
        wanted: Wanted<'_>,
        ticket: u64,
    ) -> Option<(Arc<Session>, Credit)> {
        let (session, slots, user) =
            self.lock().take(Need::Handler(method), wanted, self.choice_rules(), ticket)?;
        let child = session.number;
        Some((session, Credit::new(self.clone(), child, slots, user)))
    }
}
