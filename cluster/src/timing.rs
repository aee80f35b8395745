//! All timeouts of the system, as one value.
//!
//! Owns: the durations that processes rely on between each other, and their order. Never: values that users configure
//! (`ping_ms`, `resume_ms` … are configuration).

use std::ops::RangeInclusive;
use std::time::Duration;

/// How long the fences of a state tree that does not exist are kept after its last write: longer than a write of a worker
/// that was replaced can be under way.
pub const FENCES_KEPT: Duration = Duration::from_secs(3600);

/// How old a private directory is at least that is removed because no process uses it.
pub const DIRECTORY_LEFT: Duration = Duration::from_secs(60);

/// How long a process waits for the streams of NATS servers that have just started. An election takes up to 9 s, and the
/// first one may have no winner.
pub const NATS_START: Duration = Duration::from_secs(30);

/// Shortest and longest time for which a lock is held without a renewal.
pub const LOCK_TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Longest time to wait for a lock.
pub const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Pause between the first two tries to acquire a lock; it doubles with each further one.
pub const LOCK_TRY_FIRST: Duration = Duration::from_millis(20);

/// Longest pause between two tries to acquire a lock.
pub const LOCK_TRY_LONGEST: Duration = Duration::from_millis(500);

/// How long what is published to the pages of a register is kept for a page that has not taken it; whole seconds.
pub const REGISTER_LOG: Duration = Duration::from_secs(15 * 60);

/// How long a register keeps how far a page has taken the log; whole seconds.
pub const REGISTER_CURSOR: Duration = Duration::from_secs(3600);

/// Pause before a process repeats the read of a row of a register that has failed.
pub const REGISTER_RETRY: Duration = Duration::from_millis(50);

/// How long a process waits until it has applied what it has published itself.
pub const REGISTER_APPLIED: Duration = Duration::from_secs(5);

/// How long a rollout remembers which of its rules a user has met, from the last page of the user on.
pub const USER_ENROLLED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The same for an anonymous connection.
pub const CONNECTION_ENROLLED: Duration = Duration::from_secs(24 * 3600);

/// How long the first work of a user waits for the admission to a lane with a limit on its users.
pub const ADMISSION_WAIT: Duration = Duration::from_secs(3);

/// The longest login of a user of an application, and how long it is known that logins have ended: after 400 days browsers drop
/// every cookie.
pub const LOGIN_LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// How far ahead a handler may put off its job, or the next try of it; a longer time is cut to this.
pub const LONGEST_DELAY: Duration = Duration::from_secs(366 * 24 * 3600);

/// All timeouts. [`Timing::PRODUCTION`] is used in production; [`Timing::TEST`] has the same order for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a holder renews its lease.
    pub lease_renew: Duration,
    /// How long a holder still acts after *sending* its last acknowledged renewal. A NATS leader change takes 5–8 s and
    /// must fit into it.
    pub lease_fence: Duration,
    /// Time after which an unrenewed lease expires; whole seconds.
    pub lease_ttl: Duration,
    /// Time within which three probes of the epoch subject without a reply confirm the death of a node.
    pub death_confirmation: Duration,
    /// How long a publish may wait for room in the send buffer.
    pub publish: Duration,
    /// Timeout of one Kv or Queue operation; after it the outcome is `Unknown`.
    pub operation: Duration,
    /// Time after which the Queue delivers a work item again that is not acknowledged or extended. A work item that was
    /// in transit when a connection broke waits as long, and a suspended worker keeps the work items that it had
    /// requested before: twice this time is within its lease.
    pub redelivery: Duration,
    /// Delay before the first retry of a failed job; it doubles with each further retry.
    pub retry_first: Duration,
    /// Maximum delay before a retry.
    pub retry_longest: Duration,
    /// How long an idempotency key and a request id of a page refer to their job; whole seconds. A job with an
    /// idempotency key is kept as long after its end.
    pub job_index: Duration,
    /// How long the record of an ended job is kept at least if a page waits for it: five minutes to tell the page, and
    /// ten minutes in which it may reconnect; whole seconds.
    pub told_job: Duration,
    /// How long the job of a page that is far from its limits may be counted at its node only, and how old the count of
    /// the other nodes may be that the node compares with the limits.
    pub quota_write: Duration,
    /// How long the lane that a page keeps may be in the memory of its node only; other writes of the row of the page
    /// meanwhile store it as well.
    pub pin_write: Duration,
    /// How long a worker stays assigned to a user without work for the user; whole seconds.
    pub affinity_ttl: Duration,
    /// Minimum time between two progress notifications to a page.
    pub progress: Duration,
    /// How long a page token is accepted. A page that is open for half of this time gets a new one.
    pub page_token: Duration,
    /// How long a key signs page tokens before the next key does.
    pub signing_key: Duration,
    /// Time between two digests of what has become of the work of a lane.
    pub lane_digest: Duration,
    /// Timeout of a delivery to another node; after it the node counts as unreachable.
    pub deliver: Duration,
    /// How often the holder of an abort latch publishes it again, and a node tries to write it.
    pub latch_repeat: Duration,
    /// How long a process that starts waits for the abort latches of its peers, if it has any.
    pub latch_answers: Duration,
    /// How long a delivery waits until a node has applied the rows that its sender has seen.
    pub view_wait: Duration,
    /// Time of the old holder to hand over a page.
    pub handover: Duration,
    /// How long a batch of pages that move waits for its last page.
    pub move_wait: Duration,
    /// Maximum time from accepting a connection to its complete request head.
    pub http_header: Duration,
    /// Maximum time to send the body of a request.
    pub http_body: Duration,
    /// How long an idle keep-alive connection stays open.
    pub http_idle: Duration,
    /// Maximum time from the upgrade to `hello`.
    pub hello: Duration,
    /// How long a socket with bytes to write may make no progress.
    pub write_stall: Duration,
    /// Time between the last frame on a connection and dropping it, so that the other end can receive the frame.
    pub close_timeout: Duration,
    /// How long a request may still run in a process of a mount that is replaced, if the mount has no limit of its own.
    pub request_drain: Duration,
    /// How long connecting to the upstream of a mount may take.
    pub upstream_connect: Duration,
    /// How long a request to another node of the cluster may be on its way there.
    pub hop_ticket: Duration,
    /// How long a node that drains still takes requests of other nodes, which may not know of that yet.
    pub hop_drain: Duration,
    /// How long an unused connection to an upstream is kept: less than usual servers keep theirs, so that few requests meet
    /// one that is about to close.
    pub upstream_idle: Duration,
    /// How long the client of a page of a site counts as present after its last activity; a page that is seen sends a ping
    /// every second.
    pub site_present: Duration,
    /// Pause before the news of a page of a site are fetched again after that has failed.
    pub site_retry: Duration,
    /// How long a message that a site pushes may take to arrive.
    pub site_push: Duration,
    /// How long a page of a site is known that has no socket and does not poll; a page polls every 30 s.
    pub site_forget: Duration,
    /// How long the polls of a page of a Genropy site that find nothing are answered without a process of the site, which
    /// writes when the page was seen: a guest is dropped after 40 s, and a user counts as away after 60 s.
    pub site_quiet: Duration,
    /// How long a call waits for a slot of a worker that has none free.
    pub slot_wait: Duration,
    /// How long a worker that has drained still refuses calls of processes that have not seen that it drains.
    pub leave_wait: Duration,
    /// How long a new job waits for the answer of a worker that may be idle, and how long a lane without an idle worker is not
    /// asked again.
    pub idle_offer: Duration,
    /// How long the work item of a job waits for a slot before it is returned for another worker.
    pub item_slot_wait: Duration,
    /// Longest pause before the work item of a job is offered again that no worker of its lane has a handler for.
    pub no_handler_wait: Duration,
    /// Timeout of a call that sets none of its own.
    pub call: Duration,
    /// Timeout of an attempt of a job whose handler sets none.
    pub job: Duration,
    /// How long work in a child process may take to stop when it is asked to, and a child process to end.
    pub child_stop: Duration,
    /// Interval of pings to a child process.
    pub child_ping: Duration,
    /// How often the limits of a child process are checked.
    pub child_watch: Duration,
    /// How long a connection to an HTTP backend may take.
    pub backend_connect: Duration,
    /// How long a connection to an HTTP backend is kept without a request: less than the two seconds after which gunicorn
    /// closes it, because a request on a connection that the backend closes at the same time fails.
    pub backend_idle: Duration,
    /// How long a child process that is not needed stays.
    pub child_idle: Duration,
    /// Maximum time from SIGTERM to exit.
    pub drain: Duration,
    /// Maximum advised delay before a reconnect; clients are spread over it.
    pub reconnect_jitter: Duration,
    /// Minimum time between two log lines with the same text that untrusted clients can trigger.
    pub log_pause: Duration,
    /// NATS client: interval of pings to a silent server.
    pub nats_ping: Duration,
    /// NATS client: maximum delay between two attempts to connect.
    pub nats_reconnect: Duration,
}

impl Timing {
    /// The values for production.
    pub const PRODUCTION: Self = Self {
        lease_renew: Duration::from_secs(3),
        lease_fence: Duration::from_secs(16),
        lease_ttl: Duration::from_secs(20),
        death_confirmation: Duration::from_secs(3),
        publish: Duration::from_millis(100),
        operation: Duration::from_secs(5),
        redelivery: Duration::from_secs(10),
        retry_first: Duration::from_secs(1),
        retry_longest: Duration::from_secs(300),
        job_index: Duration::from_secs(24 * 3600),
        told_job: Duration::from_secs(15 * 60),
        quota_write: Duration::from_millis(250),
        pin_write: Duration::from_millis(250),
        affinity_ttl: Duration::from_secs(3600),
        progress: Duration::from_millis(500),
        page_token: Duration::from_secs(24 * 3600),
        signing_key: Duration::from_secs(7 * 24 * 3600),
        lane_digest: Duration::from_secs(1),
        deliver: Duration::from_secs(2),
        latch_repeat: Duration::from_secs(1),
        latch_answers: Duration::from_millis(250),
        view_wait: Duration::from_millis(250),
        handover: Duration::from_secs(2),
        move_wait: Duration::from_secs(1),
        http_header: Duration::from_secs(10),
        http_body: Duration::from_secs(30),
        http_idle: Duration::from_secs(60),
        hello: Duration::from_secs(10),
        write_stall: Duration::from_secs(20),
        close_timeout: Duration::from_secs(2),
        request_drain: Duration::from_secs(600),
        upstream_connect: Duration::from_secs(5),
        hop_ticket: Duration::from_secs(10),
        hop_drain: Duration::from_secs(1),
        upstream_idle: Duration::from_secs(1),
        site_present: Duration::from_secs(2),
        site_retry: Duration::from_secs(1),
        site_push: Duration::from_secs(5),
        site_forget: Duration::from_secs(900),
        site_quiet: Duration::from_secs(10),
        slot_wait: Duration::from_millis(100),
        leave_wait: Duration::from_millis(200),
        idle_offer: Duration::from_millis(100),
        item_slot_wait: Duration::from_millis(5),
        no_handler_wait: Duration::from_secs(60),
        call: Duration::from_secs(30),
        job: Duration::from_secs(30 * 60),
        child_stop: Duration::from_secs(5),
        child_ping: Duration::from_secs(10),
        child_watch: Duration::from_secs(1),
        backend_connect: Duration::from_secs(5),
        backend_idle: Duration::from_secs(1),
        child_idle: Duration::from_secs(60),
        drain: Duration::from_secs(30),
        reconnect_jitter: Duration::from_secs(5),
        log_pause: Duration::from_secs(10),
        nats_ping: Duration::from_secs(5),
        nats_reconnect: Duration::from_secs(2),
    };

    /// Values in the same order, short enough for tests.
    pub const TEST: Self = Self {
        lease_renew: Duration::from_millis(300),
        lease_fence: Duration::from_millis(2200),
        lease_ttl: Duration::from_secs(3),
        death_confirmation: Duration::from_millis(600),
        publish: Duration::from_millis(100),
        operation: Duration::from_millis(1500),
        redelivery: Duration::from_secs(2),
        retry_first: Duration::from_millis(50),
        retry_longest: Duration::from_secs(1),
        job_index: Duration::from_secs(600),
        told_job: Duration::from_secs(6),
        quota_write: Duration::from_millis(50),
        pin_write: Duration::from_millis(250),
        affinity_ttl: Duration::from_secs(6),
        progress: Duration::from_millis(100),
        page_token: Duration::from_secs(120),
        signing_key: Duration::from_secs(600),
        lane_digest: Duration::from_millis(100),
        deliver: Duration::from_millis(1000),
        latch_repeat: Duration::from_millis(300),
        latch_answers: Duration::from_millis(150),
        view_wait: Duration::from_millis(150),
        handover: Duration::from_millis(500),
        move_wait: Duration::from_millis(500),
        http_header: Duration::from_millis(700),
        http_body: Duration::from_millis(1500),
        http_idle: Duration::from_secs(3),
        hello: Duration::from_millis(1000),
        write_stall: Duration::from_secs(2),
        close_timeout: Duration::from_millis(500),
        request_drain: Duration::from_secs(20),
        upstream_connect: Duration::from_secs(1),
        hop_ticket: Duration::from_secs(5),
        hop_drain: Duration::from_millis(200),
        upstream_idle: Duration::from_secs(1),
        site_present: Duration::from_millis(500),
        site_retry: Duration::from_millis(200),
        site_push: Duration::from_secs(1),
        site_forget: Duration::from_secs(20),
        site_quiet: Duration::from_secs(2),
        slot_wait: Duration::from_millis(100),
        leave_wait: Duration::from_millis(200),
        idle_offer: Duration::from_millis(100),
        item_slot_wait: Duration::from_millis(5),
        no_handler_wait: Duration::from_secs(1),
        call: Duration::from_secs(3),
        job: Duration::from_secs(10),
        child_stop: Duration::from_millis(500),
        child_ping: Duration::from_millis(500),
        child_watch: Duration::from_millis(50),
        backend_connect: Duration::from_secs(2),
        backend_idle: Duration::from_secs(1),
        child_idle: Duration::from_secs(2),
        drain: Duration::from_secs(5),
        reconnect_jitter: Duration::from_millis(300),
        log_pause: Duration::from_secs(10),
        nats_ping: Duration::from_secs(1),
        nats_reconnect: Duration::from_millis(300),
    };

    /// Returns how long a key is accepted after it has signed its last token, and how long the login of an anonymous
    /// connection is remembered: longer than the lifetime of any page token from before that.
    pub const fn outlives_tokens(&self) -> Duration {
        Duration::from_secs(self.page_token.as_secs() * 2 + 1)
    }

    /// Returns the profile named by `PAGEWIRE_TIMING` (`short` for tests), else [`Timing::PRODUCTION`].
    pub fn from_environment() -> Self {
        match std::env::var("PAGEWIRE_TIMING").as_deref() {
            Ok("short") => Self::TEST,
            _ => Self::PRODUCTION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_stops_before_anybody_may_take_its_lease() {
        for timing in [Timing::PRODUCTION, Timing::TEST] {
            assert!(timing.lease_renew * 3 < timing.lease_fence, "three renewals may fail");
            assert!(timing.lease_fence < timing.lease_ttl, "fenced before the lease can expire");
            assert_eq!(timing.lease_ttl.subsec_nanos(), 0, "a TTL is whole seconds");
        }
        assert!(Timing::PRODUCTION.lease_fence > Duration::from_secs(8), "a leader change evicts no node");
    }

    #[test]
    fn a_worker_has_time_to_touch_a_hint_before_it_is_delivered_again() {
        for timing in [Timing::PRODUCTION, Timing::TEST] {
            assert!(timing.operation < timing.redelivery);
        }
    }

    #[test]
    fn what_a_worker_that_stands_still_has_asked_for_is_delivered_again_within_its_lease() {
        assert!(Timing::PRODUCTION.redelivery * 2 <= Timing::PRODUCTION.lease_ttl);
    }

    #[test]
    fn a_worker_is_a_users_own_for_longer_than_its_lease_can_lapse() {
        for timing in [Timing::PRODUCTION, Timing::TEST] {
            assert_eq!(timing.affinity_ttl.subsec_nanos(), 0, "a TTL is whole seconds");
            assert!(timing.affinity_ttl >= timing.lease_ttl * 2);
            assert!(timing.retry_first < timing.retry_longest);
        }
    }

    #[test]
    fn what_a_page_token_rests_on_outlives_it() {
        for timing in [Timing::PRODUCTION, Timing::TEST] {
            assert!(timing.outlives_tokens() > timing.page_token);
            assert!(timing.signing_key > timing.page_token);
            assert_eq!(timing.outlives_tokens().subsec_nanos(), 0, "a TTL is whole seconds");
        }
    }

    #[test]
    fn a_page_is_told_while_the_record_of_its_job_stands() {
        for timing in [Timing::PRODUCTION, Timing::TEST] {
            assert_eq!(timing.told_job.subsec_nanos(), 0, "a TTL is whole seconds");
            assert!(timing.told_job > timing.redelivery * 2 + timing.deliver);
            assert!(timing.told_job <= timing.job_index, "it is found by its request id for as long");
        }
    }

    #[test]
    fn a_request_ends_before_the_node_that_waits_for_it_is_given_up() {
        for timing in [Timing::PRODUCTION, Timing::TEST] {
            assert!(timing.handover <= timing.deliver);
            assert!(
                timing.view_wait < timing.death_confirmation / 3,
                "a node that waits for rows still responds to pings"
            );
            assert!(timing.reconnect_jitter < timing.drain);
        }
    }
}
