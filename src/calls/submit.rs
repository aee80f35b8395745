//! Submits jobs: checks the limits and chooses the workers.

use std::sync::Arc;
use std::time::Duration;

use pagewire_cluster::id::Account;
use pagewire_cluster::id::{Address, Key};
use pagewire_cluster::job::{Idempotency, Quota, Record, Submission, SubmitError, Submitted};
use pagewire_cluster::rollout::{RoutingKey, is_name};
use pagewire_cluster::worker::{ExecMode, WorkerGroup};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::Executors;
use super::placement::{DEFAULT_POOL, affinity};
use crate::config::LimitsConfig;
use crate::protocol::{CommandError, ErrorCode};
use crate::telemetry;
use pagewire_cluster::clock;

/// The longest handler name and the longest idempotency key, in bytes.
const MAX_NAME: usize = 200;
/// The most retries of a job.
pub(super) const MAX_RETRIES: u32 = 100;
/// How far ahead a job may be scheduled.
const MAX_SCHEDULE_AHEAD: time::Duration = time::Duration::days(366);

/// A durable job to submit.
#[derive(Debug)]
pub struct JobRequest {
    /// The handler's name.
    pub kind: String,
    /// Its argument.
    pub data: Box<RawValue>,
    /// Where it runs; `None` lets the node decide.
    pub exec_mode: Option<ExecMode>,
    /// The pool of workers; the default pool if `None`.
    pub pool: Option<String>,
    /// The user on whose behalf it runs.
    pub user: Option<Arc<str>>,
    /// The submitter's connection: selects the lane when there is no user.
    pub connection: Option<Key>,
    /// The page that is notified of progress and of the result.
    pub page: Option<Address>,
    /// That page's session.
    pub session: Option<Key>,
    /// That page's own frame id for the job.
    pub frame: Option<Box<RawValue>>,
    /// The earliest time to run it.
    pub run_at: Option<OffsetDateTime>,
    /// The same, from its submission on.
    pub run_in: Option<Duration>,
    /// How often it is retried after a failure.
    pub retries: Option<u32>,
    /// Scope and key: a second submission with both equal returns the same job.
    pub idempotency: Option<Idempotency>,
    /// The limits for a job that a page submits; `None` for a program.
    pub rules: Option<PageRules>,
}

/// Limits on the open jobs of pages.
#[derive(Debug, Clone, Copy)]
pub struct PageRules {
    /// The most open jobs of one page.
    pub per_page: usize,
    /// The most open jobs of all pages of one user.
    pub per_user: usize,
    /// The most open jobs of one anonymous browser.
    pub per_anonymous: usize,
}

impl PageRules {
    /// Reads the limits from the configuration.
    pub fn new(limits: &LimitsConfig) -> Self {
        let LimitsConfig { jobs_per_page, jobs_per_user, jobs_per_anonymous, .. } = *limits;
        Self { per_page: jobs_per_page, per_user: jobs_per_user, per_anonymous: jobs_per_anonymous }
    }

    fn quota(self, job: &JobRequest) -> Option<Quota> {
        let page = job.page?.key;
        let account = Account::of(job.user.as_ref(), job.connection)?;
        let per_account = match account {
            Account::User(_) => self.per_user,
            Account::Connection(_) => self.per_anonymous,
        };
        Some(Quota { account, page, per_page: self.per_page, per_account })
    }
}

impl Executors {
    /// Makes a job durable and offers it to the workers of its lane, whether or not there are any now. `accepted` runs
    /// in between, so that its receiver is notified of the acceptance before anything else.
    ///
    /// # Errors
    /// - `malformed` if a field is out of its range, for mode `inline`, and for mode `assigned` without a user,
    /// - `unknown` if a page names a pool that has never had a worker,
    /// - `rate_limited` if the page or its user has too many open jobs,
    /// - `conflict` if the idempotency key belongs to a job with other content,
    /// - `too_large` if the job's data is too long,
    /// - `unavailable` if the engine does not reply; the job may have been stored.
    pub async fn submit(
        &self,
        job: JobRequest,
        accepted: impl FnOnce(&Record),
    ) -> Result<Submitted, CommandError> {
        check(&job)?;
        let pool = pool(job.pool.as_deref())?;
        if job.rules.is_some() {
            self.check_known(pool).await?;
        }
        let quota = job.rules.and_then(|rules| rules.quota(&job));
        let routing = job.user.is_none().then(|| job.connection.unwrap_or_else(Key::random));
        let unit = RoutingKey::of(job.user.as_deref(), routing);
        self.lanes.admit(pool, unit, None).await;
        let lane = self.lanes.of(pool, unit);
        let team = WorkerGroup::new(pool, lane.lane);
        let wanted = self.defaults.mode(job.exec_mode, &team, &job.kind);
        let affinity = affinity(wanted, job.user.is_some(), job.user.is_some() || job.connection.is_some())?;
        let retries = self.defaults.retries(job.retries, &team, &job.kind);
        let submission = Submission {
            kind: job.kind,
            data: job.data,
            team,
            lane_rev: lane.revision,
            routing,
            affinity,
            user: job.user.as_deref().map(str::to_owned),
            page: job.page,
            session: job.session,
            connection: job.connection,
            frame: job.frame,
            run_at: job.run_at.map(unix_ms),
            run_in: job.run_in,
            retries,
            idempotency: job.idempotency,
            quota: quota.clone(),
            trace: telemetry::current_trace(),
        };
        self.jobs.submit(submission, accepted).await.map_err(|error| refused(error, quota.as_ref()))
    }
}

/// Returns the named pool or the default pool; `malformed` for an invalid name.
pub(super) fn pool(named: Option<&str>) -> Result<&str, CommandError> {
    match named {
        None => Ok(DEFAULT_POOL),
        Some(name) if is_name(name) => Ok(name),
        Some(_) => Err(malformed("a pool's name has letters, digits, -, _ and .")),
    }
}

fn check(job: &JobRequest) -> Result<(), CommandError> {
    if job.exec_mode == Some(ExecMode::Inline) {
        return Err(malformed("a job runs on a worker: exec_mode must be any or assigned"));
    }
    if !(1..=MAX_NAME).contains(&job.kind.len()) {
        return Err(malformed("the kind of a job has 1 to 200 bytes"));
    }
    if job.retries.is_some_and(|retries| retries > MAX_RETRIES) {
        return Err(malformed("a job has at most 100 retries"));
    }
    let is_late = job.run_at.is_some_and(|at| at > OffsetDateTime::from(clock::wall()) + MAX_SCHEDULE_AHEAD);
    if is_late || job.run_in.is_some_and(|after| after > MAX_SCHEDULE_AHEAD.unsigned_abs()) {
        return Err(malformed("a job is scheduled at most a year ahead"));
    }
    if job.idempotency.as_ref().is_some_and(|idempotency| !(1..=MAX_NAME).contains(&idempotency.key.len())) {
        return Err(malformed("an idempotency key has 1 to 200 bytes"));
    }
    Ok(())
}

fn malformed(message: &'static str) -> CommandError {
    CommandError::new(ErrorCode::Malformed, message)
}

fn unix_ms(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

fn refused(error: SubmitError, quota: Option<&Quota>) -> CommandError {
    let code = match error {
        SubmitError::PageFull | SubmitError::AccountFull => {
            let (key, max) = match (error, quota) {
                (SubmitError::PageFull, quota) => ("jobs_per_page", quota.map(|quota| quota.per_page)),
                (_, Some(Quota { account: Account::Connection(_), per_account, .. })) => {
                    ("jobs_per_anonymous", Some(*per_account))
                }
                (_, quota) => ("jobs_per_user", quota.map(|quota| quota.per_account)),
            };
            let message = format!("{error}: {} (limits.{key})", max.unwrap_or_default());
            return CommandError::new(ErrorCode::RateLimited, message);
        }
        SubmitError::Conflict => ErrorCode::Conflict,
        SubmitError::TooLarge => ErrorCode::TooLarge,
        SubmitError::Unavailable => ErrorCode::Unavailable,
    };
    CommandError::new(code, error.to_string())
}
