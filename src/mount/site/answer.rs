//! The answer to a poll, with further changes. Pure.
//!
//! Owns: where a change stands in it. Never: the form of a change (`message`).

use roxmltree::{Document, Node};

use super::message;

/// The label of the changes of a page in the answer to its poll.
const CHANGES: &str = "dataChanges";
/// The label of those of the pages inside of it.
const OF_CHILDREN: &str = "childDataChanges";

/// A message for a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingMessage<'a> {
    pub(super) text: &'a str,
    /// When it was sent, in ISO 8601.
    pub(super) at: &'a str,
}

/// A text that is inserted.
struct Insertion {
    at: usize,
    text: String,
}

/// Returns the answer with the messages for the page that has polled, and with those for pages inside of it. `None` if the
/// answer is not of the framework's form.
pub(super) fn merged(
    answer: &str,
    own: &[WaitingMessage<'_>],
    children: &[(&str, Vec<WaitingMessage<'_>>)],
) -> Option<String> {
    let document = Document::parse(answer).ok()?;
    let root = document.root_element();
    let mut insertions = vec![inserted(answer, root, CHANGES, own)?];
    let mut new_children = String::new();
    let of_children = element_of(root, OF_CHILDREN);
    for (page, kept) in children {
        match of_children.filter(|all| element_of(*all, page).is_some()) {
            Some(all) => insertions.push(inserted(answer, all, page, kept)?),
            None => new_children.push_str(&element(page, &changes(kept, 0))),
        }
    }
    if !new_children.is_empty() {
        let text = if of_children.is_some() { new_children } else { element(OF_CHILDREN, &new_children) };
        insertions.push(Insertion { at: end(answer, of_children.unwrap_or(root))?, text });
    }
    Some(with(answer, insertions))
}

/// Returns where and how the messages for a page are added to the changes that an element has for it.
fn inserted(
    answer: &str,
    parent: Node<'_, '_>,
    label: &str,
    kept: &[WaitingMessage<'_>],
) -> Option<Insertion> {
    let Some(present) = element_of(parent, label) else {
        let text = if kept.is_empty() { String::new() } else { element(label, &changes(kept, 0)) };
        return Some(Insertion { at: end(answer, parent)?, text });
    };
    let count = present.children().filter(Node::is_element).count();
    Some(Insertion { at: end(answer, present)?, text: changes(kept, count) })
}

fn changes(kept: &[WaitingMessage<'_>], first: usize) -> String {
    kept.iter()
        .enumerate()
        .filter_map(|(index, one)| message::change(one.text, first + index, one.at))
        .collect()
}

/// Writes an element with a label, which need not be a name of XML.
fn element(label: &str, content: &str) -> String {
    if label.starts_with(|letter: char| letter.is_ascii_digit()) {
        return format!("<_{label} _tag=\"{label}\">{content}</_{label}>");
    }
    format!("<{label}>{content}</{label}>")
}

fn element_of<'a, 'input>(parent: Node<'a, 'input>, label: &str) -> Option<Node<'a, 'input>> {
    let is_it = |child: &Node<'_, '_>| child.attribute("_tag").unwrap_or(child.tag_name().name()) == label;
    parent.children().filter(Node::is_element).find(is_it)
}

/// Returns where the end tag of an element begins; `None` if it has none.
fn end(text: &str, element: Node<'_, '_>) -> Option<usize> {
    let range = element.range();
    text[range.clone()].rfind("</").map(|at| range.start + at)
}

fn with(text: &str, mut insertions: Vec<Insertion>) -> String {
    insertions.sort_by_key(|insertion| insertion.at);
    let mut written = String::with_capacity(text.len() * 2);
    let mut from = 0;
    for Insertion { at, text: added } in insertions {
        written.push_str(&text[from..at]);
        written.push_str(&added);
        from = at;
    }
    written.push_str(&text[from..]);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<?xml version='1.0' encoding='UTF-8'?>\n<GenRoBag><result _T=\"NN\"></result>";
    const SET: &str = "<GenRoBag><command>set</command><data><data>x</data><path>p</path></data></GenRoBag>";

    fn sent(number: usize) -> String {
        format!(
            "<sc_{number} change_path=\"p\" change_fired=\"False::B\" change_ts=\"t::DH\">x</sc_{number}>"
        )
    }

    #[test]
    fn messages_stand_after_the_changes_that_the_site_has_sent() {
        let kept = [WaitingMessage { text: SET, at: "t" }];
        let plain = format!("{HEAD}</GenRoBag>");
        let expected = format!("{HEAD}<dataChanges>{}</dataChanges></GenRoBag>", sent(0));
        assert_eq!(merged(&plain, &kept, &[]), Some(expected));
        let with_one =
            format!("{HEAD}<dataChanges><sc_0 change_path=\"q\">y</sc_0></dataChanges></GenRoBag>");
        let expected = with_one.replace("</dataChanges>", &format!("{}</dataChanges>", sent(1)));
        assert_eq!(merged(&with_one, &kept, &[]), Some(expected));
        assert_eq!(merged(&plain, &[], &[]), Some(plain));
    }

    #[test]
    fn pages_inside_have_their_own_messages() {
        let kept = WaitingMessage { text: SET, at: "t" };
        let plain = format!("{HEAD}</GenRoBag>");
        let children = [("1abc", vec![kept]), ("b_c", vec![kept])];
        let expected = format!(
            "{HEAD}<childDataChanges><_1abc _tag=\"1abc\">{0}</_1abc><b_c>{0}</b_c></childDataChanges></GenRoBag>",
            sent(0)
        );
        assert_eq!(merged(&plain, &[], &children), Some(expected.clone()));
        let again = merged(&expected, &[], &children).unwrap();
        assert!(again.contains(&format!("<b_c>{}{}</b_c>", sent(0), sent(1))), "{again}");
        let other = merged(&expected, &[], &[("d", vec![kept])]).unwrap();
        assert!(other.contains(&format!("</b_c><d>{}</d></childDataChanges>", sent(0))), "{other}");
    }

    #[test]
    fn another_answer_is_left_alone() {
        let kept = [WaitingMessage { text: SET, at: "t" }];
        for other in ["", "<GenRoBag/>", "no longer existing page", "<a>"] {
            assert_eq!(merged(other, &kept, &[]), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_answer_with_messages_is_still_xml(
            answer in "(<GenRoBag>|</GenRoBag>|<dataChanges>|</dataChanges>|<c>|</c>|<childDataChanges/>|x|é|&amp;| ){0,9}",
            value in "(<a _T=\"L\">|</a>|<a/>|5|é|&lt;|<!--|-->|<!\\[CDATA\\[|\\]\\]>|\"){0,5}",
        ) {
            let text = SET.replace("<data>x</data>", &format!("<data>{value}</data>"));
            let kept = [WaitingMessage { text: &text, at: "t" }];
            let answer = format!("<GenRoBag>{answer}</GenRoBag>");
            if let Some(merged) = merged(&answer, &kept, &[("c", kept.to_vec())]) {
                Document::parse(&merged).unwrap();
            }
        }
    }
}
