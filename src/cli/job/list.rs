//! `pagewire job list`.

use std::collections::{BTreeMap, HashMap};

use clap::Args;
use serde_json::{Value, json};

use super::{print, table};
use crate::cli::CommandFailure;
use crate::cli::api_client::{ApiClient, escape};

/// Filters and limits of the list.
#[derive(Args)]
pub(super) struct ListArgs {
    /// Only jobs in these states, separated by commas; can be repeated.
    #[arg(long)]
    state: Vec<String>,
    /// Only jobs of this handler.
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs of this user.
    #[arg(long)]
    user: Option<String>,
    /// Only jobs for the workers of this pool.
    #[arg(long)]
    pool: Option<String>,
    /// Only jobs for the workers of this lane.
    #[arg(long)]
    lane: Option<String>,
    /// Only jobs whose last attempt was at a worker of this release.
    #[arg(long)]
    release: Option<String>,
    /// Only jobs whose current or last attempt is at this worker.
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// The most jobs to list; the ones that changed last are kept.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

impl ListArgs {
    /// Reads all pages of the list, because the server lists the job that changed longest ago first.
    pub(super) async fn run(self, server: &ApiClient) -> Result<(), CommandFailure> {
        let mut last = LastPage { limit: self.limit, ..LastPage::default() };
        let mut cursor = None;
        loop {
            let piece = server.get(&self.path(cursor.as_deref())).await?;
            for job in piece["items"].as_array().into_iter().flatten() {
                last.push(job);
            }
            match piece["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        print(
            server,
            &json!({"items": last.jobs.into_values().collect::<Vec<_>>(), "next_cursor": null}),
            table::jobs,
        );
        Ok(())
    }

    fn path(&self, cursor: Option<&str>) -> String {
        let once = [
            ("kind", self.kind.as_deref()),
            ("user", self.user.as_deref()),
            ("pool", self.pool.as_deref()),
            ("lane", self.lane.as_deref()),
            ("release", self.release.as_deref()),
            ("worker", self.worker.as_deref()),
            ("cursor", cursor),
        ];
        let once = once.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let states = self.state.iter().map(|state| ("state", state.as_str()));
        let parameters = states.chain(once).map(|(name, value)| format!("&{name}={}", escape(value)));
        format!("/jobs?limit=1000{}", parameters.collect::<String>())
    }
}

/// The jobs that changed last, each once. A job that changes while the list is read arrives twice.
#[derive(Default)]
struct LastPage {
    limit: usize,
    count: usize,
    /// In order of arrival.
    jobs: BTreeMap<usize, Value>,
    places: HashMap<String, usize>,
}

impl LastPage {
    fn push(&mut self, job: &Value) {
        self.count += 1;
        if let Some(place) = self.places.insert(id(job), self.count) {
            self.jobs.remove(&place);
        }
        self.jobs.insert(self.count, job.clone());
        if self.jobs.len() > self.limit
            && let Some((_, first)) = self.jobs.pop_first()
        {
            self.places.remove(&id(&first));
        }
    }
}

fn id(job: &Value) -> String {
    job["id"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_each_as_it_came_last() {
        let mut last = LastPage { limit: 2, ..LastPage::default() };
        for (id, state) in
            [("a", "queued"), ("b", "queued"), ("a", "running"), ("c", "queued"), ("a", "dead")]
        {
            last.push(&json!({"id": id, "state": state}));
        }
        let jobs: Vec<Value> = last.jobs.into_values().collect();
        assert_eq!(jobs, [json!({"id": "c", "state": "queued"}), json!({"id": "a", "state": "dead"})]);
    }

    #[test]
    fn what_is_asked_for_is_a_query() {
        let list = ListArgs {
            state: vec!["queued,running".into(), "dead".into()],
            kind: None,
            user: Some("a&b".into()),
            pool: None,
            lane: Some("canary".into()),
            release: None,
            worker: None,
            limit: 1,
        };
        assert_eq!(
            list.path(Some("7")),
            "/jobs?limit=1000&state=queued%2Crunning&state=dead&user=a%26b&lane=canary&cursor=7"
        );
    }
}
