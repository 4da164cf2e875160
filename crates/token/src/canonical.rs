//! RFC 8785 canonical JSON, for the few kinds of value that this crate hashes: text, 32-bit integers, lists and objects.
//!
//! Declines to know floating-point numbers: nothing here has one, and their text form is the hard half of the RFC.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A JSON value to be written canonically. Members may be given in any order; names must differ.
#[derive(Debug, Clone)]
pub(crate) enum Node<'a> {
    Text(&'a str),
    Integer(i32),
    List(Vec<Node<'a>>),
    Object(Vec<(&'a str, Node<'a>)>),
}

/// The canonical text: no white space, members sorted, everything outside ASCII as UTF-8.
pub(crate) fn canonical(node: &Node<'_>) -> String {
    let mut out = String::new();
    write_node(&mut out, node);
    out
}

/// Base64url without padding of the SHA-256 of `bytes`: 43 characters.
pub(crate) fn sha256_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

fn write_node(out: &mut String, node: &Node<'_>) {
    match node {
        Node::Text(text) => write_text(out, text),
        Node::Integer(number) => out.push_str(&number.to_string()),
        Node::List(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                separate(out, position);
                write_node(out, item);
            }
            out.push(']');
        }
        Node::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            // RFC 8785 section 3.2.3: names are compared as arrays of UTF-16 code units.
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (position, (name, value)) in sorted.into_iter().enumerate() {
                separate(out, position);
                write_text(out, name);
                out.push(':');
                write_node(out, value);
            }
            out.push('}');
        }
    }
}

fn separate(out: &mut String, position: usize) {
    if position > 0 {
        out.push(',');
    }
}

/// RFC 8785 section 3.2.2.2: the two-character escapes where JSON has one, `\u00xx` for the other controls below U+0020,
/// and every other character as it is (U+007F and U+2028 too).
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        fn check(node: Node<'_>, expected: &str) {
            assert_eq!(canonical(&node), expected);
        }
        check(Node::Text("plain"), r#""plain""#);
        check(
            Node::Text("\"\\/\u{8}\t\n\u{c}\r\u{0}\u{1f}\u{7f}"),
            "\"\\\"\\\\/\\b\\t\\n\\f\\r\\u0000\\u001f\u{7f}\"",
        );
        check(Node::Text("é\u{2028}\u{1f600}"), "\"é\u{2028}\u{1f600}\"");
        check(Node::Integer(-1), "-1");
        check(Node::List(vec![]), "[]");
        check(Node::List(vec![Node::Text("b"), Node::Text("a")]), r#"["b","a"]"#);
        check(Node::Object(vec![]), "{}");
        check(
            Node::Object(vec![
                ("b", Node::Integer(1)),
                ("a", Node::Object(vec![("z", Node::Text("")), ("y", Node::Integer(0))])),
            ]),
            r#"{"a":{"y":0,"z":""},"b":1}"#,
        );
    }

    // RFC 8785 section 3.2.3 has these names and this order: U+1F600 begins with the code unit D83D, below FB33.
    #[test]
    fn names_are_sorted_by_utf_16_code_unit() {
        let names = ["\u{20ac}", "\r", "\u{fb33}", "1", "\u{1f600}", "\u{80}", "\u{f6}"];
        let members = names.into_iter().map(|name| (name, Node::Integer(0))).collect();
        let expected = "{\"\\r\":0,\"1\":0,\"\u{80}\":0,\"\u{f6}\":0,\"\u{20ac}\":0,\"\u{1f600}\":0,\"\u{fb33}\":0}";
        assert_eq!(canonical(&Node::Object(members)), expected);
    }
}
