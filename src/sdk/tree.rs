//! State trees: reading, writing, and changes with compare-and-set.
//!
//! Owns: the requests `state.get` and `state.patch`, and how a change is repeated. Never: the order of writes, or the
//! fence of a write of assigned work (`pagewire_worker::effects`).

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::asker::{Asker, json_of, unreadable};
use super::fail::{Fail, RequestError};

/// How often a change is tried while other writers change the tree.
const TRIES: u32 = 32;
/// The pause after the first conflict; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(2);
/// How often the pause doubles.
const DOUBLINGS: u32 = 5;

/// Which kind of owner a state tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A user.
    User,
    /// A connection: a browser or device.
    Connection,
    /// A session.
    Session,
    /// A page.
    Page,
}

/// One state tree. Paths are written `wizard.form.name`; the empty path is the whole tree.
#[derive(Clone)]
pub struct Tree {
    asker: Asker,
    level: Level,
    /// `None` for the tree that the work belongs to.
    id: Option<String>,
}

/// A value of a state tree, with the revision of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading<T> {
    /// The value; `None` if there is none at the path.
    pub value: Option<T>,
    /// The revision of the tree, for a later write.
    pub revision: u64,
}

/// A change of one path of a state tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Change(Value);

impl Change {
    /// Creates a change that writes a value.
    ///
    /// # Errors
    ///
    /// `malformed` if the value is no JSON.
    pub fn set(path: &str, value: &impl Serialize) -> Result<Self, RequestError> {
        Ok(Self(json!({ "path": path, "value": json_of("the value", value)? })))
    }

    /// Creates a change that deletes a value or branch.
    pub fn delete(path: &str) -> Self {
        Self(json!({ "path": path, "delete": true }))
    }
}

#[derive(Deserialize)]
struct ReadReply {
    /// Absent if there is no value at the path.
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    revision: u64,
}

/// Reads a member that is there, so that `null` is a value.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct WrittenReply {
    revision: u64,
}

impl Tree {
    pub(super) const fn new(asker: Asker, level: Level, id: Option<String>) -> Self {
        Self { asker, level, id }
    }

    /// Returns the value at a path; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `internal` if the value has another type than `T`; otherwise that of the request.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, RequestError> {
        Ok(self.read(path).await?.value)
    }

    /// Returns the value at a path with the revision of the tree.
    ///
    /// # Errors
    ///
    /// As for [`Tree::get`].
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Reading<T>, RequestError> {
        let ReadReply { value, revision } = self.ask("state.get", [("path", json!(path))]).await?;
        let value = value.map(serde_json::from_value).transpose().map_err(unreadable)?;
        Ok(Reading { value, revision })
    }

    /// Writes a value and returns the revision of the tree.
    ///
    /// # Errors
    ///
    /// `stale` when the work that writes does not stand any more; otherwise that of the request.
    pub async fn set(&self, path: &str, value: &impl Serialize) -> Result<u64, RequestError> {
        self.patch(&[Change::set(path, value)?], None).await
    }

    /// Deletes the value or branch at a path and returns the revision of the tree.
    ///
    /// # Errors
    ///
    /// As for [`Tree::set`].
    pub async fn delete(&self, path: &str) -> Result<u64, RequestError> {
        self.patch(&[Change::delete(path)], None).await
    }

    /// Makes several changes, all or none, and returns the revision of the tree.
    ///
    /// # Errors
    ///
    /// `conflict` if the tree is not at `if_revision`; otherwise as for [`Tree::set`].
    pub async fn patch(&self, changes: &[Change], if_revision: Option<u64>) -> Result<u64, RequestError> {
        let changes: Vec<&Value> = changes.iter().map(|change| &change.0).collect();
        let condition = if_revision.map(|revision| ("if_revision", json!(revision)));
        let params = [("changes", json!(changes))].into_iter().chain(condition);
        Ok(self.ask::<WrittenReply>("state.patch", params).await?.revision)
    }

    /// Reads the value at a path, changes it and writes it, again after each conflict with another writer. An absent value
    /// is the default of `T`. `change` may be called several times; nothing is written if it fails.
    ///
    /// # Errors
    ///
    /// That of `change`, `conflict` after many tries, otherwise as for [`Tree::set`].
    pub async fn update<T, R>(
        &self,
        path: &str,
        mut change: impl FnMut(&mut T) -> Result<R, Fail> + Send,
    ) -> Result<R, Fail>
    where
        T: DeserializeOwned + Serialize + Default + Send,
        R: Send,
    {
        let mut conflicts = 0;
        loop {
            let Reading { value, revision } = self.read::<T>(path).await?;
            let mut value = value.unwrap_or_default();
            let result = change(&mut value)?;
            match self.patch(&[Change::set(path, &value)?], Some(revision)).await {
                Ok(_) => return Ok(result),
                Err(error) if error.is_conflict() && conflicts < TRIES => {
                    let longest = PAUSE * (1 << conflicts.min(DOUBLINGS));
                    conflicts += 1;
                    tokio::time::sleep(longest.mul_f64(rand::random::<f64>())).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Result<T, RequestError> {
        let id = self.id.as_ref().map(|id| ("id", json!(id)));
        let place = [("level", json!(self.level))].into_iter().chain(id);
        let all: Map<String, Value> =
            place.chain(params).map(|(name, value)| (name.to_owned(), value)).collect();
        self.asker.ask(method, all.into()).await
    }
}
