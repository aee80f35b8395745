//! Kinds of work that kill their executors.
//!
//! Owns: which kinds are suspected or quarantined in a pool, and the one row of a pool that says so. Never: how an
//! executor is started or how its death is noticed, or the work that it ran (`Outcome::Lost`).
//!
//! An executor may run several pieces of work when it dies without an explanation. All their kinds are suspected then,
//! and run alone. Only a death while a kind runs alone counts; three of those, with no end in between, quarantine the
//! kind until an operator lifts it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{Bucket, Consistency, Engine, Kv, Precondition, Put, Unavailable, WriteError};
use crate::subject::cluster_key;
use crate::wire;

/// How many deaths alone quarantine a kind.
pub const MAX_DEATHS: u32 = 3;
/// Maximum length of the log that is kept of the last death, in bytes.
pub const MAX_LOG: usize = 2048;
/// Maximum number of suspected and quarantined kinds of a pool; above it the oldest suspect is forgotten.
const MAX_KINDS: usize = 64;
/// How often a write is repeated because another process was first.
const TRIES: u32 = 8;

/// The death of an executor, as its worker saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorDeath {
    /// Whether the executor ran nothing else.
    pub alone: bool,
    /// Last lines of its log.
    pub log: String,
    /// Release of the worker.
    pub release: String,
    /// When it was noticed, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// What is known of a kind whose executor has died.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectedKind {
    /// Deaths while the kind ran alone, without an end in between.
    pub deaths: u32,
    /// Last lines of the log of the executor that died last, at most [`MAX_LOG`] bytes.
    #[serde(default)]
    pub log: String,
    /// Release of the worker of that executor.
    #[serde(default)]
    pub release: String,
    /// When that executor died, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub at: u64,
}

/// The suspected and quarantined kinds of a pool: the value of the row `quarantine.<pool>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Name of the pool.
    #[serde(default)]
    pub pool: String,
    /// Each kind by its name.
    #[serde(default)]
    pub kinds: BTreeMap<String, SuspectedKind>,
}

/// An event of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindEvent {
    /// The executor of the kind died.
    Died(ExecutorDeath),
    /// The kind ran alone and ended.
    Survived,
    /// An operator lets the kind run again.
    Lifted,
}

impl Quarantine {
    /// Returns whether the kind has to run alone.
    pub fn is_suspect(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    /// Returns what is known of a kind that does not run any more.
    pub fn refused(&self, kind: &str) -> Option<&SuspectedKind> {
        self.kinds.get(kind).filter(|known| known.deaths >= MAX_DEATHS)
    }

    /// Applies an event. Returns `None` when it changes nothing.
    #[must_use]
    pub fn after(&self, kind: &str, event: &KindEvent) -> Option<Self> {
        let mut next = self.clone();
        match event {
            KindEvent::Died(death) => {
                next.make_room(kind)?;
                let known = next.kinds.entry(kind.to_owned()).or_default();
                let deaths = (known.deaths + u32::from(death.alone)).min(MAX_DEATHS);
                let log = tail(&death.log).to_owned();
                *known = SuspectedKind { deaths, log, release: death.release.clone(), at: death.at };
            }
            KindEvent::Survived if self.refused(kind).is_some() => return None,
            KindEvent::Survived | KindEvent::Lifted => drop(next.kinds.remove(kind)?),
        }
        (next != *self).then_some(next)
    }

    /// Makes room for a kind. Returns `None` when all others are quarantined.
    fn make_room(&mut self, kind: &str) -> Option<()> {
        if self.kinds.len() < MAX_KINDS || self.kinds.contains_key(kind) {
            return Some(());
        }
        let suspects = self.kinds.iter().filter(|(_, known)| known.deaths < MAX_DEATHS);
        let oldest = suspects.min_by_key(|(_, known)| known.at)?.0.clone();
        self.kinds.remove(&oldest);
        Some(())
    }
}

/// Returns the last bytes of a log, in whole characters.
fn tail(log: &str) -> &str {
    let from = log.len().saturating_sub(MAX_LOG);
    (from..=log.len()).find_map(|from| log.get(from..)).unwrap_or_default()
}

/// The quarantines of all pools. Cheap to clone.
#[derive(Clone)]
pub struct Quarantines {
    rows: Kv,
}

impl Quarantines {
    /// Opens the quarantines of the engine's cluster.
    pub fn new(engine: &Engine) -> Self {
        Self { rows: engine.kv(Bucket::Cluster) }
    }

    /// Reads the quarantine of a pool.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn of(&self, pool: &str) -> Result<Quarantine, Unavailable> {
        Ok(self.read(pool, Consistency::Any).await?.0)
    }

    /// Reads the quarantines of all pools.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable.
    pub async fn all(&self) -> Result<Vec<Quarantine>, Unavailable> {
        let entries = self.rows.list(cluster_key::QUARANTINES).await?;
        Ok(entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect())
    }

    /// Applies an event to a kind of a pool. Returns whether it changed anything.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the engine is unavailable, or other processes were first too often.
    pub async fn apply(&self, pool: &str, kind: &str, event: &KindEvent) -> Result<bool, Unavailable> {
        for _ in 0..TRIES {
            let (known, expect) = self.read(pool, Consistency::Latest).await?;
            let Some(next) = known.after(kind, event) else { return Ok(false) };
            let next = Quarantine { pool: pool.to_owned(), ..next };
            let put = Put::new(cluster_key::quarantine(pool), wire::encode(&next), expect);
            match self.rows.put(put).await {
                Ok(_) => return Ok(true),
                // without a reply the write may have happened: a death counts twice at worst
                Err(WriteError::Conflict { .. } | WriteError::Unknown) => {}
                Err(_) => return Err(Unavailable),
            }
        }
        Err(Unavailable)
    }

    async fn read(
        &self,
        pool: &str,
        consistency: Consistency,
    ) -> Result<(Quarantine, Precondition), Unavailable> {
        let entry = self.rows.get(&cluster_key::quarantine(pool), consistency).await?;
        let Some(entry) = entry else { return Ok((Quarantine::default(), Precondition::Absent)) };
        let known = serde_json::from_slice(&entry.value).map_err(|error| {
            tracing::error!(pool, %error, "a quarantine of an unknown shape is neither read nor written");
            Unavailable
        })?;
        Ok((known, Precondition::Rev(entry.rev)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::Memory;

    fn died(alone: bool) -> KindEvent {
        KindEvent::Died(ExecutorDeath { alone, log: "out of memory".into(), release: "r".into(), at: 7 })
    }

    proptest! {
        #[test]
        fn a_kind_is_quarantined_by_three_deaths_alone_in_a_row_and_by_nothing_else(
            events in prop::collection::vec((0..3_usize, 0..10_u8), 0..80),
        ) {
            let names = ["a", "b", "c"];
            let (mut known, mut deaths) = (Quarantine::default(), [0_u32; 3]);
            for (kind, event) in events {
                let event = match event {
                    0..4 => died(true),
                    4..6 => died(false),
                    6..9 => KindEvent::Survived,
                    _ => KindEvent::Lifted,
                };
                let quarantined = deaths[kind] >= MAX_DEATHS;
                match event {
                    KindEvent::Died(ExecutorDeath { alone, .. }) => deaths[kind] += u32::from(alone),
                    KindEvent::Survived if quarantined => {}
                    KindEvent::Survived | KindEvent::Lifted => deaths[kind] = 0,
                }
                let before = known.clone();
                known = known.after(names[kind], &event).unwrap_or(known);
                for (other, name) in names.iter().enumerate() {
                    prop_assert_eq!(known.refused(name).is_some(), deaths[other] >= MAX_DEATHS);
                    prop_assert!(other == kind || known.kinds.get(*name) == before.kinds.get(*name));
                }
                prop_assert!(!matches!(event, KindEvent::Died(_)) || known.is_suspect(names[kind]));
            }
        }

        #[test]
        fn a_log_is_cut_at_its_beginning_in_whole_characters(log in "\\PC{0,3000}") {
            let kept = tail(&log);
            prop_assert!(log.ends_with(kept) && kept.len() <= MAX_LOG && kept.len() + 4 > log.len().min(MAX_LOG));
        }
    }

    #[test]
    fn the_kinds_of_a_pool_are_bounded_and_a_quarantined_one_stays() {
        let mut known = Quarantine::default();
        for _ in 0..MAX_DEATHS {
            known = known.after("deadly", &died(true)).unwrap_or(known);
        }
        for number in 0..2 * MAX_KINDS {
            known = known.after(&format!("kind {number}"), &died(false)).unwrap();
        }
        assert_eq!(known.kinds.len(), MAX_KINDS);
        assert!(known.refused("deadly").is_some());
    }

    #[tokio::test]
    async fn deaths_of_several_processes_are_counted_together_and_an_operator_lifts_the_kind() {
        let engine = Engine::Memory(Memory::new());
        let [one, other] = [Quarantines::new(&engine), Quarantines::new(&engine)];
        let (first, second) = (died(true), died(true));
        let (first, second) = tokio::join!(one.apply("p", "k", &first), other.apply("p", "k", &second));
        assert_eq!((first, second), (Ok(true), Ok(true)));
        assert!(one.of("p").await.unwrap().refused("k").is_none());
        assert_eq!(one.apply("p", "k", &died(true)).await, Ok(true));
        let refused = other.of("p").await.unwrap().refused("k").cloned().unwrap();
        assert_eq!((refused.deaths, refused.log.as_str()), (3, "out of memory"));
        assert_eq!(one.all().await.unwrap()[0].pool, "p");
        assert!(other.of("q").await.unwrap().refused("k").is_none(), "another pool");
        assert_eq!(other.apply("p", "k", &KindEvent::Lifted).await, Ok(true));
        assert_eq!(other.apply("p", "k", &KindEvent::Lifted).await, Ok(false));
        assert!(!one.of("p").await.unwrap().is_suspect("k"));
    }
}
