//! `[executors]`: where work runs, and the workers that may work.

use std::collections::BTreeMap;

use pagewire_cluster::worker::{Discovery, ExecMode, ListedWorker, WorkerType};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Value;

use super::check::Problems;

/// `[executors]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorsConfig {
    /// How the workers are found.
    pub discovery: DiscoveryMode,
    /// The workers that get work when `discovery` is `manual`.
    #[serde(deserialize_with = "listed")]
    pub worker: Vec<ListedWorker>,
    /// Which executors are asked first for work that any of them may run.
    pub prefer: Preference,
    /// Where the work of a method runs if its caller does not say it. A job runs with `inline` as with `any`.
    pub mode: BTreeMap<String, ExecMode>,
}

/// Which executors are asked first; the others are asked if these are full or absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// Those of the node itself.
    Local,
    /// Workers outside of nodes.
    Remote,
}

/// How the workers of a cluster are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscoveryMode {
    /// Every worker of the cluster gets work.
    Auto,
    /// Only listed workers get work.
    Manual,
}

impl ExecutorsConfig {
    /// Returns how this process finds the workers.
    pub fn discovery(&self) -> Discovery {
        match self.discovery {
            DiscoveryMode::Auto => Discovery::Auto,
            DiscoveryMode::Manual => Discovery::Manual(self.worker.clone()),
        }
    }

    pub(super) fn check(&self, alone: bool, found: &mut Problems) {
        for (index, worker) in self.worker.iter().enumerate() {
            found.length("executors.worker", &worker.name, 1..=128);
            if self.worker[..index].iter().any(|other| other.name == worker.name) {
                found.add("executors.worker", format!("{:?} is listed twice", worker.name));
            }
        }
        for method in self.mode.keys() {
            found.length("executors.mode", method, 1..=200);
        }
        if alone && self.discovery == DiscoveryMode::Manual {
            let problem = "manual is for a cluster with nats.urls: a node without NATS is its only worker";
            found.add("executors.discovery", problem);
        }
    }

    pub(super) fn warning(&self) -> Option<&'static str> {
        match (self.discovery, self.worker.is_empty()) {
            (DiscoveryMode::Auto, false) => {
                Some("executors.worker has no effect: executors.discovery is not manual")
            }
            (DiscoveryMode::Manual, true) => Some("executors.worker is empty: no worker gets work"),
            _ => None,
        }
    }
}

/// Reads the list from tables, or from texts `name` and `name=type` as in the environment.
fn listed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ListedWorker>, D::Error> {
    let items = Vec::<Value>::deserialize(deserializer)?;
    let read = |item| match item {
        Value::String(text) => {
            let (name, kind) = match text.split_once('=') {
                Some((name, kind)) => {
                    (name, Value::String(kind.to_owned()).try_into().map_err(D::Error::custom)?)
                }
                None => (text.as_str(), WorkerType::Both),
            };
            Ok(ListedWorker { name: name.to_owned(), kind })
        }
        table => table.try_into().map_err(D::Error::custom),
    };
    items.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn loaded(file: &str) -> Result<Discovery, String> {
        let mut table: toml::Table = toml::from_str(super::super::DEFAULTS).unwrap();
        let Some(Value::Table(executors)) = table.remove("executors") else { panic!("a section") };
        let mut section = executors;
        section.extend(toml::from_str::<toml::Table>(file).unwrap());
        let read: Result<ExecutorsConfig, _> = Value::Table(section).try_into();
        read.map(|executors| executors.discovery()).map_err(|error| error.to_string())
    }

    #[test]
    fn workers_are_listed_as_tables_or_as_texts_and_not_at_all_by_default() {
        assert_eq!(load(&Sources::default()).unwrap().executors.discovery(), Discovery::Auto);
        let expected = Discovery::Manual(vec![
            ListedWorker { name: "a".into(), kind: WorkerType::Both },
            ListedWorker { name: "b".into(), kind: WorkerType::Free },
        ]);
        let tables =
            "discovery = \"manual\"\n[[worker]]\nname = \"a\"\n[[worker]]\nname = \"b\"\ntype = \"free\"";
        assert_eq!(loaded(tables).as_ref(), Ok(&expected));
        assert_eq!(loaded("discovery = \"manual\"\nworker = [\"a\", \"b=free\"]").as_ref(), Ok(&expected));
        for wrong in
            ["worker = [\"a=some\"]", "[[worker]]\nname = \"a\"\nkind = \"free\"", "discovery = \"no\""]
        {
            assert!(loaded(wrong).is_err(), "{wrong}");
        }
    }
}
