//! Every message between processes, each beside its answer.
//!
//! Owns: their JSON shapes. A change here answers three questions: old reader and new data, new reader and old
//! data, mid-rollout. Unknown members are ignored, unknown types answered [`Answer::Unsupported`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{Address, Key, NodeNumber};

/// Whose pages a delivery is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One page, wherever its address says.
    Page(Address),
    /// All pages of a session.
    Session(Key),
    /// All pages of a connection.
    Connection(Key),
    /// All pages of a user.
    User(String),
    /// All pages.
    All,
}

/// What one node asks another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Question {
    /// Deliver a message to your pages of a scope. Answer: [`Answer::Delivered`], for a page also
    /// [`Answer::Unknown`].
    Deliver(Delivery),
    /// Another node holds this page now: let go of it. Answer: [`Answer::Done`] or [`Answer::Unknown`].
    Yield {
        /// The page.
        page: Key,
        /// The generation of the new holder.
        generation: u32,
    },
    /// The connection belongs to this user now: re-label its pages. Answer: [`Answer::Done`].
    Identify {
        /// The connection.
        connection: Key,
        /// The user.
        user: String,
    },
    /// Are you alive in this epoch? Answer: [`Answer::Done`].
    Alive,
    /// A type of a newer release.
    #[serde(other)]
    Unknown,
}

/// A message for pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Delivery {
    /// Whose pages.
    pub to: Scope,
    /// Raw JSON, as the sender wrote it.
    pub payload: Box<RawValue>,
    /// The page that sent it, if a page did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Address>,
}

/// How many pages a delivery met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Pages with an open socket.
    pub reached: u64,
    /// Pages in their resume window.
    pub held: u64,
}

impl std::ops::AddAssign for Reach {
    fn add_assign(&mut self, other: Self) {
        self.reached += other.reached;
        self.held += other.held;
    }
}

/// What the other node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// Handed to this many pages.
    Delivered(Reach),
    /// This node does not hold that page.
    Unknown,
    /// That page lives here now.
    Moved {
        /// Its node.
        node: NodeNumber,
    },
    /// Done.
    Done,
    /// This release does not know the question.
    #[serde(other)]
    Unsupported,
}

/// The bytes of a message. Serialising these shapes cannot fail: string keys, no foreign `Serialize`.
pub fn encode(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).map(Bytes::from).unwrap_or_default()
}

/// Reads a question. A known type with wrong members is `None`: its sender is broken, not newer.
pub fn decode_question(bytes: &[u8]) -> Option<Question> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct YieldMembers {
        page: Key,
        generation: u32,
    }
    #[derive(Deserialize)]
    struct IdentifyMembers {
        connection: Key,
        user: String,
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let envelope: Envelope<'_> = serde_json::from_str(text).ok()?;
    // not through the tagged enum: buffering a tag loses the raw payload
    Some(match envelope.kind.as_ref() {
        "deliver" => Question::Deliver(serde_json::from_str(text).ok()?),
        "yield" => {
            let YieldMembers { page, generation } = serde_json::from_str(text).ok()?;
            Question::Yield { page, generation }
        }
        "identify" => {
            let IdentifyMembers { connection, user } = serde_json::from_str(text).ok()?;
            Question::Identify { connection, user }
        }
        "alive" => Question::Alive,
        _ => Question::Unknown,
    })
}

/// Reads an answer.
pub fn decode_answer(bytes: &[u8]) -> Option<Answer> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(question: &Question) -> String {
        format!("{:?}", decode_question(&encode(question)).unwrap())
    }

    #[test]
    fn every_question_reads_back_as_written() {
        let page = Key::from_bits(7);
        let payload: Box<RawValue> = serde_json::from_str(r#"{"z":1,  "a":2}"#).unwrap();
        for question in [
            Question::Deliver(Delivery { to: Scope::User("a.b".into()), payload, from: None }),
            Question::Yield { page, generation: 3 },
            Question::Identify { connection: page, user: "*".into() },
            Question::Alive,
        ] {
            assert_eq!(read_back(&question), format!("{question:?}"));
        }
    }

    #[test]
    fn a_question_of_a_newer_release_is_recognised_as_such() {
        assert!(matches!(decode_question(br#"{"type":"juggle","balls":3}"#), Some(Question::Unknown)));
        assert!(decode_question(br#"{"type":"yield"}"#).is_none());
        assert_eq!(decode_answer(br#"{"type":"juggled"}"#), Some(Answer::Unsupported));
    }
}
