//! Parses arguments that are JSON.

use std::io::Read;

use serde_json::Value;

use super::{CommandFailure, Exit};

/// Parses JSON from an argument, or from standard input if the argument is `-`. `what` names the argument in the error.
pub(super) fn json(argument: String, what: &str) -> Result<Value, CommandFailure> {
    let mut text = argument;
    if text == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Exit::Usage.with_message(error))?;
    }
    serde_json::from_str(&text).map_err(|error| {
        Exit::Usage.with_message(format!("{what} is not JSON ({error}); write a text as '\"hello\"'"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mistake_is_explained() {
        assert_eq!(json(r#"{"a":1}"#.to_owned(), "the payload").unwrap(), json!({"a": 1}));
        let failure = json("hello".to_owned(), "the payload").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("the payload is not JSON"), "{}", failure.message);
        assert!(failure.message.contains(r#"'"hello"'"#), "{}", failure.message);
    }
}
