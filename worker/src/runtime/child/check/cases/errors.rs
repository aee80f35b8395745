//! Work that fails.
//!
//! Owns: the members of `error`, and what a program survives. Never: wrong parameters (`params`).

use serde_json::json;

use super::UNKNOWN_METHOD;
use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure};

pub(super) const CASES: &[Case] = &[
    case!(an_unknown_method_is_an_error),
    case!(an_error_has_the_code_and_message_of_its_handler, "check.fail"),
    case!(an_error_may_be_retryable, "check.fail"),
    case!(an_error_has_its_text_in_any_script, "check.fail"),
    case!(a_job_may_be_tried_again_later, "check.fail"),
];

async fn an_unknown_method_is_an_error(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let long = "m".repeat(200);
    for method in [UNKNOWN_METHOD, "", "__proto__", "é😀", &long] {
        let id = program.call(method, &json!({}));
        program.error(id).await?;
        program.one_end(id).await?;
    }
    Ok(())
}

async fn an_error_has_the_code_and_message_of_its_handler(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id =
        program.call("check.fail", &json!({"code": "no_stock", "message": "sold out", "retryable": false}));
    let error = program.error(id).await?.error;
    ensure(error.code == "no_stock", || format!("the code is {}", error.code))?;
    ensure(error.message.contains("sold out"), || format!("the message is {}", error.message))?;
    ensure(!error.retryable, || "it is retryable".to_owned())
}

async fn an_error_may_be_retryable(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.call("check.fail", &json!({"code": "busy", "message": "try again", "retryable": true}));
    let error = program.error(id).await?.error;
    ensure(error.code == "busy" && error.retryable, || {
        format!("it is {}, retryable: {}", error.code, error.retryable)
    })
}

async fn an_error_has_its_text_in_any_script(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let text = "\u{441}\u{431}\u{43e}\u{439} \"😀\"\n\u{0}";
    let id = program.call("check.fail", &json!({"code": "failed", "message": text, "retryable": false}));
    let error = program.error(id).await?.error;
    ensure(error.message.contains(text), || format!("the message is {:?}", error.message))
}

async fn a_job_may_be_tried_again_later(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let params = json!({"code": "failed", "message": "closed", "retryable": true, "after_ms": 1500});
    let id = program.job("check.fail", &params, 1, 2);
    let failure = program.error(id).await?;
    ensure(failure.error.retryable, || "it is not retryable".to_owned())?;
    ensure(failure.after_ms == Some(1500), || format!("after_ms is {:?}, not 1500", failure.after_ms))
}
