//! First connect and reconnects.
//!
//! Owns: the options of the client library, the first connect with its refusals, the meaning of the library's
//! events. Never: streams or messages.
//!
//! Avoids: async-nats repeats a failed first connect without an end and without a reason, reconnects without
//! jitter, and stays at a server in lame duck mode until it closes the connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::{Notify, watch as channel};
use tokio::task::AbortHandle;

use super::connection::{ConnectionInner, NatsConnection, track};
use super::reply_router::Router;
use super::version::check_version;
use super::write_batcher::outgoing;
use super::{ConnectError, NatsOptions};
use crate::engine::ConnectionState;
use crate::subject::Subjects;

/// The most messages that wait to be sent, enough for a burst. Beyond it `publish` returns `Full`.
const QUEUE: usize = 16 * 1024;
/// The most commands between the library's handle and its connection: slightly more than one gathered batch.
const CLIENT_CAPACITY: usize = 1024;
/// The most messages of one subscription between the library's connection task and the reading task.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;
/// The default of NATS, in bytes. A value of `MAX_VALUE` bytes must fit after base64 encoding, in which the
/// leader returns it.
const SMALLEST_MAX_PAYLOAD: usize = 1024 * 1024;

/// ConnectionTasks that are aborted when their owner is dropped.
#[derive(Default)]
pub(super) struct ConnectionTasks(Vec<AbortHandle>);

impl ConnectionTasks {
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task).abort_handle());
    }
}

impl Drop for ConnectionTasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// The state that the library's events update.
#[derive(Clone)]
struct ConnectionListener {
    changed: Arc<Notify>,
    dropped: channel::Sender<u64>,
    lame_duck: Arc<Notify>,
}

impl ConnectionListener {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Connected | Event::Disconnected | Event::Closed => self.changed.notify_one(),
            // one event per message, without the subscription, so every subscription gets a gap
            Event::SlowConsumer(_) => self.dropped.send_modify(|count| *count += 1),
            Event::LameDuckMode => self.lame_duck.notify_one(),
            Event::ServerError(error) => tracing::warn!(%error, "NATS reported an error"),
            Event::ClientError(error) => tracing::warn!(%error, "NATS cannot be reached"),
            Event::Draining => {}
        }
    }
}

/// Opens a connection, confirms that it works, and starts its tasks. `role` identifies it in NATS's
/// monitoring.
pub(super) async fn connect(
    options: &NatsOptions,
    role: &'static str,
    tasks: &mut ConnectionTasks,
) -> Result<NatsConnection, ConnectError> {
    connect_with(options, role, SUBSCRIPTION_CAPACITY, tasks).await
}

async fn connect_with(
    options: &NatsOptions,
    role: &'static str,
    capacity: usize,
    tasks: &mut ConnectionTasks,
) -> Result<NatsConnection, ConnectError> {
    let timing = options.timing;
    let process = uuid::Uuid::new_v4().simple();
    let root = format!("{}.{process}", Subjects::new(&options.cluster).inbox());
    let listener = ConnectionListener {
        changed: Arc::default(),
        dropped: channel::Sender::new(0),
        lame_duck: Arc::default(),
    };
    let configure = || configure(options, role, &root, &listener).subscription_capacity(capacity);
    let client = first_connect(options, configure).await?;
    let info = client.server_info();
    if !check_version(&info.version) {
        return Err(ConnectError::Version { found: info.version });
    }
    if info.max_payload < SMALLEST_MAX_PAYLOAD {
        let reason = format!(
            "its max_payload is {}, pagewire needs at least {SMALLEST_MAX_PAYLOAD}",
            info.max_payload
        );
        return Err(refused(options, reason));
    }

    let router = Router::new(root);
    let inbox = client.subscribe(router.pattern()).await.map_err(|error| refused(options, error))?;
    tasks.spawn(router.clone().run(inbox, Duration::from_secs(1)));
    let link = channel::Sender::new(ConnectionState::Up { generation: 1 });
    let (outgoing, handing_over) = outgoing(client.clone(), QUEUE);
    // ends by itself after all messages are handed over
    tokio::spawn(handing_over);
    let connection = NatsConnection::new(ConnectionInner {
        client: client.clone(),
        outgoing,
        router,
        link: link.subscribe(),
        dropped: listener.dropped.subscribe(),
        timing,
    });
    tasks.spawn(track(connection.clone(), role, listener.changed.clone(), link));
    tasks.spawn(leave_lame_ducks(client, listener.lame_duck.clone(), timing.reconnect_jitter));
    Ok(connection)
}

/// Tries to connect for a bounded time, so that processes and servers can start together, and then returns
/// the reason of the failure. The retry of the library has no end and returns no reason.
async fn first_connect(
    options: &NatsOptions,
    configure: impl Fn() -> ConnectOptions,
) -> Result<Client, ConnectError> {
    let deadline = Instant::now() + options.timing.operation * 2;
    loop {
        let error = match configure().connect(&options.urls[..]).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let hopeless = matches!(
            error.kind(),
            ConnectErrorKind::ServerParse
                | ConnectErrorKind::Authentication
                | ConnectErrorKind::AuthorizationViolation
        );
        if hopeless || Instant::now() >= deadline {
            return Err(refused(options, error));
        }
        tokio::time::sleep(jitter(options.timing.nats_reconnect)).await;
    }
}

fn configure(options: &NatsOptions, role: &str, root: &str, listener: &ConnectionListener) -> ConnectOptions {
    let max_delay = options.timing.nats_reconnect;
    let listener = listener.clone();
    ConnectOptions::new()
        .name(format!("{} ({role})", options.client_name))
        .custom_inbox_prefix(root)
        .ping_interval(options.timing.nats_ping)
        .connection_timeout(options.timing.operation)
        .client_capacity(CLIENT_CAPACITY)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempt| reconnect_delay(attempt, max_delay))
        .event_callback(move |event| {
            listener.on_event(&event);
            async {}
        })
}

/// Returns the delay before a reconnect attempt. It has full jitter, so that a thousand processes do not
/// reconnect in the same millisecond.
fn reconnect_delay(attempt: usize, max_delay: Duration) -> Duration {
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX).min(16);
    jitter(max_delay.min(Duration::from_millis(50) * 2_u32.pow(doublings)))
}

/// Returns a random duration from zero to `max_delay`.
pub(super) fn jitter(max_delay: Duration) -> Duration {
    max_delay.mul_f64(rand::random())
}

/// Reconnects to another server when the current one announces that it will stop; the library does not do
/// this. Waits a random time first, so that clients leave one by one and not all at once when the server
/// closes.
async fn leave_lame_ducks(client: Client, lame_duck: Arc<Notify>, spread: Duration) {
    loop {
        lame_duck.notified().await;
        let servers = client.server_pool().await.map_or(0, |pool| pool.len());
        if servers > 1 {
            tokio::time::sleep(jitter(spread)).await;
            // fails only after the client was dropped
            let _ = client.force_reconnect().await;
        }
    }
}

/// Creates the error for a refused connection. Removes the user and password that a URL may contain.
pub(super) fn refused(options: &NatsOptions, reason: impl ToString) -> ConnectError {
    let bare = |url: &String| match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        (None, Some(at)) => url[at + 1..].to_owned(),
        _ => url.clone(),
    };
    let urls: Vec<String> = options.urls.iter().map(bare).collect();
    ConnectError::Unreachable { urls: urls.join(", "), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::nats::bus;
    use crate::engine::nats::fake::Fake;
    use crate::engine::{BusEvent, Gap, Message};
    use crate::timing::Timing;

    fn options(urls: &[&str]) -> NatsOptions {
        NatsOptions {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            replicas: 1,
            cluster: "c".to_owned(),
            client_name: "n".to_owned(),
            timing: Timing::TEST,
        }
    }

    #[test]
    fn a_refusal_never_shows_a_password() {
        let options = options(&["nats://me:secret@one:4222", "me:secret@two", "nats://three"]);
        let text = refused(&options, "why").to_string();
        assert_eq!(text, "cannot use NATS at nats://one:4222, two, nats://three: why");
    }

    #[test]
    fn reconnects_are_spread_and_bounded() {
        let max_delay = Duration::from_secs(2);
        for attempt in [0, 1, 5, 100, usize::MAX] {
            assert!(reconnect_delay(attempt, max_delay) <= max_delay);
        }
        let delays: std::collections::HashSet<_> = (0..20).map(|_| reconnect_delay(9, max_delay)).collect();
        assert!(delays.len() > 10);
    }

    #[tokio::test]
    async fn a_server_without_the_needed_fixes_is_refused_by_name() {
        let fake = Fake::start("2.12.11", 1024 * 1024);
        let refusal = connect(&options(&[&fake.url()]), "data", &mut ConnectionTasks::default()).await.err();
        assert!(
            matches!(&refusal, Some(ConnectError::Version { found }) if found == "2.12.11"),
            "{refusal:?}"
        );
        assert!(refusal.is_some_and(|refusal| refusal.to_string().contains("2.12.12 or later")));
    }

    #[tokio::test]
    async fn a_server_that_takes_too_small_messages_is_refused() {
        let fake = Fake::start("2.15.1", 64 * 1024);
        let refusal = connect(&options(&[&fake.url()]), "data", &mut ConnectionTasks::default()).await.err();
        assert!(refusal.is_some_and(|refusal| refusal.to_string().contains("max_payload is 65536")));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_clear_refusal_after_a_bounded_time() {
        let options = options(&["nats://127.0.0.1:1"]);
        let mut tasks = ConnectionTasks::default();
        let connecting = connect(&options, "data", &mut tasks);
        let bound = options.timing.operation * 4;
        let refusal = tokio::time::timeout(bound, connecting).await.expect("bounded").err();
        assert!(refusal.is_some_and(|refusal| {
            refusal.to_string().starts_with("cannot use NATS at nats://127.0.0.1:1: ")
        }));
    }

    #[tokio::test]
    async fn questions_that_nobody_answers_leave_nothing_behind() {
        let fake = Fake::start("2.15.1", 1024 * 1024);
        let mut tasks = ConnectionTasks::default();
        let data = connect(&options(&[&fake.url()]), "data", &mut tasks).await.unwrap();
        let request = || bus::request(&data, Message::new("silent", ""), Duration::from_millis(1));
        for _ in 0..200 {
            assert_eq!(request().await, Err(crate::engine::RequestError::Deadline));
        }
        assert_eq!(data.router.waiting(), 0);
    }

    #[tokio::test]
    async fn messages_that_the_library_drops_are_a_gap() {
        let fake = Fake::start("2.15.1", 1024 * 1024);
        let mut tasks = ConnectionTasks::default();
        let data = connect_with(&options(&[&fake.url()]), "data", 8, &mut tasks).await.unwrap();
        let mut subscription = bus::subscribe(&data, "t.*", None, usize::MAX).await.unwrap();
        // the server sends the burst in one write, the library reads it at once, and its channel of 8
        // overflows
        bus::publish(&data, Message::new("burst", "1000")).await.unwrap();
        let mut messages = 0;
        loop {
            match subscription.next().await {
                Some(BusEvent::Message(_)) => messages += 1,
                Some(BusEvent::Gap(gap)) => break assert_eq!(gap, Gap::Overflow),
                None => panic!("{messages} messages and no gap"),
            }
        }
    }
}
