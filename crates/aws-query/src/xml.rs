//! XML out: elements of text or of elements, escaped. It reads none.

/// An element of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// INVARIANT: a name from our own source, never a caller's text.
    name: &'static str,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Text(String),
    Children(Vec<Element>),
}

impl Element {
    pub fn text(name: &'static str, text: &str) -> Element {
        Element { name, content: Content::Text(text.to_owned()) }
    }

    pub fn parent(name: &'static str, children: Vec<Element>) -> Element {
        Element { name, content: Content::Children(children) }
    }

    /// A list as IAM and STS write it: each item a `member`.
    pub fn list(name: &'static str, items: Vec<Vec<Element>>) -> Element {
        Element::parent(
            name,
            items.into_iter().map(|item| Element::parent("member", item)).collect(),
        )
    }

    fn write(&self, out: &mut String) {
        out.push_str(&format!("<{}>", self.name));
        match &self.content {
            Content::Text(text) => escape(text, out),
            Content::Children(children) => children.iter().for_each(|child| child.write(out)),
        }
        out.push_str(&format!("</{}>", self.name));
    }
}

/// `<ActionResponse xmlns="…"><ActionResult>…</ActionResult><ResponseMetadata><RequestId>…`. An action without a result
/// has no `ActionResult`, as AWS has it. `action` is the operation that was done, not the caller's text.
pub fn reply(
    action: &'static str,
    namespace: &str,
    result: &[Element],
    request_id: &str,
) -> String {
    let mut out = format!("<{action}Response xmlns=\"");
    escape(namespace, &mut out);
    out.push_str("\">");
    if !result.is_empty() {
        out.push_str(&format!("<{action}Result>"));
        result.iter().for_each(|element| element.write(&mut out));
        out.push_str(&format!("</{action}Result>"));
    }
    Element::parent("ResponseMetadata", vec![Element::text("RequestId", request_id)])
        .write(&mut out);
    out.push_str(&format!("</{action}Response>"));
    out
}

/// A document of one root with a namespace.
pub(crate) fn document(root: &'static str, namespace: &str, children: &[Element]) -> String {
    let mut out = format!("<{root} xmlns=\"");
    escape(namespace, &mut out);
    out.push_str("\">");
    children.iter().for_each(|element| element.write(&mut out));
    out.push_str(&format!("</{root}>"));
    out
}

/// Escapes text for an element or an attribute. White space that a reader would change is written as a reference; what XML
/// 1.0 cannot hold (section 2.2) becomes U+FFFD.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quick_xml::Reader;
    use quick_xml::events::Event;

    use super::*;

    fn check(action: &'static str, result: &[Element], expected: &str) {
        assert_eq!(reply(action, "urn:n", result, "r&1"), expected);
    }

    #[test]
    fn replies_have_awss_shape() {
        check(
            "GetCallerIdentity",
            &[Element::text("Arn", "arn:aws:iam::1:user/<a>"), Element::text("Empty", "")],
            "<GetCallerIdentityResponse xmlns=\"urn:n\"><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/&lt;a&gt;</Arn>\
             <Empty></Empty></GetCallerIdentityResult><ResponseMetadata><RequestId>r&amp;1</RequestId></ResponseMetadata>\
             </GetCallerIdentityResponse>",
        );
        check(
            "DeleteRole",
            &[],
            "<DeleteRoleResponse xmlns=\"urn:n\"><ResponseMetadata><RequestId>r&amp;1</RequestId></ResponseMetadata>\
             </DeleteRoleResponse>",
        );
        check(
            "ListRoles",
            &[Element::list(
                "Roles",
                vec![vec![Element::text("RoleName", "A")], vec![Element::text("RoleName", "B")]],
            )],
            "<ListRolesResponse xmlns=\"urn:n\"><ListRolesResult><Roles><member><RoleName>A</RoleName></member><member>\
             <RoleName>B</RoleName></member></Roles></ListRolesResult><ResponseMetadata><RequestId>r&amp;1</RequestId>\
             </ResponseMetadata></ListRolesResponse>",
        );
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        let mut out = String::new();
        escape("a\0b\u{1b}c\r\n\t'\u{ffff}", &mut out);
        assert_eq!(out, "a\u{fffd}b\u{fffd}c&#13;\n\t&apos;\u{fffd}");
    }

    /// The text that a general XML reader finds, references resolved.
    fn text_of(document: &str) -> String {
        let mut reader = Reader::from_str(document);
        let mut found = String::new();
        loop {
            match reader.read_event().unwrap() {
                Event::Text(text) => found.push_str(&text.into_inner()),
                Event::GeneralRef(reference) => {
                    let resolved = reference.resolve_char_ref().unwrap().map(String::from);
                    let predefined = || {
                        quick_xml::escape::resolve_predefined_entity(&reference.into_inner())
                            .unwrap()
                            .to_owned()
                    };
                    found.push_str(&resolved.unwrap_or_else(predefined));
                }
                Event::Eof => return found,
                Event::Start(_) | Event::End(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn text_comes_back_and_makes_no_markup(text in "[ -~é\r]{0,30}") {
            let document = document("Root", "urn:n", &[Element::text("Value", &text)]);
            prop_assert_eq!(text_of(&document), text);
        }
    }
}
