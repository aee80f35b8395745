//! `GET /jobs`: all jobs, or those of a state, kind, user, pool, lane, release or worker.
//!
//! Records are read in the order of their revisions, which is the only order that an engine provides: the job that
//! changed longest ago comes first, and a revision is the cursor. A job that changes while the list is read moves to
//! the end. It may be listed twice, the second time with its new state, but no job is missed.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use pagewire_cluster::engine::Unavailable;
use pagewire_cluster::id::Key;
use pagewire_cluster::job::{self, JobRecords, Record};

use super::dto::JobResponse;
use super::waiting::waits_for;
use crate::api::ApiState;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::extract::Query;
use crate::api::pagination::{PageQuery, Paginated};

/// Records per read.
const BATCH: usize = 100;
/// Maximum number of records that one request reads, so that its work is bounded even if few match.
const MOST_READ: usize = 5_000;
/// Maximum bytes of data and results in one response.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Query of the list.
#[derive(Debug, Default, PartialEq, Eq, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct JobQuery {
    /// Only in these states; repeated, or separated by commas.
    state: Vec<String>,
    /// Only for this handler.
    kind: Option<String>,
    /// Only on behalf of this user.
    user: Option<String>,
    /// Only for the workers of this pool.
    pool: Option<String>,
    /// Only for the workers of this lane; an assigned job has the lane of its last attempt, or the one that its user was
    /// in when it was submitted.
    lane: Option<String>,
    /// Only those whose last attempt was at a worker of this release.
    release: Option<String>,
    /// Only those whose current or last attempt is at this worker.
    worker: Option<String>,
    /// `next_cursor` of the previous response.
    cursor: Option<String>,
    /// Maximum number of items, up to 1000; 100 if absent.
    limit: Option<usize>,
}

/// Conditions that a record must fulfil.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    states: Vec<job::JobState>,
    kind: Option<String>,
    user: Option<String>,
    pool: Option<String>,
    lane: Option<String>,
    release: Option<String>,
    worker: Option<Key>,
}

/// A part of the list, and the cursor of the next part unless this is the last.
struct JobListPage {
    records: Vec<Record>,
    next: Option<u64>,
}

/// Lists jobs, the one that changed longest ago first.
///
/// A response can have fewer items than its limit, or none, without being the last: only the last one has no
/// `next_cursor`.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(JobQuery),
    responses((status = 200, body = Paginated<JobResponse>), (status = "default", body = ErrorBody)))]
pub(in crate::api) async fn jobs(
    State(parts): State<ApiState>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Paginated<JobResponse>>, ApiError> {
    let which = JobQuery::read(query)?;
    let after = which.after()?;
    let limit = PageQuery { cursor: None, limit: which.limit }.limit();
    let found = find(&parts.context.jobs.records, &which.filter()?, after, limit).await?;
    let context = &parts.context;
    let items = found.records.into_iter().map(|record| {
        let waiting = waits_for(context, &record);
        JobResponse::new(record, waiting)
    });
    let items = items.collect();
    Ok(Json(Paginated { items, next_cursor: found.next.map(|rev| rev.to_string()) }))
}

async fn find(
    jobs: &JobRecords,
    filter: &Filter,
    after: u64,
    limit: usize,
) -> Result<JobListPage, Unavailable> {
    let (mut records, mut seen, mut read, mut bytes) = (Vec::new(), after, 0, 0);
    loop {
        let batch = jobs.scan(seen, BATCH).await?;
        if batch.is_empty() {
            return Ok(JobListPage { records: newest(records), next: None });
        }
        for stored in batch {
            (seen, read) = (stored.rev, read + 1);
            if filter.takes(&stored.record) {
                bytes += size(&stored.record);
                records.push(stored.record);
            }
            if records.len() >= limit || bytes >= MOST_BYTES || read >= MOST_READ {
                return Ok(JobListPage { records: newest(records), next: Some(seen) });
            }
        }
    }
}

/// Keeps the newest record of each job.
fn newest(mut records: Vec<Record>) -> Vec<Record> {
    let mut known = HashSet::new();
    records.reverse();
    records.retain(|record| known.insert(record.id));
    records.reverse();
    records
}

fn size(record: &Record) -> usize {
    record.data.get().len() + record.result.as_ref().map_or(0, |result| result.get().len())
}

impl JobQuery {
    /// Parses by hand, because a parameter that occurs several times does not fit into a struct.
    fn read(query: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut which = Self::default();
        for (name, value) in query {
            let once = match name.as_str() {
                "state" => {
                    which.state.extend(value.split(',').map(str::to_owned));
                    continue;
                }
                "limit" => {
                    let limit = value.parse().map_err(|_| ApiError::malformed("limit must be a number"))?;
                    which.limit.replace(limit).is_none()
                }
                "kind" => which.kind.replace(value).is_none(),
                "user" => which.user.replace(value).is_none(),
                "pool" => which.pool.replace(value).is_none(),
                "lane" => which.lane.replace(value).is_none(),
                "release" => which.release.replace(value).is_none(),
                "worker" => which.worker.replace(value).is_none(),
                "cursor" => which.cursor.replace(value).is_none(),
                _ => {
                    let all = "state, kind, user, pool, lane, release, worker, cursor and limit";
                    let message = format!("{name:?} is not one of {all}");
                    return Err(ApiError::malformed(message));
                }
            };
            if !once {
                return Err(ApiError::malformed(format!("{name} is given twice")));
            }
        }
        Ok(which)
    }

    fn after(&self) -> Result<u64, ApiError> {
        let cursor = self.cursor.as_deref().unwrap_or("0");
        cursor.parse().map_err(|_| ApiError::malformed("this is not a cursor"))
    }

    fn filter(&self) -> Result<Filter, ApiError> {
        let state = |name: &String| {
            job::JobState::ALL.into_iter().find(|state| state.text() == name).ok_or_else(|| {
                let all = job::JobState::ALL.map(job::JobState::text).join(", ");
                ApiError::malformed(format!("{name:?} is not a state: use {all}"))
            })
        };
        let states = self.state.iter().map(state).collect::<Result<_, _>>()?;
        let worker = self.worker.as_deref().map(str::parse).transpose();
        Ok(Filter {
            states,
            kind: self.kind.clone(),
            user: self.user.clone(),
            pool: self.pool.clone(),
            lane: self.lane.clone(),
            release: self.release.clone(),
            worker: worker.map_err(|_| ApiError::malformed("worker is the id of a worker"))?,
        })
    }
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        (self.states.is_empty() || self.states.contains(&record.state))
            && self.kind.as_ref().is_none_or(|kind| *kind == record.kind)
            && self.user.as_ref().is_none_or(|user| Some(user) == record.user.as_ref())
            && self.pool.as_ref().is_none_or(|pool| *pool == record.pool)
            && self.lane.as_ref().is_none_or(|lane| *lane == record.lane)
            && self.release.as_ref().is_none_or(|release| Some(release) == record.release.as_ref())
            && self.worker.is_none_or(|id| record.worker.is_some_and(|worker| worker.id == id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<(JobQuery, Filter), ()> {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let which = JobQuery::read(query).map_err(drop)?;
        which.after().map_err(drop)?;
        let filter = which.filter().map_err(drop)?;
        Ok((which, filter))
    }

    #[test]
    fn states_come_several_times_or_separated_by_commas() {
        let states = |query: &[(&str, &str)]| read(query).unwrap().1.states;
        let both = vec![job::JobState::Queued, job::JobState::Running];
        assert_eq!(states(&[("state", "queued"), ("state", "running")]), both);
        assert_eq!(states(&[("state", "queued,running")]), both);
        assert!(states(&[("kind", "echo")]).is_empty());
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for query in [
            &[("colour", "blue")][..],
            &[("state", "asleep")],
            &[("state", "")],
            &[("limit", "few")],
            &[("cursor", "x")],
            &[("kind", "a"), ("kind", "b")],
            &[("lane", "a"), ("lane", "b")],
            &[("worker", "the old one")],
        ] {
            assert!(read(query).is_err(), "{query:?}");
        }
    }
}
