//! What the page of a Genropy site sends over its socket. Pure.
//!
//! Owns: reading a text, and the answers to commands that are not served. Never: pages.

use serde::Deserialize;

/// Longest token of a command that is answered.
const MAX_TOKEN: usize = 64;

/// A command of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SiteCommand {
    /// The socket is that of this page.
    Connected {
        /// The page.
        page: String,
    },
    /// The page is there.
    Ping,
    /// Nothing follows from it.
    Ignored,
    /// It is not served; the answer says so.
    Refused {
        /// The answer.
        answer: String,
    },
}

/// The members of a text that are read.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    command: String,
    page_id: Option<String>,
    result_token: Option<String>,
}

impl SiteCommand {
    /// Reads a text. One that is no JSON object is ignored, as by the server of the framework.
    pub(super) fn parse(text: &str) -> Self {
        let Ok(message) = serde_json::from_str::<Message>(text) else { return Self::Ignored };
        match (message.command.as_str(), message.page_id) {
            ("connected", Some(page)) => Self::Connected { page },
            ("ping", _) => Self::Ping,
            ("user_event", _) => Self::Ignored,
            _ => Self::Refused { answer: refusal(message.result_token.as_deref()) },
        }
    }
}

/// Returns the answer to a command that is not served: with the token of the command, because the page waits for that.
fn refusal(token: Option<&str>) -> String {
    let is_plain = |token: &&str| {
        token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match token.filter(is_plain) {
        Some(token) => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<GenRoBag><token>{token}</token>\
             <envelope><error>WRONG COMMAND: Pagewire serves no commands over this socket</error></envelope></GenRoBag>"
        ),
        None => "WRONG COMMAND: None".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_what_is_not_served_is_answered() {
        let connected = SiteCommand::Connected { page: "abc".into() };
        assert_eq!(SiteCommand::parse(r#"{"command":"connected","page_id":"abc"}"#), connected);
        assert_eq!(SiteCommand::parse(r#"{"lastEventAge":"5::L","command":"ping"}"#), SiteCommand::Ping);
        for ignored in ["", "pong", "[]", "{\"command\":5}", r#"{"command":"user_event","event":{}}"#] {
            assert_eq!(SiteCommand::parse(ignored), SiteCommand::Ignored, "{ignored}");
        }
        let answer = |text: &str| match SiteCommand::parse(text) {
            SiteCommand::Refused { answer } => answer,
            other => panic!("{other:?}"),
        };
        assert!(answer(r#"{"command":"call","result_token":"wstk_1"}"#).contains("<token>wstk_1</token>"));
        for unsafe_token in [r#"{"command":"call"}"#, r#"{"command":"call","result_token":"<a>"}"#, "{}"] {
            assert_eq!(answer(unsafe_token), "WRONG COMMAND: None");
        }
    }
}
