//! A value of the framework's XML as JSON in which texts have types, such as `"2026-01-02::D"`. Pure.
//!
//! Owns: this translation. Never: what a value is for.

use roxmltree::Node;
use serde_json::{Map, Value};

/// Returns the value of an element: an object if it has elements, else its text with its type (`_T`).
pub(super) fn json(element: Node<'_, '_>) -> Value {
    let members: Map<String, Value> =
        element.children().filter(Node::is_element).map(|member| (label(member), json(member))).collect();
    if !members.is_empty() {
        return Value::Object(members);
    }
    let text = element.text().unwrap_or_default();
    let typed = |type_: &str| Value::String(format!("{text}::{type_}"));
    match element.attribute("_T") {
        // without a type, a text that ends like a typed one would be read as that
        None | Some("T") if text.contains("::") => typed("T"),
        None | Some("T") => Value::String(text.to_owned()),
        Some("NN") => Value::Null,
        Some("B") => Value::Bool(text.eq_ignore_ascii_case("true")),
        Some("L") => text.parse::<i64>().map_or_else(|_| typed("L"), Value::from),
        Some("R") => text.parse::<f64>().map_or_else(|_| typed("R"), Value::from),
        Some("JS") => serde_json::from_str(text).unwrap_or_else(|_| typed("JS")),
        Some(other) => typed(other),
    }
}

/// Returns the label of an element: names that are no names of XML are in an attribute.
fn label(element: Node<'_, '_>) -> String {
    element.attribute("_tag").unwrap_or_else(|| element.tag_name().name()).to_owned()
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;
    use serde_json::json;

    #[test]
    fn values_have_their_type_in_json() {
        for (xml, expected) in [
            ("<a/>", json!("")),
            ("<a>x &lt; y</a>", json!("x < y")),
            ("<a>5::L</a>", json!("5::L::T")),
            ("<a _T=\"T\">x</a>", json!("x")),
            ("<a _T=\"NN\"></a>", json!(null)),
            ("<a _T=\"B\">True</a>", json!(true)),
            ("<a _T=\"L\">5</a>", json!(5)),
            ("<a _T=\"L\">5x</a>", json!("5x::L")),
            ("<a _T=\"R\">1.5</a>", json!(1.5)),
            ("<a _T=\"N\">1.10</a>", json!("1.10::N")),
            ("<a _T=\"D\">2026-01-02</a>", json!("2026-01-02::D")),
            ("<a _T=\"JS\">[1, \"2::D\"]</a>", json!([1, "2::D"])),
            ("<a><b _T=\"L\">1</b>\n<_1 _tag=\"1\"><c>x</c></_1></a>", json!({ "b": 1, "1": { "c": "x" } })),
        ] {
            let document = Document::parse(xml).unwrap();
            assert_eq!(super::json(document.root_element()), expected, "{xml}");
        }
    }
}
