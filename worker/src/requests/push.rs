//! `push.send`: messages to pages.
//!
//! Owns: the scope that a request names. Never: which pages it has.

use pagewire_cluster::id::{Address, Scope};
use pagewire_cluster::wire::HandlerError;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::{AnyKey, Members, malformed};
use super::reply;
use crate::effects::Effects;
use crate::handlers::HandlerResult;

/// Recipients of a message.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Recipients {
    Page(Address),
    Session(AnyKey),
    Connection(AnyKey),
    User(String),
    Topic(String),
    All(bool),
}

/// `push.send`.
pub(super) struct SendPush {
    to: Scope,
    payload: Box<RawValue>,
}

impl SendPush {
    pub(super) fn parse(members: &mut Members) -> Result<Self, HandlerError> {
        let to = match members.required("to")? {
            Recipients::Page(page) => Scope::Page(page),
            Recipients::Session(AnyKey(session)) => Scope::Session(session),
            Recipients::Connection(AnyKey(connection)) => Scope::Connection(connection),
            Recipients::User(user) => Scope::User(user),
            Recipients::Topic(topic) => Scope::Topic(topic),
            Recipients::All(true) => Scope::All,
            Recipients::All(false) => return Err(malformed("to", "all must be true or absent")),
        };
        let payload = members.json("payload").ok_or_else(|| malformed("payload", "it is missing"))?;
        Ok(Self { to, payload })
    }

    pub(super) async fn run(self, effects: &Effects) -> HandlerResult {
        reply(&effects.push(self.to, self.payload).await?)
    }
}

#[cfg(test)]
mod tests {
    use pagewire_cluster::id::{Key, NodeNumber};
    use serde_json::json;

    use super::*;

    #[test]
    fn every_scope_can_be_named_and_a_session_with_or_without_its_node() {
        let key = Key::from_bits(7);
        let address = Address { key, node: NodeNumber::new(1).unwrap() };
        for (to, scope) in [
            (json!({"page": address}), Scope::Page(address)),
            (json!({"session": key}), Scope::Session(key)),
            (json!({"session": address}), Scope::Session(key)),
            (json!({"connection": key}), Scope::Connection(key)),
            (json!({"user": "ann"}), Scope::User("ann".into())),
            (json!({"topic": "news"}), Scope::Topic("news".into())),
            (json!({"all": true}), Scope::All),
        ] {
            let params = json!({"to": to, "payload": null}).to_string();
            let mut members = Members::parse(&RawValue::from_string(params).unwrap()).unwrap();
            let push = SendPush::parse(&mut members).unwrap();
            assert_eq!((push.to, push.payload.get()), (scope, "null"));
        }
    }
}
