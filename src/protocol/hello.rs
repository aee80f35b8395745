//! The first frame of a socket.
//!
//! Owns: which page a client asks for, and what the client knows. Never: the check of it.

use pagewire_cluster::wire::ResidentClass;
use serde::Deserialize;

use super::GivenId;
use super::frame::{Envelope, FrameId, malformed, shallow};
use super::{CommandError, ErrorCode, PathRef, read};

/// Maximum length of the name of a class, in bytes.
const MAX_CLASS: usize = 200;

/// The feature of a client that knows `move`.
const MOVE: &str = "move";

/// The first frame of a socket.
#[derive(Debug, Default, Deserialize)]
pub struct Hello {
    /// Existing connection (browser) to join.
    pub connection_id: Option<GivenId>,
    /// Existing session to join.
    pub session_id: Option<GivenId>,
    /// Page to resume, with `resume`; or the page of an older deployment.
    pub page_id: Option<GivenId>,
    /// Token of a user (JWT).
    pub token: Option<String>,
    /// Proof and position for resuming `page_id`.
    pub resume: Option<Resume>,
    /// Paths of state trees that the page watches, in place of all earlier ones. `None` keeps the earlier ones, if
    /// the page is recovered.
    pub watch: Option<Vec<PathRef>>,
    /// Ids of jobs for which the page still waits.
    #[serde(default)]
    pub pending: Vec<FrameId>,
    /// What the client knows beside the first version of the protocol.
    #[serde(default)]
    pub features: Vec<String>,
    /// The class of the object that the page gets, if it is a resident page.
    #[serde(default)]
    pub resident: Option<ResidentClass>,
    /// The page is to be opened here, whatever its lane is: the client has moved, or cannot.
    #[serde(default)]
    pub stay: bool,
}

/// The client's proof and position for resuming a page.
#[derive(Debug, Deserialize)]
pub struct Resume {
    /// Token of the last `registered`.
    pub token: String,
    /// Last `seq` seen, 0 for none.
    pub seq: u64,
}

impl Hello {
    /// Returns whether the client opens a second socket when it receives `move`.
    pub fn knows_move(&self) -> bool {
        self.features.iter().any(|feature| feature == MOVE)
    }

    /// Returns whether an id of an older deployment is named.
    pub fn names_older_id(&self) -> bool {
        let given = [self.connection_id, self.session_id, self.page_id];
        given.into_iter().flatten().any(|id| matches!(id, GivenId::Older(_)))
    }

    fn checked(self) -> Result<Self, CommandError> {
        match &self.resident {
            Some(ResidentClass { class, .. }) if !is_class(class) => {
                let message = "the class of a resident page has 1 to 200 bytes and no dot";
                Err(CommandError::new(ErrorCode::Malformed, message))
            }
            _ => Ok(self),
        }
    }

    /// Parses a `hello`. The member `type` may be missing.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when the text is not a valid `hello`.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let envelope: Envelope<'_> = read(text.as_bytes()).map_err(malformed)?;
        shallow(text)?;
        match envelope.kind.as_deref() {
            None | Some("hello") => read::<Self>(text.as_bytes()).map_err(malformed).and_then(Self::checked),
            Some(_) => Err(CommandError::new(ErrorCode::Malformed, "the first frame is hello")),
        }
    }
}

/// Returns whether a text may name a class.
fn is_class(class: &str) -> bool {
    (1..=MAX_CLASS).contains(&class.len()) && !class.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_may_be_an_empty_object_or_name_its_type() {
        assert!(Hello::parse("{}").is_ok());
        assert!(Hello::parse(r#"{"type":"hello"}"#).is_ok());
        assert!(Hello::parse(r#"{"type":"send"}"#).is_err());
        assert!(Hello::parse(r#"{"page_id":"short|p01"}"#).is_err());
    }

    #[test]
    fn a_client_says_that_it_knows_move_and_others_are_served_as_before() {
        let golden = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/move.json"));
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        for vector in golden["hello"].as_array().unwrap() {
            let hello = Hello::parse(vector["text"].as_str().unwrap()).unwrap();
            assert_eq!(
                (vector["knows_move"] == true, vector["stay"] == true),
                (hello.knows_move(), hello.stay)
            );
        }
    }
}
