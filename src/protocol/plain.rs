//! Reads JSON from clients and programs, and describes its errors in words for their authors.
//!
//! Owns: the way from a parser's error to a message: it names the member, and neither places in a text that was sent as
//! one line, nor types of this program. Never: what a member means. Reading costs nothing more while nothing is wrong:
//! a text that is refused is read once more, to find the member.

use serde::Deserialize;
use serde_json::error::Category;

/// The longest part of a refused text that its refusal repeats.
const SHOWN: usize = 80;

/// Reads JSON, or returns a description of its error.
pub fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    let error = match serde_json::from_slice(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut parser = serde_json::Deserializer::from_slice(text);
    let member = match serde_path_to_error::deserialize::<_, T>(&mut parser) {
        Err(found) => found.path().to_string(),
        Ok(_) => String::new(),
    };
    let message = error.to_string();
    Err(match error.classify() {
        Category::Data => explain(&member, without_position(&message)),
        Category::Eof => "this is not JSON: it ends too early".to_owned(),
        Category::Syntax | Category::Io => format!("this is not JSON: {}", without_position(&message)),
    })
}

/// Turns the parser's error about a member into a sentence. `member` is its path, empty or `.` for the whole.
pub fn explain(member: &str, message: &str) -> String {
    let place = if matches!(member, "" | "." | "?") { String::new() } else { format!("{}: ", short(member)) };
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{place}the member {} is missing", quoted(name));
    }
    // these name the member themselves
    if let Some(name) = message.strip_prefix("duplicate field ") {
        return format!("the member {} is given twice", quoted(name));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return format!("the member {}", unknown(rest));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return format!("{place}{}", unknown(rest));
    }
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) =
            message.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected "))
        {
            return format!("{place}{} is needed, not {}", wanted(expected), given(found));
        }
    }
    // an object may also be written as a list of its members
    if let Some((_, expected)) =
        message.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{place}{} is needed", wanted(expected));
    }
    if message.starts_with("invalid digit found in string") || message.starts_with("cannot parse integer") {
        return format!("{place}a whole number is needed");
    }
    format!("{place}{}", short(message))
}

/// `… at line 1 column 19`: the place is of no use to a program, and the text was one line.
fn without_position(message: &str) -> &str {
    let Some((what, place)) = message.rsplit_once(" at line ") else { return message };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match place.split_once(" column ") {
        Some((line, column)) if digits(line) && digits(column) => what,
        _ => message,
    }
}

/// What is not known here, and what is.
fn unknown(rest: &str) -> String {
    match rest.split_once(", expected ") {
        Some((name, known)) => {
            let known = known.strip_prefix("one of ").unwrap_or(known).replace('`', "");
            format!("{} is not one of {}", quoted(name), known.replace(" or ", ", "))
        }
        None => format!("{} is not known here", quoted(rest.split(',').next().unwrap_or(rest))),
    }
}

/// What was there, in the words of JSON.
fn given(found: &str) -> String {
    let tail = |prefix: &str| found.strip_prefix(prefix).map(|rest| short(rest.trim_matches('`')));
    if let Some(text) = tail("string ") {
        return format!("the text {text}");
    }
    for number in ["integer ", "floating point ", "number "] {
        if let Some(number) = tail(number) {
            return number;
        }
    }
    match found {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit value" | "null" | "Option value" => "null".to_owned(),
        other => tail("boolean ").unwrap_or_else(|| short(other)),
    }
}

/// What is needed, in the words of JSON.
fn wanted(expected: &str) -> String {
    let number = expected.strip_prefix(['u', 'i']).unwrap_or_default();
    let is_integer = ["8", "16", "32", "64", "128", "size"].contains(&number);
    let object = ["struct ", "a map", "map", "adjacently ", "internally "];
    let list = ["a sequence", "sequence", "a tuple", "tuple "];
    match expected {
        _ if is_integer => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "string" | "a borrowed string" | "str" => "a text".to_owned(),
        "a boolean" | "bool" => "true or false".to_owned(),
        "unit" => "null".to_owned(),
        _ if object.iter().any(|start| expected.starts_with(start)) => "an object".to_owned(),
        _ if list.iter().any(|start| expected.starts_with(start)) => "a list".to_owned(),
        _ if expected.starts_with("enum ") || expected == "string or map" => "another value".to_owned(),
        other => short(other),
    }
}

fn quoted(name: &str) -> String {
    format!("{:?}", short(name.trim().trim_matches('`')))
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Order {
        count: u32,
        #[serde(default)]
        paid: bool,
        #[serde(default)]
        parts: Vec<Part>,
        data: Option<Box<RawValue>>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Part {
        size: Size,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Size {
        Small,
        Large,
    }

    fn refused(text: &str) -> String {
        read::<Order>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_said_of_the_member_and_in_words_of_json() {
        for (text, expected) in [
            (r#"{"paid": true}"#, r#"the member "count" is missing"#),
            (r#"{"count": "many"}"#, r#"count: a whole number is needed, not the text "many""#),
            (r#"{"count": -1}"#, "count: a whole number is needed, not -1"),
            (r#"{"count": 1.5}"#, "count: a whole number is needed, not 1.5"),
            (r#"{"count": null}"#, "count: a whole number is needed, not null"),
            (r#"{"count": 1, "paid": {}}"#, "paid: true or false is needed, not an object"),
            (r#"{"count": 1, "paid": 0}"#, "paid: true or false is needed, not 0"),
            (r#"{"count": 1, "parts": true}"#, "parts: a list is needed, not true"),
            (r#"{"count": 1, "parts": [[], 2]}"#, "parts[0]: an object is needed"),
            (r#"{"count": 1, "parts": [{}, 2]}"#, r#"parts[0]: the member "size" is missing"#),
            (r#"{"count": 1, "parts": [7]}"#, "parts[0]: an object is needed, not 7"),
            (
                r#"{"count": 1, "parts": [{"size": "huge"}]}"#,
                r#"parts[0].size: "huge" is not one of small, large"#,
            ),
            (
                r#"{"count": 1, "color": "red"}"#,
                r#"the member "color" is not one of count, paid, parts, data"#,
            ),
            (r#"{"count": 1, "count": 2}"#, r#"the member "count" is given twice"#),
            ("7", "an object is needed, not 7"),
            ("", "this is not JSON: it ends too early"),
            (r#"{"count": "#, "this is not JSON: it ends too early"),
            ("{count: 1}", "this is not JSON: key must be a string"),
            (r#"{"count": 1} x"#, "this is not JSON: trailing characters"),
        ] {
            let message = refused(text);
            assert_eq!(message, expected, "{text}");
        }
        assert!(read::<Order>(br#"{"count": 1, "data": {"a":  1}}"#).is_ok());
    }

    #[test]
    fn a_text_that_speaks_of_places_keeps_them() {
        let message = refused(r#"{"count": "x at line 3 column 4"}"#);
        assert_eq!(message, r#"count: a whole number is needed, not the text "x at line 3 column 4""#);
    }

    proptest! {
        #[test]
        fn no_refusal_names_a_place_or_a_type_of_this_program_or_is_long(
            text in "\\PC{0,40}",
            number in any::<f64>(),
            long in "[a-z]{0,4000}",
        ) {
            let text = serde_json::to_string(&text).unwrap();
            for wrong in [
                text.clone(),
                format!("{{{text}: 1}}"),
                format!(r#"{{"count": {text}}}"#),
                format!(r#"{{"count": {number}, "parts": [{{"size": "{long}"}}]}}"#),
                format!(r#"{{"count": 1, "{long}": {number}}}"#),
                format!(r#"{{"count": 1, "parts": {text}"#),
            ] {
                let Err(message) = read::<Order>(wrong.as_bytes()) else { continue };
                prop_assert!(message.chars().count() < 400, "{}", message);
                if !text.contains("line") {
                    prop_assert!(!message.contains(" at line "), "{}", message);
                }
                for word in ["u32", "struct", "Order", "sequence", "field", "variant"] {
                    prop_assert!(text.contains(word) || long.contains(word) || !message.contains(word), "{}", message);
                }
            }
        }
    }
}
