//! The open jobs of one account, as one process counts them. Pure.
//!
//! Owns: which job is admitted at once and which one only by a write, and what the next row contains. Never: reads, writes
//! or time-outs.
//!
//! The row as it was stored last, without the jobs that have ended since, and the jobs that were admitted but are not in
//! it yet are counted together. A job is admitted before it is written only by a row that was read or written within the
//! period, up to half of each limit, and up to a slack of unwritten jobs (a quarter of each limit). Every other job is
//! admitted by the write of a row that contains it and all unwritten ones.
//!
//! So one process admits exactly the limit. Of several processes, the one with the newest row counts all jobs of that
//! row and its own ones, and each other process has at most a slack of jobs that this row does not contain: all of them
//! together admit at most the limit and one slack for each further process.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::quota::{Place, Quota, QuotaError, QuotaRow};
use crate::id::Key;

/// A job to count.
#[derive(Debug, Clone)]
pub(super) struct Reservation {
    pub(super) quota: Quota,
    pub(super) job: Key,
    /// How long the row has to exist for this job, in milliseconds since the Unix epoch.
    pub(super) until: u64,
    /// When the job is counted, in milliseconds since the Unix epoch.
    pub(super) added: u64,
}

impl Reservation {
    fn place(&self) -> Place {
        (self.job, self.quota.page, self.added)
    }
}

/// The row as this process knows it, without the jobs that have ended.
#[derive(Debug)]
struct KnownRow {
    row: QuotaRow,
    /// Revision of the row; `None` if it does not exist.
    rev: Option<u64>,
    /// A time before the read or write of the row.
    seen: Instant,
}

/// A job that was admitted and is not in the row yet.
#[derive(Debug)]
struct UnwrittenJob {
    place: Place,
    until: u64,
    since: Instant,
}

/// A row to write, and which jobs its write admits.
#[derive(Debug)]
pub(super) struct QuotaWrite {
    pub(super) row: QuotaRow,
    pub(super) rev: Option<u64>,
    pub(super) outcomes: Vec<Result<(), QuotaError>>,
}

/// The open jobs of one account.
#[derive(Debug, Default)]
pub(super) struct QuotaCount {
    /// `None`: the row has to be read.
    known: Option<KnownRow>,
    unwritten: Vec<UnwrittenJob>,
    /// Jobs that have ended since the row was written.
    ended: HashSet<Key>,
    /// Whether a write is under way.
    writing: bool,
}

impl QuotaCount {
    /// Returns whether the row has to be read before these jobs: it is not known, or one of the jobs would be admitted at
    /// once if the row were not older than `period`.
    pub(super) fn needs_read(&self, batch: &[Reservation], now: Instant, period: Duration) -> bool {
        let Some(known) = &self.known else { return true };
        now > known.seen + period && batch.iter().any(|reservation| self.is_far_from_limits(reservation))
    }

    /// Takes over a row that was read after `seen`.
    pub(super) fn read(&mut self, mut row: QuotaRow, rev: Option<u64>, seen: Instant) {
        if !self.unwritten.is_empty() {
            let stored = row.jobs();
            self.unwritten.retain(|job| !stored.contains(&job.place.0));
        }
        row.open.retain(|(open, ..)| !self.ended.contains(open));
        self.known = Some(KnownRow { row, rev, seen });
    }

    /// Admits a job that is written later, if that is allowed. Returns whether it was admitted.
    pub(super) fn admit_unwritten(
        &mut self,
        reservation: &Reservation,
        now: Instant,
        period: Duration,
    ) -> bool {
        let fresh = self.known.as_ref().is_some_and(|known| now <= known.seen + period);
        // the jobs of a write under way are not counted yet
        if !fresh || self.writing || !self.is_far_from_limits(reservation) {
            return false;
        }
        if !self.places().any(|(open, ..)| *open == reservation.job) {
            let (place, until) = (reservation.place(), reservation.until);
            self.unwritten.push(UnwrittenJob { place, until, since: now });
        }
        true
    }

    fn is_far_from_limits(&self, Reservation { quota, .. }: &Reservation) -> bool {
        let of_page = |(_, page, _): &&Place| *page == quota.page;
        let unwritten = || self.unwritten.iter().map(|job| &job.place);
        let counts = [
            (self.places().count(), unwritten().count(), quota.per_account),
            (self.places().filter(of_page).count(), unwritten().filter(of_page).count(), quota.per_page),
        ];
        counts.iter().all(|(open, unwritten, limit)| *open < limit / 2 && *unwritten < Quota::slack(*limit))
    }

    /// Returns all jobs that count.
    fn places(&self) -> impl Iterator<Item = &Place> {
        let known = self.known.iter().flat_map(|known| &known.row.open);
        known.chain(self.unwritten.iter().map(|job| &job.place))
    }

    /// Returns all jobs that count.
    pub(super) fn open(&self) -> Vec<Place> {
        self.places().copied().collect()
    }

    /// Returns whether an admitted job is not in the row yet.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Returns when the unwritten jobs have to be written.
    pub(super) fn next_write(&self, period: Duration) -> Option<Instant> {
        self.unwritten.iter().map(|job| job.since).min().map(|since| since + period)
    }

    /// Returns what the write of a batch admits, and the row with these and all unwritten jobs; `None` if the row is not
    /// known.
    pub(super) fn plan_write(&self, batch: &[Reservation]) -> Option<QuotaWrite> {
        let known = self.known.as_ref()?;
        let until = self.unwritten.iter().map(|job| job.until).chain([known.row.until]).max();
        let mut row = QuotaRow { until: until.unwrap_or_default(), open: self.open() };
        let outcomes = batch.iter().map(|reservation| admit(&mut row, reservation)).collect();
        Some(QuotaWrite { row, rev: known.rev, outcomes })
    }

    /// Notes that a write is under way, until [`QuotaCount::written`] or [`QuotaCount::not_written`].
    pub(super) fn begin_write(&mut self) {
        self.writing = true;
    }

    /// Takes over a row that was written after `seen`.
    pub(super) fn written(&mut self, row: QuotaRow, rev: u64, seen: Instant) {
        self.writing = false;
        // what has ended during the write is in the stored row until the next write
        let stored = row.jobs();
        self.ended.retain(|job| stored.contains(job));
        self.read(row, Some(rev), seen);
    }

    /// Notes that a write has not happened, or that its outcome is unknown: the row has to be read.
    pub(super) fn not_written(&mut self) {
        self.writing = false;
        self.known = None;
    }

    /// Removes a job that has ended.
    pub(super) fn is_over(&mut self, job: Key) {
        self.unwritten.retain(|unwritten| unwritten.place.0 != job);
        let counted = self.known.as_mut().is_some_and(|known| known.row.remove(job));
        // the row that is written now, or is read next, may contain the job
        if counted || self.writing || self.known.is_none() {
            self.ended.insert(job);
        }
    }
}

fn admit(row: &mut QuotaRow, reservation: &Reservation) -> Result<(), QuotaError> {
    if row.contains(reservation.job) {
        return Ok(());
    }
    if let Some(full) = row.full(&reservation.quota) {
        return Err(full);
    }
    row.open.push(reservation.place());
    row.until = row.until.max(reservation.until);
    Ok(())
}

#[cfg(test)]
mod tests;
