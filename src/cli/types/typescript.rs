//! Types of handlers in TypeScript.
//!
//! Owns: how a type is written. Never: schemas (`shape`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::method::MethodTypes;
use super::shape::{Others, Shape};

/// Returns the module with the interface of these handlers.
pub(super) fn module(name: &str, methods: &[MethodTypes]) -> String {
    let mut text = format!(
        "// Written by `pagewire types --ts`: do not edit.\n\n\
         /** The handlers by their names: what they take and return. */\nexport interface {name} {{\n"
    );
    for method in methods {
        if let Some(doc) = &method.doc {
            // a comment must not end within
            let _ = writeln!(text, "  /** {} */", doc.replace("*/", "*\u{200b}/"));
        }
        let written = |shape: &Option<Shape>| shape.as_ref().map_or("unknown".to_owned(), write);
        let (params, result) = (written(&method.params), written(&method.result));
        let _ = writeln!(text, "  {}: {{ params: {params}; result: {result} }};", key(&method.name));
    }
    text + "}\n"
}

/// Returns whether a text is a name of TypeScript.
pub(super) fn is_identifier(text: &str) -> bool {
    let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_' || letter == '$';
    text.starts_with(is_first) && text.chars().all(|letter| is_first(letter) || letter.is_ascii_digit())
}

fn key(name: &str) -> String {
    if is_identifier(name) { name.to_owned() } else { json!(name).to_string() }
}

fn write(shape: &Shape) -> String {
    match shape {
        Shape::Any => "unknown".to_owned(),
        Shape::Never => "never".to_owned(),
        Shape::Null => "null".to_owned(),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Integer | Shape::Number => "number".to_owned(),
        Shape::Text => "string".to_owned(),
        Shape::Literals(values) => joined(values.iter().map(literal)),
        Shape::List(item) => format!("{}[]", enclosed(item)),
        Shape::Tuple { items, required } => tuple(items, *required),
        Shape::Object { members, others } => {
            let named = members.iter().map(|member| {
                let mark = if member.required { "" } else { "?" };
                format!("{}{mark}: {}", key(&member.name), write(&member.shape))
            });
            object(&named.collect::<Vec<_>>(), others)
        }
        Shape::Union(shapes) => joined(shapes.iter().map(write)),
    }
}

fn object(members: &[String], others: &Others) -> String {
    let record = match others {
        Others::None if members.is_empty() => Some("Record<string, never>".to_owned()),
        Others::Unknown if members.is_empty() => Some("Record<string, unknown>".to_owned()),
        Others::Each(shape) => Some(format!("Record<string, {}>", write(shape))),
        Others::None | Others::Unknown => None,
    };
    let named = (!members.is_empty()).then(|| format!("{{ {} }}", members.join("; ")));
    [named, record].into_iter().flatten().collect::<Vec<_>>().join(" & ")
}

fn tuple(items: &[Shape], required: usize) -> String {
    let item = |(index, shape): (usize, &Shape)| match index < required {
        true => write(shape),
        false => format!("{}?", enclosed(shape)),
    };
    format!("[{}]", items.iter().enumerate().map(item).collect::<Vec<_>>().join(", "))
}

/// Returns a type as an operand.
fn enclosed(shape: &Shape) -> String {
    let text = write(shape);
    let is_simple = matches!(shape, Shape::List(_)) || !text.contains(" | ") && !text.contains(" & ");
    if is_simple { text } else { format!("({text})") }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => "unknown".to_owned(),
        // the form of JSON is one of TypeScript
        value => value.to_string(),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "never".to_owned() } else { parts.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(schema: Value) -> String {
        write(&Shape::of(&schema))
    }

    #[test]
    fn each_kind_of_schema_has_its_type() {
        for (schema, expected) in [
            (json!({"type": "array", "items": {"type": ["string", "null"]}}), "(string | null)[]"),
            (json!({"type": "array", "items": {"type": "array"}}), "unknown[][]"),
            (json!({"enum": ["new", "a \"b\"", 1, null]}), r#""new" | "a \"b\"" | 1 | null"#),
            (
                json!({"type": "object", "additionalProperties": {"type": "integer"}}),
                "Record<string, number>",
            ),
            (
                json!({"properties": {"a-b": {}, "c": {"type": "boolean"}}, "required": ["c"]}),
                r#"{ "a-b"?: unknown; c: boolean }"#,
            ),
            (
                json!({"type": ["object", "array", "null"], "properties": {"n": {"type": "integer"}},
                    "prefixItems": [{"type": "integer"}], "items": false, "minItems": 0}),
                "{ n?: number } | [number?] | null",
            ),
            (
                json!({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}),
                "{ a?: unknown } & Record<string, null>",
            ),
            (json!({"type": "object", "additionalProperties": false}), "Record<string, never>"),
            (json!(false), "never"),
        ] {
            assert_eq!(written(schema), expected);
        }
    }

    #[test]
    fn a_module_has_a_line_for_each_handler() {
        let method = json!({"name": "orders.add", "doc": "Adds */ an order.", "schema": {"type": "string"}});
        let module = module("Api", &MethodTypes::of(&method).into_iter().collect::<Vec<_>>());
        assert!(module.contains("  /** Adds *\u{200b}/ an order. */\n"), "{module}");
        assert!(module.contains("  \"orders.add\": { params: string; result: unknown };\n}\n"), "{module}");
        assert!(is_identifier("$a_1") && !is_identifier("1a") && !is_identifier(""));
    }
}
