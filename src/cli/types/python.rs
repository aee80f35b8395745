//! Types of handlers in Python: a TypedDict for each object, and a name for the parameters and the result of each handler.
//!
//! Owns: how a type is written, and the names of types. Never: schemas (`shape`).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::method::MethodTypes;
use super::shape::{Member, Others, Shape};

const HEAD: &str = "\"\"\"Written by `pagewire types --python`: do not edit.\"\"\"\n\n\
                    from __future__ import annotations\n\n\
                    from typing import Any, Dict, List, Literal, Tuple, TypedDict, Union\n\n";

/// Words that are no names of members in a class.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Returns the module with the types of these handlers.
pub(super) fn module(methods: &[MethodTypes]) -> String {
    let mut writer = Writer { text: HEAD.to_owned(), names: BTreeSet::new() };
    for method in methods {
        let _ = writeln!(writer.text, "\n# {}", shown(method));
        let base = camel(&method.name);
        for (suffix, shape) in [("Params", &method.params), ("Result", &method.result)] {
            let Some(shape) = shape else { continue };
            let name = writer.name(&format!("{base}{suffix}"));
            let written = writer.write(&objects(shape), &name);
            // an object has defined the name itself
            if written != name {
                let _ = writeln!(writer.text, "{name} = {written}");
            }
        }
    }
    writer.text
}

fn shown(method: &MethodTypes) -> String {
    let doc = method.doc.as_ref().map(|doc| format!(": {doc}")).unwrap_or_default();
    format!("`{}`{doc}", method.name).chars().filter(|letter| !letter.is_control()).collect()
}

/// Returns the parameters as an object alone, if they may also be an array.
fn objects(shape: &Shape) -> Shape {
    match shape {
        Shape::Union(shapes) if shapes.iter().any(|shape| matches!(shape, Shape::Object { .. })) => {
            let kept: Vec<Shape> =
                shapes.iter().filter(|shape| !matches!(shape, Shape::Tuple { .. })).cloned().collect();
            if let [only] = kept.as_slice() { only.clone() } else { Shape::Union(kept) }
        }
        shape => shape.clone(),
    }
}

/// Writes definitions, each before its use.
struct Writer {
    text: String,
    names: BTreeSet<String>,
}

impl Writer {
    /// Returns a name that no other type has.
    fn name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}{number}");
            number += 1;
        }
        name
    }

    /// Returns a type. An object is defined before, under `name` or a name that begins with it.
    fn write(&mut self, shape: &Shape, name: &str) -> String {
        match shape {
            Shape::Any | Shape::Never => "Any".to_owned(),
            Shape::Null => "None".to_owned(),
            Shape::Boolean => "bool".to_owned(),
            Shape::Integer => "int".to_owned(),
            Shape::Number => "float".to_owned(),
            Shape::Text => "str".to_owned(),
            Shape::Literals(values) => literals(values),
            Shape::List(item) => format!("List[{}]", self.below(item, name, "Item")),
            Shape::Tuple { items, required } if items.len() == *required && !items.is_empty() => {
                let items: Vec<_> = items.iter().map(|item| self.below(item, name, "Item")).collect();
                format!("Tuple[{}]", items.join(", "))
            }
            Shape::Tuple { .. } => "List[Any]".to_owned(),
            Shape::Object { members, others } => self.object(members, others, name),
            Shape::Union(shapes) => {
                let parts: Vec<_> = shapes.iter().map(|shape| self.below(shape, name, "Value")).collect();
                format!("Union[{}]", parts.join(", "))
            }
        }
    }

    fn below(&mut self, shape: &Shape, name: &str, suffix: &str) -> String {
        // only an object needs the name
        if !matches!(shape, Shape::Object { members, .. } if !members.is_empty()) {
            return self.write(shape, &format!("{name}{suffix}"));
        }
        let own = self.name(&format!("{name}{suffix}"));
        self.write(shape, &own)
    }

    fn object(&mut self, members: &[Member], others: &Others, name: &str) -> String {
        if members.is_empty() {
            let value = match others {
                Others::Each(shape) => self.below(shape, name, "Value"),
                Others::None | Others::Unknown => "Any".to_owned(),
            };
            return format!("Dict[str, {value}]");
        }
        let typed: Vec<(&Member, String)> = members
            .iter()
            .map(|member| (member, self.below(&member.shape, name, &camel(&member.name))))
            .collect();
        let (required, optional): (Vec<_>, Vec<_>) = typed.iter().partition(|(member, _)| member.required);
        if required.is_empty() || optional.is_empty() {
            self.class(name, "TypedDict", &typed.iter().collect::<Vec<_>>(), !required.is_empty());
            return name.to_owned();
        }
        let base = self.name(&format!("_{name}Required"));
        self.class(&base, "TypedDict", &required, true);
        self.class(name, &base, &optional, false);
        name.to_owned()
    }

    /// Defines a TypedDict. Names of members that a class cannot have need the form of a call.
    fn class(&mut self, name: &str, base: &str, members: &[&(&Member, String)], is_total: bool) {
        let total = if is_total { "" } else { ", total=False" };
        if members.iter().all(|(member, _)| is_name(&member.name)) {
            let _ = writeln!(self.text, "\n\nclass {name}({base}{total}):");
            for (member, written) in members {
                let _ = writeln!(self.text, "    {}: {written}", member.name);
            }
            self.text.push_str("\n\n");
            return;
        }
        let listed: Vec<_> = members
            .iter()
            .map(|(member, written)| format!("{}: {}", json!(member.name), json!(written)))
            .collect();
        let form =
            |name: &str| format!("{name} = TypedDict({}, {{{}}}{total})", json!(name), listed.join(", "));
        if base == "TypedDict" {
            let _ = writeln!(self.text, "{}", form(name));
            return;
        }
        let own = self.name(&format!("_{name}Optional"));
        let _ = writeln!(self.text, "{}\n\n\nclass {name}({base}, {own}):\n    pass\n\n", form(&own));
    }
}

fn literals(values: &[Value]) -> String {
    let written: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::Null => "None".to_owned(),
            Value::Bool(is_true) => if *is_true { "True" } else { "False" }.to_owned(),
            Value::String(_) => value.to_string(),
            Value::Number(number) if number.is_i64() || number.is_u64() => value.to_string(),
            _ => String::new(),
        })
        .collect();
    // numbers with fractions, arrays and objects are no literals
    if written.is_empty() || written.iter().any(String::is_empty) {
        return "Any".to_owned();
    }
    format!("Literal[{}]", written.join(", "))
}

fn is_name(text: &str) -> bool {
    let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    // two underscores at the start are changed in a class
    text.starts_with(is_first)
        && !text.starts_with("__")
        && text.chars().all(|letter| is_first(letter) || letter.is_ascii_digit())
        && !KEYWORDS.contains(&text)
}

/// Returns a name in the form of a class: `orders.add_line` is `OrdersAddLine`.
fn camel(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let text: String = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    if text.starts_with(|letter: char| letter.is_ascii_alphabetic()) { text } else { format!("T{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_defined_before_its_use() {
        let method = json!({
            "name": "orders.add",
            "doc": "Adds an order.",
            "schema": {
                "type": ["object", "array"],
                "properties": {
                    "lines": {"type": "array", "items": {"properties": {"price": {"type": "number"}}, "required": ["price"]}},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
                "required": ["lines"],
                "prefixItems": [],
                "items": false,
            },
            "returns": {"enum": ["new", 1]},
        });
        let module = module(&MethodTypes::of(&method).into_iter().collect::<Vec<_>>());
        let (_, body) = module.split_once("Union\n\n").unwrap();
        let lines: Vec<&str> = body.lines().filter(|line| !line.is_empty()).collect();
        let expected = [
            "# `orders.add`: Adds an order.",
            "class OrdersAddParamsLinesItem(TypedDict):",
            "    price: float",
            "class _OrdersAddParamsRequired(TypedDict):",
            "    lines: List[OrdersAddParamsLinesItem]",
            "class OrdersAddParams(_OrdersAddParamsRequired, total=False):",
            "    note: Union[str, None]",
            "OrdersAddResult = Literal[\"new\", 1]",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn names_that_no_class_has_are_written_as_a_call() {
        let schema = json!({"properties": {"class": {"type": "string"}, "a-b": {}, "ok": {}}, "required": ["ok", "class"]});
        let method = json!({"name": "1", "schema": schema, "returns": {"type": "array", "items": {"type": "integer"}}});
        let module = module(&MethodTypes::of(&method).into_iter().collect::<Vec<_>>());
        assert!(
            module.contains("TypedDict(\"_T1ParamsRequired\", {\"class\": \"str\", \"ok\": \"Any\"})"),
            "{module}"
        );
        assert!(
            module.contains(
                "_T1ParamsOptional = TypedDict(\"_T1ParamsOptional\", {\"a-b\": \"Any\"}, total=False)"
            ),
            "{module}"
        );
        assert!(
            module.contains("class T1Params(_T1ParamsRequired, _T1ParamsOptional):\n    pass\n"),
            "{module}"
        );
        assert!(module.contains("T1Result = List[int]\n"), "{module}");
    }
}
