//! The parameters and results of typed handlers.
//!
//! Owns: the error that names a wrong parameter. Never: which parameters a handler has.

use pagewire_cluster::code::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::fail::Fail;

/// Reads the parameters of a handler. `null`, which a caller without parameters sends, is also read as an empty object.
///
/// # Errors
///
/// `malformed`; the message names the parameter.
pub(super) fn decode<P: DeserializeOwned>(params: &RawValue) -> Result<P, Fail> {
    match read(params.get()) {
        Err(_) if params.get() == "null" => read("{}"),
        read => read,
    }
    .map_err(|message| Fail::new(ErrorCode::Malformed.text(), message))
}

fn read<P: DeserializeOwned>(text: &str) -> Result<P, String> {
    let mut input = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let (path, reason) = (error.path().to_string(), error.inner().to_string());
        // the position in a text that the caller has not written says nothing
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
        if path == "." { reason.to_owned() } else { format!("{path}: {reason}") }
    })
}

/// Writes the result of a handler.
///
/// # Errors
///
/// `failed`, for good, if it is no JSON.
pub(super) fn encode(method: &str, value: &impl Serialize) -> Result<Box<RawValue>, Fail> {
    to_raw_value(value).map_err(|error| {
        Fail::new(ErrorCode::Failed.text(), format!("the result of `{method}` is not JSON: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        item: String,
        #[serde(default)]
        count: u32,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Orders {
        orders: Vec<Order>,
    }

    fn decoded<P: DeserializeOwned>(text: &str) -> Result<P, String> {
        let raw = RawValue::from_string(text.to_owned()).map_err(|error| error.to_string())?;
        decode(&raw).map_err(|fail| format!("{}: {}", fail.code(), fail.message()))
    }

    #[test]
    fn a_wrong_parameter_is_named_with_its_path() {
        for (params, message) in [
            (r#"{"orders": [{"item": "tea"}, {"item": 1}]}"#, "orders[1].item: invalid type: integer `1`"),
            (r#"{"orders": [{"count": 1}]}"#, "orders[0]: missing field `item`"),
            ("{}", "missing field `orders`"),
            ("null", "missing field `orders`"),
            ("[[{}]]", "missing field `item`"),
        ] {
            let refused = decoded::<Orders>(params).expect_err(params);
            assert!(refused.starts_with("malformed: ") && refused.contains(message), "{params}: {refused}");
            assert!(!refused.contains("line"), "{refused}");
        }
    }

    #[test]
    fn parameters_may_be_an_object_a_list_one_value_or_nothing() {
        assert_eq!(decoded::<Order>(r#"{"item": "tea"}"#), Ok(Order { item: "tea".into(), count: 0 }));
        assert_eq!(decoded::<(u8, String)>(r#"[1, "a"]"#), Ok((1, "a".to_owned())));
        assert_eq!(decoded::<f64>("1.5"), Ok(1.5));
        assert_eq!(decoded::<()>("null"), Ok(()));
        assert_eq!(decoded::<Option<u8>>("null"), Ok(None));
        assert_eq!(encode("inverse", &f64::NAN).map(|value| value.to_string()), Ok("null".to_owned()));
    }
}
