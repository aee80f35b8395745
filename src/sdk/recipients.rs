//! Messages to pages.
//!
//! Owns: how their recipients are named. Never: which pages these are.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asker::{Asker, json_of};
use super::fail::RequestError;

/// The recipients of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// One page.
    Page(&'a str),
    /// The pages of a session.
    Session(&'a str),
    /// The pages of a connection: a browser or device.
    Connection(&'a str),
    /// The pages of a user.
    User(&'a str),
    /// The pages that subscribe to a topic.
    Topic(&'a str),
    /// All pages.
    All,
}

impl To<'_> {
    fn json(self) -> Value {
        match self {
            Self::Page(id) => json!({ "page": id }),
            Self::Session(id) => json!({ "session": id }),
            Self::Connection(id) => json!({ "connection": id }),
            Self::User(id) => json!({ "user": id }),
            Self::Topic(name) => json!({ "topic": name }),
            Self::All => json!({ "all": true }),
        }
    }
}

/// The pages that a message has reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reach {
    /// Pages with an open socket.
    #[serde(default)]
    pub reached: u64,
    /// Pages in their resume window, for which the message is kept.
    #[serde(default)]
    pub held: u64,
}

pub(super) async fn send(asker: &Asker, to: To<'_>, payload: &impl Serialize) -> Result<Reach, RequestError> {
    let payload = json_of("the message", payload)?;
    asker.ask("push.send", json!({ "to": to.json(), "payload": payload })).await
}

/// The user, page, session or connection that a piece of work runs for.
#[derive(Clone, Copy)]
pub struct Recipient<'a> {
    asker: &'a Asker,
    id: Option<&'a str>,
    to: fn(&'a str) -> To<'a>,
}

impl<'a> Recipient<'a> {
    pub(super) const fn new(asker: &'a Asker, id: Option<&'a str>, to: fn(&'a str) -> To<'a>) -> Self {
        Self { asker, id, to }
    }

    /// Returns its id; `None` if the work has none.
    pub const fn id(self) -> Option<&'a str> {
        self.id
    }

    /// Sends a message to its pages, wherever they are now. It reaches no page if the work has none.
    ///
    /// # Errors
    ///
    /// `stale` when the work does not stand any more; `unavailable` and `too_large` as for any message.
    pub async fn send(self, payload: &impl Serialize) -> Result<Reach, RequestError> {
        match self.id {
            Some(id) => send(self.asker, (self.to)(id), payload).await,
            None => Ok(Reach::default()),
        }
    }
}
