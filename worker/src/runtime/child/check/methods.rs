//! The handlers that a program says it has.
//!
//! Owns: starting a program for its `ready` alone. Never: what the members of a method mean.

use serde_json::Value;

use super::CheckOptions;
use super::case::Deviation;
use super::handshake::Starter;

/// Starts a program, and returns the methods of its `ready` as it has sent them. Those of its resident pages follow, under
/// the names by which they are called: `class.method`.
///
/// # Errors
///
/// The reason why the program does not start.
pub async fn methods(options: CheckOptions) -> Result<Vec<Value>, String> {
    let mut starter = Starter::new(options).map_err(|error| format!("no directory for sockets: {error}"))?;
    let program = match starter.connect().await {
        Ok(program) => program,
        Err(Deviation::Failed(reason) | Deviation::Skipped(reason)) => return Err(reason),
    };
    let (methods, classes) = (elements(&program.members, "methods"), elements(&program.members, "pages"));
    let of_classes = classes.iter().flat_map(of_class);
    let methods = methods.iter().cloned().chain(of_classes).collect();
    program.kill().await;
    Ok(methods)
}

/// Returns the methods of a class, each with its full name.
fn of_class(class: &Value) -> Vec<Value> {
    let name = class["name"].as_str().unwrap_or_default();
    let full = |method: &Value| {
        let mut full = method.as_object()?.clone();
        let own = full.get("name")?.as_str()?;
        let called = format!("{name}.{own}");
        full.insert("name".to_owned(), Value::String(called));
        Some(Value::Object(full))
    };
    elements(class, "methods").iter().filter_map(full).collect()
}

/// Returns the elements of a member, which may be missing.
fn elements<'a>(object: &'a Value, member: &str) -> &'a [Value] {
    object[member].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn methods_of_a_class_are_called_by_its_name() {
        let class = json!({"name": "Counter", "methods": [
            {"name": "add", "schema": {"type": "null"}},
            {"name": "peek", "concurrent": true},
        ]});
        let named = [
            json!({"name": "Counter.add", "schema": {"type": "null"}}),
            json!({"name": "Counter.peek", "concurrent": true}),
        ];
        assert_eq!(of_class(&class), named);
        assert!(of_class(&json!({"name": "Empty"})).is_empty());
    }
}
