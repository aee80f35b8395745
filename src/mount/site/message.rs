//! What a site sends for its pages: the framework's XML. Pure.
//!
//! Owns: reading such a message, and its form in the answer to a poll. Never: which page it is for.

use roxmltree::{Document, Node};
use serde_json::json;

use super::typed_json;

/// A page that its site has created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewPage {
    pub(super) id: String,
    /// The connection of its browser.
    pub(super) connection: String,
}

/// Returns the page that a message announces, if it announces one.
pub(super) fn announced(message: &str) -> Option<NewPage> {
    let document = Document::parse(message).ok()?;
    let root = document.root_element();
    let data = member(root, "data").filter(|_| text(root, "command") == Some("registerNewPage"))?;
    let connection = text(member(data, "page_info")?, "connection_id")?;
    Some(NewPage { id: text(data, "page_id")?.to_owned(), connection: connection.to_owned() })
}

/// Returns a message as the change with this number of a poll's answer; `at` is when it was sent. `None` for a command that is no
/// change of data.
pub(super) fn change(message: &str, number: usize, at: &str) -> Option<String> {
    let document = Document::parse(message).ok()?;
    let root = document.root_element();
    let data = member(root, "data")?;
    let sent = match text(root, "command")? {
        "setInClientData" => SentChange {
            path: text(data, "path")?,
            value: value_of(message, member(data, "value")),
            attributes: member(data, "attributes").filter(has_members).map(typed_json::json),
            reason: text(data, "reason").filter(|reason| !reason.is_empty()),
            fired: is_true(data, "fired"),
        },
        "set" => SentChange {
            path: text(data, "path")?,
            value: value_of(message, member(data, "data")),
            attributes: None,
            reason: None,
            fired: is_true(data, "fired"),
        },
        "publish" => SentChange::published(data)?,
        _ => return None,
    };
    Some(sent.xml(number, at))
}

/// A change of data in the client of a page.
struct SentChange<'a> {
    path: &'a str,
    value: ChangedValue,
    attributes: Option<serde_json::Value>,
    reason: Option<&'a str>,
    /// Whether the value is set to nothing afterwards.
    fired: bool,
}

/// A value: the attributes and the content of an element.
struct ChangedValue {
    attributes: String,
    content: String,
}

impl SentChange<'_> {
    /// A topic and its arguments, in the form that the framework has for them without sockets.
    fn published(data: Node<'_, '_>) -> Option<Self> {
        let arguments = member(data, "data").map_or(serde_json::Value::Null, typed_json::json);
        let mut value = json!({ "topic": text(data, "topic")?, "kw": arguments });
        for name in ["nodeId", "iframe", "parent"] {
            let given = member(data, name).map(typed_json::json).filter(|given| !is_nothing(given));
            if let Some(given) = given {
                value[name] = given;
            }
        }
        let value =
            ChangedValue { attributes: " _T=\"JS\"".to_owned(), content: escaped(&value.to_string()) };
        Some(Self { path: "gnr.publisher", value, attributes: None, reason: None, fired: true })
    }

    fn xml(&self, number: usize, at: &str) -> String {
        let fired = if self.fired { "True::B" } else { "False::B" };
        let mut attributes = format!("{} change_path=\"{}\"", self.value.attributes, escaped(self.path));
        let reason = self.reason.map(|reason| ("change_reason", reason.to_owned()));
        let attr = self.attributes.as_ref().map(|value| ("change_attr", format!("{value}::JS")));
        let rest = [("change_fired", fired.to_owned()), ("change_ts", format!("{at}::DH"))];
        for (name, value) in reason.into_iter().chain(attr).chain(rest) {
            attributes.push_str(&format!(" {name}=\"{}\"", escaped(&value)));
        }
        format!("<sc_{number}{attributes}>{}</sc_{number}>", self.value.content)
    }
}

/// Returns the value of an element, with its content as it is written.
fn value_of(message: &str, element: Option<Node<'_, '_>>) -> ChangedValue {
    let Some(element) = element else {
        return ChangedValue { attributes: " _T=\"NN\"".to_owned(), content: String::new() };
    };
    let attributes = element.attributes();
    let attributes = attributes.map(|one| format!(" {}=\"{}\"", one.name(), escaped(one.value()))).collect();
    let inner = element.first_child().zip(element.last_child());
    let content = inner.map_or("", |(first, last)| &message[first.range().start..last.range().end]);
    ChangedValue { attributes, content: content.to_owned() }
}

fn member<'a, 'input>(element: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    element.children().find(|child| child.has_tag_name(name))
}

/// Returns the text of a member; `None` without one and for nothing.
fn text<'a>(element: Node<'a, '_>, name: &str) -> Option<&'a str> {
    member(element, name).filter(|member| member.attribute("_T") != Some("NN"))?.text()
}

fn has_members(element: &Node<'_, '_>) -> bool {
    element.children().any(|child| child.is_element())
}

fn is_true(element: Node<'_, '_>, name: &str) -> bool {
    text(element, name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn is_nothing(value: &serde_json::Value) -> bool {
    value.is_null() || *value == json!("") || *value == json!(false)
}

/// Returns a text as content or as the value of an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => written.push_str("&amp;"),
            '<' => written.push_str("&lt;"),
            '>' => written.push_str("&gt;"),
            '"' => written.push_str("&quot;"),
            '\n' => written.push_str("&#10;"),
            '\r' => written.push_str("&#13;"),
            '\t' => written.push_str("&#9;"),
            other => written.push(other),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(command: &str, data: &str) -> String {
        format!(
            "<?xml version='1.0' encoding='UTF-8'?>\n<GenRoBag><command>{command}</command>\n<data>{data}</data></GenRoBag>"
        )
    }

    #[test]
    fn a_value_of_a_path_is_a_change() {
        let sent = message(
            "setInClientData",
            "<value _T=\"L\">5</value>\n<path>a.b</path>\n<attributes><x _T=\"L\">1</x>\n<d _T=\"D\">2026-01-02</d></attributes>\n\
             <reason>r</reason>\n<nodeId _T=\"NN\"></nodeId>",
        );
        let expected = "<sc_3 _T=\"L\" change_path=\"a.b\" change_reason=\"r\" \
             change_attr=\"{&quot;x&quot;:1,&quot;d&quot;:&quot;2026-01-02::D&quot;}::JS\" change_fired=\"False::B\" \
             change_ts=\"now::DH\">5</sc_3>";
        assert_eq!(change(&sent, 3, "now").as_deref(), Some(expected));
        let bag = message("setInClientData", "<value><k _T=\"L\">1</k>\n<z>a&lt;b</z></value><path>p</path>");
        let expected = "<sc_0 change_path=\"p\" change_fired=\"False::B\" change_ts=\"t::DH\"><k _T=\"L\">1</k>\n\
             <z>a&lt;b</z></sc_0>";
        assert_eq!(change(&bag, 0, "t").as_deref(), Some(expected));
    }

    #[test]
    fn a_fired_value_and_a_topic_are_changes() {
        let fired = message("set", "<data>x</data>\n<path>p.q</path>\n<fired _T=\"B\">True</fired>");
        let expected = "<sc_0 change_path=\"p.q\" change_fired=\"True::B\" change_ts=\"t::DH\">x</sc_0>";
        assert_eq!(change(&fired, 0, "t").as_deref(), Some(expected));
        let topic = message(
            "publish",
            "<data><a _T=\"L\">1</a>\n<b>x\"y</b></data><topic>t</topic><nodeId _T=\"NN\"/><iframe>*</iframe>",
        );
        let expected = "<sc_0 _T=\"JS\" change_path=\"gnr.publisher\" change_fired=\"True::B\" change_ts=\"t::DH\">\
             {&quot;topic&quot;:&quot;t&quot;,&quot;kw&quot;:{&quot;a&quot;:1,&quot;b&quot;:&quot;x\\&quot;y&quot;},\
             &quot;iframe&quot;:&quot;*&quot;}</sc_0>";
        assert_eq!(change(&topic, 0, "t").as_deref(), Some(expected));
    }

    #[test]
    fn what_is_no_change_is_none() {
        for other in [
            "",
            "<a",
            "<a/>",
            &message("alert", "<value>x</value>"),
            &message("set", "<data>x</data>"),
            &message("publish", "<topic _T=\"NN\"/>"),
        ] {
            assert_eq!(change(other, 0, "t"), None, "{other}");
        }
    }

    #[test]
    fn a_new_page_is_announced_with_its_connection() {
        let page_info = "<page_info><user>u</user>\n<connection_id>c1</connection_id></page_info>";
        let announcement = message("registerNewPage", &format!("<page_id>p1</page_id>{page_info}"));
        let page = NewPage { id: "p1".to_owned(), connection: "c1".to_owned() };
        assert_eq!(announced(&announcement), Some(page));
        for other in ["", "<a/>", &message("registerNewPage", page_info), &message("set", page_info)] {
            assert_eq!(announced(other), None, "{other}");
        }
    }
}
