//! The heartbeat of a socket: when it is pinged, and when it is closed because of silence, its token or a drain.
//!
//! Owns: one timer per socket, the signal to drain, and the action that follows ([`HeartbeatAction`]). Never: the socket
//! itself. Both futures are part of the socket's task, so a heartbeat has no allocation.

mod policy;

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Context;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

pub(super) use self::policy::CloseCause;
use self::policy::{LivenessDecision, LivenessPolicy, NEVER, Tick};

/// An action that a socket must take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeartbeatAction {
    /// Send a ping.
    Ping,
    /// Close the socket.
    Close(CloseCause),
}

/// What the heartbeats of a node have in common: their rhythm and the drain.
pub(super) struct Heartbeats {
    start: Instant,
    tick: Duration,
    policy: LivenessPolicy,
    /// Time over which the sockets close, as soon as the node drains.
    spread: OnceLock<Duration>,
    draining: Notify,
}

impl Heartbeats {
    /// A socket is pinged every `ping` and counts as silent after `ping + timeout` without a byte.
    pub(super) fn new(ping: Duration, timeout: Duration) -> Self {
        let tick = (ping.min(timeout) / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let ticks = |time: Duration| (time.as_nanos().div_ceil(tick.as_nanos())) as Tick;
        // plus one: a tick is rounded down, and no socket may be closed early
        let policy = LivenessPolicy { ping: ticks(ping), silence: ticks(ping + timeout) + 1 };
        Self { start: Instant::now(), tick, policy, spread: OnceLock::new(), draining: Notify::new() }
    }

    /// Creates the timer of a new socket, which fires when the socket is pinged for the first time.
    pub(super) fn timer(&self) -> Sleep {
        tokio::time::sleep_until(self.instant(self.now().saturating_add(self.policy.ping)))
    }

    /// Resolves when the node drains.
    pub(super) fn draining(&self) -> impl Future<Output = ()> + Send {
        self.draining.notified()
    }

    /// Closes every socket with [`CloseCause::Drain`], each after a random part of `spread`.
    pub(super) fn drain(&self, spread: Duration) {
        // set once, because a node drains once
        let _ = self.spread.set(spread);
        self.draining.notify_waiters();
    }

    fn now(&self) -> Tick {
        self.tick_at(self.start.elapsed())
    }

    fn tick_at(&self, since_start: Duration) -> Tick {
        Tick::try_from(since_start.as_nanos() / self.tick.as_nanos()).unwrap_or(NEVER)
    }

    fn instant(&self, tick: Tick) -> Instant {
        self.start + self.tick * tick
    }
}

/// The future of [`Heartbeats::draining`].
type Draining<'node> = Pin<&'node mut (dyn Future<Output = ()> + Send + 'node)>;

/// The heartbeat of one socket.
pub(super) struct Heartbeat<'node> {
    all: &'node Heartbeats,
    timer: Pin<&'node mut Sleep>,
    draining: Draining<'node>,
    /// Whether both futures have the task's waker.
    armed: bool,
    drains: bool,
    last_activity: Tick,
    pinged: Tick,
    expires: Tick,
}

impl<'node> Heartbeat<'node> {
    /// Creates the heartbeat of a new socket, with its last activity now. The futures are those of
    /// [`Heartbeats::timer`] and [`Heartbeats::draining`].
    pub(super) fn new(
        all: &'node Heartbeats,
        timer: Pin<&'node mut Sleep>,
        draining: Draining<'node>,
    ) -> Self {
        let now = all.now();
        Self {
            all,
            timer,
            draining,
            armed: false,
            drains: false,
            last_activity: now,
            pinged: now,
            expires: NEVER,
        }
    }

    /// Returns the action that is due, if there is one; otherwise the task of `cx` is woken when there is.
    pub(super) fn poll_action(&mut self, cx: &mut Context<'_>) -> Option<HeartbeatAction> {
        if !self.drains
            && let Some(spread) = self.all.spread.get()
        {
            self.drains = true;
            self.reset(Instant::now() + spread.mul_f64(rand::random()));
        }
        while self.is_due(cx) {
            if self.drains {
                return Some(HeartbeatAction::Close(CloseCause::Drain));
            }
            let now = self.all.now();
            match self.all.policy.evaluate(now, self.last_activity, self.pinged, self.expires) {
                LivenessDecision::Close(cause) => return Some(HeartbeatAction::Close(cause)),
                LivenessDecision::Ping { again } => {
                    self.pinged = now;
                    self.check_at(again);
                    return Some(HeartbeatAction::Ping);
                }
                LivenessDecision::Wait { until } => self.check_at(until),
            }
        }
        None
    }

    /// Records that bytes have arrived from the client.
    pub(super) fn record_activity(&mut self) {
        self.last_activity = self.all.now();
    }

    /// Sets how long the socket's token is valid, from now.
    pub(super) fn expires(&mut self, valid: Duration) {
        // rounded up: a valid token must not count as expired
        self.expires = self.all.tick_at(self.all.start.elapsed().saturating_add(valid)).saturating_add(1);
        // a later check sees a later expiry
        if !self.drains && self.expires != NEVER && self.all.instant(self.expires) < self.timer.deadline() {
            self.check_at(self.expires);
        }
    }

    fn check_at(&mut self, tick: Tick) {
        self.reset(self.all.instant(tick));
    }

    fn reset(&mut self, at: Instant) {
        self.timer.as_mut().reset(at);
        self.armed = false;
    }

    /// Returns whether the timer has fired. The futures are polled once per deadline, because a socket is polled with
    /// each message, the waker of a task stays the same, and a poll of `draining` takes a lock that all sockets share.
    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        if self.armed {
            return self.timer.is_elapsed();
        }
        self.armed = true;
        if self.draining.as_mut().poll(cx).is_ready() && !self.drains {
            // the drain began after it was looked for: look again
            cx.waker().wake_by_ref();
        }
        self.timer.as_mut().poll(cx).is_ready()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::{Poll, Waker};

    use super::*;

    fn heartbeats() -> Heartbeats {
        Heartbeats::new(Duration::from_secs(25), Duration::from_secs(10))
    }

    async fn next(heartbeat: &mut Heartbeat<'_>) -> HeartbeatAction {
        poll_fn(|cx| heartbeat.poll_action(cx).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Answers pings until the socket is closed.
    async fn answer(heartbeat: &mut Heartbeat<'_>) -> HeartbeatAction {
        loop {
            match next(heartbeat).await {
                HeartbeatAction::Ping => heartbeat.record_activity(),
                close => return close,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_socket_is_pinged_and_then_closed() {
        let all = heartbeats();
        let timer = pin!(all.timer());
        let draining = pin!(all.draining());
        let mut heartbeat = Heartbeat::new(&all, timer, draining);
        let start = Instant::now();
        assert_eq!(next(&mut heartbeat).await, HeartbeatAction::Ping);
        assert!((25..=26).contains(&start.elapsed().as_secs()));
        heartbeat.record_activity();
        assert_eq!(next(&mut heartbeat).await, HeartbeatAction::Ping);
        assert_eq!(next(&mut heartbeat).await, HeartbeatAction::Close(CloseCause::Silent));
        assert!((25 + 35..=25 + 38).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_ends_is_noticed_within_a_second_whenever_it_came() {
        for (waits, valid) in [(0, 3), (0, 0), (7, 12), (24, 2), (40, 3), (3, 100), (26, 24), (30, 26)] {
            let all = heartbeats();
            let timer = pin!(all.timer());
            let draining = pin!(all.draining());
            let mut heartbeat = Heartbeat::new(&all, timer, draining);
            let start = Instant::now();
            let (waits, valid) = (Duration::from_secs(waits), Duration::from_secs(valid));
            let early = tokio::time::timeout(waits, answer(&mut heartbeat)).await;
            assert!(early.is_err());
            heartbeat.expires(valid);
            assert_eq!(answer(&mut heartbeat).await, HeartbeatAction::Close(CloseCause::Expired));
            let (end, at) = (waits + valid, start.elapsed());
            assert!(at >= end && at <= end + Duration::from_millis(1100), "{waits:?} {valid:?}: {at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_renewed_in_time_ends_nothing() {
        let all = heartbeats();
        let timer = pin!(all.timer());
        let draining = pin!(all.draining());
        let mut heartbeat = Heartbeat::new(&all, timer, draining);
        heartbeat.expires(Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(2)).await;
        heartbeat.expires(Duration::from_secs(3600));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(heartbeat.poll_action(&mut Context::from_waker(Waker::noop())), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_closes_every_socket_within_its_spread() {
        let all = heartbeats();
        let spread = Duration::from_secs(4);
        let socket = async || {
            let timer = pin!(all.timer());
            let draining = pin!(all.draining());
            let mut heartbeat = Heartbeat::new(&all, timer, draining);
            (answer(&mut heartbeat).await, Instant::now())
        };
        let drain = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            all.drain(spread);
            Instant::now()
        };
        let sockets = futures_util::future::join_all((0..20).map(|_| socket()));
        let (ends, began) = tokio::join!(sockets, drain);
        for (action, at) in &ends {
            assert_eq!(*action, HeartbeatAction::Close(CloseCause::Drain));
            assert!(*at >= began && *at <= began + spread + Duration::from_millis(1));
        }
        assert!(ends.iter().any(|(_, at)| *at != ends[0].1), "not all at once");
    }
}
