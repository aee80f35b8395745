//! Heartbeats of all sockets: pings, silence and expired tokens, driven by one timer wheel per node.
//!
//! Owns: when a socket is checked, and the action that follows ([`HeartbeatAction`]). Never: the socket itself. A
//! socket costs one [`Heartbeat`] and two words in a slot of the wheel; its task sleeps until something happens.

mod policy;
mod timer_wheel;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

pub(super) use self::policy::CloseCause;
use self::policy::{LivenessDecision, LivenessPolicy, NEVER, Tick};
use self::timer_wheel::Wheel;

/// An action that a socket must take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeartbeatAction {
    /// Send a ping.
    Ping,
    /// Close the socket.
    Close(CloseCause),
}

/// The bit of [`HeartbeatAction::Ping`]; the lower bits are close causes.
const PING: u8 = 0b1000_0000;

impl HeartbeatAction {
    const fn bit(self) -> u8 {
        match self {
            Self::Ping => PING,
            Self::Close(cause) => 1 << cause as u8,
        }
    }

    /// Returns the most urgent pending action: a socket that must close needs no ping.
    fn most_urgent(bits: u8) -> Option<Self> {
        let closes = [CloseCause::Drain, CloseCause::Silent, CloseCause::Expired].map(Self::Close);
        closes.into_iter().chain([Self::Ping]).find(|order| bits & order.bit() != 0)
    }
}

/// The state that one socket shares with the timer wheel.
pub(super) struct Heartbeat {
    last_activity: AtomicU32,
    expires: AtomicU32,
    orders: AtomicU8,
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl Heartbeat {
    /// Returns the pending action, if there is one; otherwise the task of `cx` is woken when there is.
    pub(super) fn poll_order(&self, cx: &Context<'_>) -> Option<HeartbeatAction> {
        self.waker.register(cx.waker());
        match self.orders.load(Ordering::Relaxed) {
            0 => None,
            _ => HeartbeatAction::most_urgent(self.orders.swap(0, Ordering::AcqRel)),
        }
    }

    /// Marks the socket as closed. The wheel removes it at its next check. Until then it keeps the state but not the
    /// waker, which would keep all memory of the socket's task.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(self.waker.take());
    }

    fn order(&self, order: HeartbeatAction) {
        self.orders.fetch_or(order.bit(), Ordering::AcqRel);
        self.waker.wake();
    }
}

struct MonitoredSocket {
    heartbeat: Arc<Heartbeat>,
    /// When the socket was pinged last. `None`: this entry only checks whether the token has expired.
    pinged: Option<Tick>,
}

/// Checks the heartbeats of all sockets of a node.
pub(super) struct HeartbeatMonitor {
    start: Instant,
    tick: Duration,
    policy: LivenessPolicy,
    wheel: Mutex<Wheel<MonitoredSocket>>,
}

impl HeartbeatMonitor {
    /// A monitor without sockets. A socket is pinged every `ping` and counts as silent after `ping + timeout` without
    /// a byte.
    pub(super) fn new(ping: Duration, timeout: Duration) -> Self {
        let tick = (ping.min(timeout) / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let ticks = |time: Duration| (time.as_nanos().div_ceil(tick.as_nanos())) as Tick;
        // plus one: a tick is rounded down, and no socket may be closed early
        let policy = LivenessPolicy { ping: ticks(ping), silence: ticks(ping + timeout) + 1 };
        let wheel = Mutex::new(Wheel::new(policy.silence as usize + 1));
        Self { start: Instant::now(), tick, policy, wheel }
    }

    /// Registers a new socket, with its last activity now.
    pub(super) fn register(&self) -> Arc<Heartbeat> {
        let now = self.now();
        let heartbeat = Arc::new(Heartbeat {
            last_activity: AtomicU32::new(now),
            expires: AtomicU32::new(NEVER),
            orders: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let watched = MonitoredSocket { heartbeat: heartbeat.clone(), pinged: Some(now) };
        self.lock().add(self.policy.ping as usize, watched);
        heartbeat
    }

    /// Records that bytes have arrived from the client.
    pub(super) fn record_activity(&self, heartbeat: &Heartbeat) {
        heartbeat.last_activity.store(self.now(), Ordering::Relaxed);
    }

    /// Sets how long the socket's token is valid, from now.
    pub(super) fn expires(&self, heartbeat: &Arc<Heartbeat>, valid: Duration) {
        // rounded up: a valid token must not count as expired
        let at = self.tick_at(self.start.elapsed().saturating_add(valid)).saturating_add(1);
        if heartbeat.expires.swap(at, Ordering::Relaxed) == at {
            return;
        }
        // a later expiry is noticed by the socket's next regular check, which is at most one ping interval away
        if at.saturating_sub(self.now()) <= self.policy.ping {
            let mut wheel = self.lock();
            let delay = (at as usize).saturating_sub(wheel.now());
            wheel.add(delay, MonitoredSocket { heartbeat: heartbeat.clone(), pinged: None });
        }
    }

    /// Orders every socket to close with [`CloseCause::Drain`], in batches of `batch` sockets with a `pause` after
    /// each. Returns when all have received the order.
    pub(super) async fn drain(&self, batch: usize, pause: Duration) {
        let sockets = |watched: &&MonitoredSocket| watched.pinged.is_some();
        let sockets: Vec<Arc<Heartbeat>> =
            self.lock().iter().filter(sockets).map(|watched| watched.heartbeat.clone()).collect();
        for heartbeats in sockets.chunks(batch) {
            for heartbeat in heartbeats.iter().filter(|heartbeat| !heartbeat.ended.load(Ordering::Relaxed)) {
                heartbeat.order(HeartbeatAction::Close(CloseCause::Drain));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Advances the wheel once per tick, for ever.
    pub(super) async fn run(&self) {
        let mut clock = tokio::time::interval(self.tick);
        loop {
            clock.tick().await;
            self.advance();
        }
    }

    /// Checks every socket with an entry that is due.
    fn advance(&self) {
        let now = self.now();
        let due = self.lock().advance(now as usize);
        // checked outside the lock, because waking a task must not delay new sockets
        let again: Vec<(usize, MonitoredSocket)> = due
            .into_iter()
            .filter_map(|mut watched| {
                let until = self.check(now, &mut watched)?;
                Some((until.saturating_sub(now) as usize, watched))
            })
            .collect();
        let mut wheel = self.lock();
        for (delay, watched) in again {
            wheel.add(delay, watched);
        }
    }

    /// Checks one socket and returns the tick of its next check. `None`: no further check is needed.
    fn check(&self, now: Tick, watched: &mut MonitoredSocket) -> Option<Tick> {
        let MonitoredSocket { heartbeat, pinged } = watched;
        if heartbeat.ended.load(Ordering::Relaxed) {
            return None;
        }
        let Some(pinged) = pinged else {
            if now >= heartbeat.expires.load(Ordering::Relaxed) {
                heartbeat.order(HeartbeatAction::Close(CloseCause::Expired));
            }
            return None;
        };
        let (last_activity, expires) =
            (heartbeat.last_activity.load(Ordering::Relaxed), heartbeat.expires.load(Ordering::Relaxed));
        match self.policy.evaluate(now, last_activity, *pinged, expires) {
            LivenessDecision::Close(cause) => {
                heartbeat.order(HeartbeatAction::Close(cause));
                None
            }
            LivenessDecision::Ping { again } => {
                *pinged = now;
                heartbeat.order(HeartbeatAction::Ping);
                Some(again)
            }
            LivenessDecision::Wait { until } => Some(until),
        }
    }

    fn now(&self) -> Tick {
        self.tick_at(self.start.elapsed())
    }

    fn tick_at(&self, since_start: Duration) -> Tick {
        Tick::try_from(since_start.as_nanos() / self.tick.as_nanos()).unwrap_or(NEVER)
    }

    /// Every operation leaves the wheel consistent, so a poisoned lock is still usable.
    fn lock(&self) -> MutexGuard<'_, Wheel<MonitoredSocket>> {
        self.wheel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wheel_pings_and_then_closes_a_silent_socket() {
        let heartbeats = Arc::new(HeartbeatMonitor::new(Duration::from_secs(25), Duration::from_secs(10)));
        let (heartbeat, turning) = (heartbeats.register(), heartbeats.clone());
        tokio::spawn(async move { turning.run().await });
        let next = || async {
            std::future::poll_fn(|cx| {
                heartbeat.poll_order(cx).map_or(std::task::Poll::Pending, std::task::Poll::Ready)
            })
            .await
        };
        let start = Instant::now();
        assert_eq!(next().await, HeartbeatAction::Ping);
        assert!((25..=26).contains(&start.elapsed().as_secs()));
        heartbeats.record_activity(&heartbeat);
        assert_eq!(next().await, HeartbeatAction::Ping);
        assert_eq!(next().await, HeartbeatAction::Close(CloseCause::Silent));
        assert!((25 + 35..=25 + 38).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_ends_is_noticed_within_a_second_whenever_it_came() {
        for (waits, valid) in [(0, 3), (0, 0), (7, 12), (24, 2), (40, 3), (3, 100), (26, 24), (30, 26)] {
            let heartbeats =
                Arc::new(HeartbeatMonitor::new(Duration::from_secs(25), Duration::from_secs(10)));
            let (heartbeat, turning) = (heartbeats.register(), heartbeats.clone());
            let turning = tokio::spawn(async move { turning.run().await });
            let next = || {
                std::future::poll_fn(|cx| {
                    heartbeat.poll_order(cx).map_or(std::task::Poll::Pending, std::task::Poll::Ready)
                })
            };
            let pinging = async {
                loop {
                    match next().await {
                        HeartbeatAction::Ping => heartbeats.record_activity(&heartbeat),
                        close => return close,
                    }
                }
            };
            let extended = async {
                tokio::time::sleep(Duration::from_secs(waits)).await;
                heartbeats.expires(&heartbeat, Duration::from_secs(valid));
            };
            let start = Instant::now();
            let (close, ()) = tokio::join!(pinging, extended);
            assert_eq!(close, HeartbeatAction::Close(CloseCause::Expired));
            let (end, at) = (Duration::from_secs(waits + valid), start.elapsed());
            assert!(at >= end && at <= end + Duration::from_millis(1100), "{waits} {valid}: {at:?}");
            turning.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_renewed_in_time_ends_nothing() {
        let heartbeats = Arc::new(HeartbeatMonitor::new(Duration::from_secs(25), Duration::from_secs(10)));
        let (heartbeat, turning) = (heartbeats.register(), heartbeats.clone());
        tokio::spawn(async move { turning.run().await });
        heartbeats.expires(&heartbeat, Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(2)).await;
        heartbeats.expires(&heartbeat, Duration::from_secs(3600));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(heartbeat.poll_order(&Context::from_waker(Waker::noop())), None);
    }

    /// A task that is never woken.
    struct SocketTask;

    impl std::task::Wake for SocketTask {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_has_ended_is_forgotten() {
        let heartbeats = HeartbeatMonitor::new(Duration::from_secs(1), Duration::from_secs(1));
        let heartbeat = heartbeats.register();
        let task = Arc::new(SocketTask);
        assert_eq!(heartbeat.poll_order(&Context::from_waker(&task.clone().into())), None);
        heartbeat.end();
        assert_eq!(Arc::strong_count(&task), 1, "its task is not held until the wheel comes by");
        tokio::time::advance(Duration::from_secs(2)).await;
        heartbeats.advance();
        assert_eq!(Arc::strong_count(&heartbeat), 1);
        assert_eq!(heartbeat.poll_order(&Context::from_waker(Waker::noop())), None);
    }
}
