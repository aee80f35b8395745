//! Messages about resident pages and their objects.

use serde::{Deserialize, Serialize};

use crate::id::Key;

/// The class of the object of a resident page, as the page names it when it opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentClass {
    /// Name of the class.
    pub class: String,
    /// Pool of the workers that have the class; the default one when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Splits the name of a method into that of the class of its object and the rest, which is empty in the name of a class.
pub fn split_method(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

/// Why an object moves, or is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveReason {
    /// Its worker drains.
    Drain,
    /// Its process is replaced.
    Recycle,
    /// It was not used for long.
    Idle,
    /// Its pool has as many objects as it may have.
    Full,
    /// Its process needs too much memory.
    Memory,
    /// Its page has logged in.
    User,
    /// Its page belongs to another lane.
    Lane,
    /// Its user belongs to another worker.
    Moved,
    /// Its executor has died.
    Lost,
}

impl MoveReason {
    /// Returns its name.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Recycle => "recycle",
            Self::Idle => "idle",
            Self::Full => "full",
            Self::Memory => "memory",
            Self::User => "user",
            Self::Lane => "lane",
            Self::Moved => "moved",
            Self::Lost => "lost",
        }
    }
}

/// What has happened to a resident page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageEvent {
    /// It has opened, or its object may have been lost: it is made unless it lives.
    Wake,
    /// It has lost its socket.
    Away,
    /// It has a socket again.
    Back,
    /// It has ended.
    Close,
}

/// A request to give up the object of a resident page. The response says whether the worker had it; the object has been
/// saved by then, or closed. A worker of an older release does not reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRequest {
    /// The page.
    pub page: Key,
    /// Why; `None` when the page has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<MoveReason>,
}

/// The response to an [`ObjectRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectGiven {
    /// Whether the worker had the object.
    pub had: bool,
}

/// What a page is told about its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectNotice {
    /// Class of the object.
    pub class: String,
    /// What has become of it.
    pub state: ObjectState,
    /// Why it was made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<MoveReason>,
}

/// What has become of the object of a resident page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectState {
    /// It was made, and there was none before.
    Open,
    /// It was made again, from what the one before it had kept.
    Restored,
    /// It was made again from its state trees: what it had in memory is lost.
    Rebuilt,
}
