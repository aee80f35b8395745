//! Parameters and results of calls.
//!
//! Owns: values of every kind, and parameters that a handler cannot take. Never: large values (`volume`).

use serde_json::{Value, json};

use super::UNKNOWN_METHOD;
use crate::runtime::child::check::Checker;
use crate::runtime::child::check::case::{Case, Deviation, case, ensure};
use crate::runtime::child::check::json::{kinds, nested, numbers, same, shown, texts};
use crate::runtime::child::check::program::{Program, framed};

pub(super) const CASES: &[Case] = &[
    case!(a_call_has_a_result, "check.echo"),
    case!(values_of_every_kind_are_returned_as_they_came, "check.echo"),
    case!(numbers_are_returned_as_they_came, "check.echo"),
    case!(texts_are_returned_as_they_came, "check.echo"),
    case!(nested_values_are_returned_as_they_came, "check.echo"),
    case!(json_in_another_form_is_read, "check.echo"),
    case!(params_may_be_any_json_value),
    case!(a_parameter_of_the_right_type_is_accepted, "check.typed"),
    case!(a_parameter_of_a_wrong_type_is_malformed, "check.typed"),
    case!(a_missing_parameter_is_malformed, "check.typed"),
];

async fn echo(program: &mut Program, values: &[Value]) -> Result<(), Deviation> {
    for value in values {
        let id = program.call("check.echo", &json!({"value": value}));
        let returned = program.result(id).await?;
        let (sent, got) = (shown(value), shown(&returned));
        ensure(same(&returned, value), || format!("check.echo returned {got} for {sent}"))?;
    }
    Ok(())
}

async fn a_call_has_a_result(checker: &mut Checker) -> Result<(), Deviation> {
    echo(checker.shared().await?, &[json!("a value")]).await
}

async fn values_of_every_kind_are_returned_as_they_came(checker: &mut Checker) -> Result<(), Deviation> {
    echo(checker.shared().await?, &kinds()).await
}

async fn numbers_are_returned_as_they_came(checker: &mut Checker) -> Result<(), Deviation> {
    echo(checker.shared().await?, &numbers()).await
}

async fn texts_are_returned_as_they_came(checker: &mut Checker) -> Result<(), Deviation> {
    echo(checker.shared().await?, &texts()).await
}

async fn nested_values_are_returned_as_they_came(checker: &mut Checker) -> Result<(), Deviation> {
    echo(checker.shared().await?, &[nested()]).await
}

/// Blanks, another order of members, and escapes, also in names.
async fn json_in_another_form_is_read(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    let id = program.id();
    let body = format!(
        "\n{{ \"deadline_ms\" : 6e4 , \"params\": {{\"\\u0076alue\":\t\"\\u00e9\\ud83d\\ude00\\/\"}},\r\n \
         \"method\":\"check\\u002eecho\", \"\\u0074\":\"call\", \"id\":{id} }} "
    );
    program.send_bytes(&framed(body.as_bytes()));
    let returned = program.result(id).await?;
    ensure(returned == json!("é😀/"), || format!("check.echo returned {}", shown(&returned)))
}

async fn params_may_be_any_json_value(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    for params in kinds() {
        let id = program.call(UNKNOWN_METHOD, &params);
        program.error(id).await?;
    }
    Ok(())
}

async fn a_parameter_of_the_right_type_is_accepted(checker: &mut Checker) -> Result<(), Deviation> {
    let program = checker.shared().await?;
    for n in [0, -7, 1_000_000] {
        let id = program.call("check.typed", &json!({"n": n}));
        let returned = program.result(id).await?;
        ensure(same(&returned, &json!(n)), || format!("check.typed returned {} for {n}", shown(&returned)))?;
    }
    Ok(())
}

async fn a_parameter_of_a_wrong_type_is_malformed(checker: &mut Checker) -> Result<(), Deviation> {
    let wrong = [json!("seven"), json!(1.5), json!(null), json!([1]), json!({"n": 1})];
    let wrong: Vec<Value> = wrong.iter().map(|n| json!({"n": n})).collect();
    malformed(checker.shared().await?, &wrong).await
}

async fn a_missing_parameter_is_malformed(checker: &mut Checker) -> Result<(), Deviation> {
    malformed(checker.shared().await?, &[json!({}), json!(null)]).await
}

/// Checks that each of these parameters is refused with the code `malformed` and the name of the parameter.
async fn malformed(program: &mut Program, wrong: &[Value]) -> Result<(), Deviation> {
    for params in wrong {
        let id = program.call("check.typed", params);
        let error = program.error(id).await?.error;
        ensure(error.code == "malformed", || format!("the code for {params} is {}", error.code))?;
        let named = error.message.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "n");
        ensure(named, || format!("the message for {params} does not name n: {}", error.message))?;
        ensure(!error.retryable, || format!("{params} is retryable, but stays wrong"))?;
    }
    Ok(())
}
