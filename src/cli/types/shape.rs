//! What a JSON schema says about the type of a value.
//!
//! Owns: reading schemas. Never: languages; what no language can express (lengths, ranges, patterns) is ignored.

use serde_json::{Map, Value};

/// Levels of schemas that are followed; what is deeper is any value, and so is a definition within itself.
const LEVELS: usize = 24;

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Any,
    Never,
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    /// One of these values.
    Literals(Vec<Value>),
    List(Box<Shape>),
    /// The first items of a list, of which at least `required` are there. No item follows.
    Tuple {
        items: Vec<Shape>,
        required: usize,
    },
    /// Members with names, and the type of all others, if they have one.
    Object {
        members: Vec<Member>,
        others: Others,
    },
    Union(Vec<Shape>),
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) required: bool,
}

/// The members of an object that are not named.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Others {
    /// There are none.
    None,
    /// The schema does not mention them.
    Unknown,
    /// All of them have this type.
    Each(Box<Shape>),
}

impl Shape {
    /// Returns the type that a schema describes.
    pub(super) fn of(schema: &Value) -> Self {
        ShapeReader { scopes: Vec::new(), open: Vec::new(), level: 0 }.read(schema)
    }

    /// Returns a union without repetitions and unions within it.
    fn union(shapes: impl IntoIterator<Item = Self>) -> Self {
        let mut found: Vec<Self> = Vec::new();
        for shape in shapes {
            let parts = if let Self::Union(parts) = shape { parts } else { vec![shape] };
            for part in parts {
                if !found.contains(&part) && part != Self::Never {
                    found.push(part);
                }
            }
        }
        if found.contains(&Self::Any) {
            return Self::Any;
        }
        match found.len() {
            0 => Self::Never,
            1 => found.swap_remove(0),
            _ => Self::Union(found),
        }
    }
}

/// Reads schemas within each other.
struct ShapeReader<'a> {
    /// The definitions that a reference may name, the innermost last.
    scopes: Vec<&'a Map<String, Value>>,
    /// The names of the definitions that are being read.
    open: Vec<&'a str>,
    level: usize,
}

impl<'a> ShapeReader<'a> {
    fn read(&mut self, schema: &'a Value) -> Shape {
        let schema = match schema {
            Value::Bool(false) => return Shape::Never,
            Value::Object(schema) if self.level < LEVELS => schema,
            _ => return Shape::Any,
        };
        let scopes = self.scopes.len();
        self.scopes.extend(["$defs", "definitions"].iter().filter_map(|name| schema.get(*name)?.as_object()));
        self.level += 1;
        let shape = self.keywords(schema);
        self.level -= 1;
        self.scopes.truncate(scopes);
        shape
    }

    fn keywords(&mut self, schema: &'a Map<String, Value>) -> Shape {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.definition(reference.rsplit('/').next().unwrap_or_default());
        }
        if let Some(value) = schema.get("const") {
            return Shape::Literals(vec![value.clone()]);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Shape::Literals(values.clone());
        }
        let list = |name: &str| schema.get(name).and_then(Value::as_array);
        if let Some(choices) = list("anyOf").or_else(|| list("oneOf")) {
            return Shape::union(choices.iter().map(|choice| self.read(choice)).collect::<Vec<_>>());
        }
        if let Some([only]) = list("allOf").map(Vec::as_slice) {
            return self.read(only);
        }
        let named: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => implied(schema),
        };
        if named.is_empty() {
            return Shape::Any;
        }
        Shape::union(named.into_iter().map(|name| self.typed(name, schema)).collect::<Vec<_>>())
    }

    fn definition(&mut self, name: &'a str) -> Shape {
        let found = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        let Some(found) = found.filter(|_| !self.open.contains(&name)) else { return Shape::Any };
        self.open.push(name);
        let shape = self.read(found);
        self.open.pop();
        shape
    }

    fn typed(&mut self, name: &str, schema: &'a Map<String, Value>) -> Shape {
        match name {
            "null" => Shape::Null,
            "boolean" => Shape::Boolean,
            "integer" => Shape::Integer,
            "number" => Shape::Number,
            "string" => Shape::Text,
            "array" => self.array(schema),
            "object" => self.object(schema),
            _ => Shape::Any,
        }
    }

    fn array(&mut self, schema: &'a Map<String, Value>) -> Shape {
        let Some(first) = schema.get("prefixItems").and_then(Value::as_array) else {
            let item = schema.get("items").map_or(Shape::Any, |items| self.read(items));
            return Shape::List(Box::new(item));
        };
        let closed = schema.get("items") == Some(&Value::Bool(false)) || schema.contains_key("maxItems");
        if !closed {
            return Shape::List(Box::new(Shape::Any));
        }
        let required = schema.get("minItems").and_then(Value::as_u64).unwrap_or_default();
        let items: Vec<Shape> = first.iter().map(|item| self.read(item)).collect();
        Shape::Tuple { required: items.len().min(required as usize), items }
    }

    fn object(&mut self, schema: &'a Map<String, Value>) -> Shape {
        let required =
            schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let members = properties.map(|(name, property)| Member {
            name: name.clone(),
            shape: self.read(property),
            required: required.iter().any(|one| one.as_str() == Some(name)),
        });
        let members = members.collect();
        let others = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => Others::None,
            Some(others @ Value::Object(_)) => Others::Each(Box::new(self.read(others))),
            _ => Others::Unknown,
        };
        Shape::Object { members, others }
    }
}

/// Returns the types that the keywords of a schema without `type` are about.
fn implied(schema: &Map<String, Value>) -> Vec<&'static str> {
    let has = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
    let mut found = Vec::new();
    if has(&["properties", "required", "additionalProperties"]) {
        found.push("object");
    }
    if has(&["items", "prefixItems"]) {
        found.push("array");
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_followed_to_the_innermost_definition_and_not_for_ever() {
        let node =
            json!({"properties": {"left": {"$ref": "#/$defs/Node"}, "right": {"$ref": "#/$defs/Node"}}});
        let member = |name: &str, shape| Member { name: name.to_owned(), shape, required: false };
        let once = Shape::Object {
            members: vec![member("left", Shape::Any), member("right", Shape::Any)],
            others: Others::Unknown,
        };
        let schema = json!({"$defs": {"Node": node}, "anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]});
        assert_eq!(Shape::of(&schema), Shape::Union(vec![once, Shape::Null]));
        let inner = json!({"$defs": {"A": {"type": "string"}},
            "items": {"$defs": {"A": {"type": "null"}}, "$ref": "#/$defs/A"}});
        assert_eq!(Shape::of(&inner), Shape::List(Box::new(Shape::Null)));
        assert_eq!(Shape::of(&json!({"$ref": "#/$defs/Absent"})), Shape::Any);
    }

    #[test]
    fn a_union_has_each_type_once() {
        let schema = json!({"anyOf": [{"type": ["string", "null"]}, {"type": "null"}, false, {"allOf": [{"type": "string"}]}]});
        assert_eq!(Shape::of(&schema), Shape::Union(vec![Shape::Text, Shape::Null]));
        assert_eq!(Shape::of(&json!({"type": ["string", {}, "x"]})), Shape::Any);
        assert_eq!(Shape::of(&json!(true)), Shape::Any);
        assert_eq!(Shape::of(&json!({"anyOf": []})), Shape::Never);
    }

    proptest! {
        #[test]
        fn any_json_is_read(value in schemas()) {
            Shape::of(&value);
        }
    }

    fn schemas() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec![
            "type",
            "anyOf",
            "$ref",
            "$defs",
            "properties",
            "items",
            "prefixItems",
            "enum",
            "const",
            "required",
            "object",
            "array",
            "#/$defs/type",
        ]);
        let leaf = prop_oneof![
            word.clone().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(json!(3))
        ];
        leaf.prop_recursive(6, 60, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((word.clone(), inner), 0..4).prop_map(|members| members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()),
            ]
        })
    }
}
