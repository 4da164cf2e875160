//! The XML that STS sends, and nothing more of XML.
//!
//! A general reader accepts what STS never sends (a DTD, comments, CDATA, prefixes, mixed content), and each such thing has
//! been somebody's hole. This grammar is small enough to read whole:
//!
//! ```text
//! document = [declaration] space element space
//! element  = "<" name [namespace, on the root] space ( "/>" | ">" content "</" name space ">" )
//! content  = text and the five predefined references, or elements with only white space between them
//! ```

use super::{Content, Element};

/// Nesting of elements: response, result, value.
const MAX_DEPTH: usize = 4;
const MAX_ELEMENTS: usize = 32;

const DECLARATIONS: [&str; 3] = [
    "<?xml version=\"1.0\"?>",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
];

/// The root element, which must be in `namespace`. `None` for anything outside the grammar.
pub(super) fn parse(text: &str, namespace: &str) -> Option<Element> {
    parse_root(text, &format!(" xmlns=\"{namespace}\""))
}

/// The same without a namespace, as some private STS's write their errors.
pub(super) fn parse_plain(text: &str) -> Option<Element> {
    parse_root(text, "")
}

/// `attributes` is the exact text that must follow the root's name.
fn parse_root(text: &str, attributes: &str) -> Option<Element> {
    let mut reader = Reader { rest: text, elements: 0 };
    for declaration in DECLARATIONS {
        if reader.eat(declaration) {
            break;
        }
    }
    reader.space();
    let root = reader.element(attributes, 1)?;
    reader.space();
    reader.rest.is_empty().then_some(root)
}

struct Reader<'a> {
    rest: &'a str,
    elements: usize,
}

impl<'a> Reader<'a> {
    /// `attributes` is the exact text that must follow the name.
    fn element(&mut self, attributes: &str, depth: usize) -> Option<Element> {
        self.elements += 1;
        if depth > MAX_DEPTH || self.elements > MAX_ELEMENTS || !self.eat("<") {
            return None;
        }
        let name = self.name()?;
        if !self.eat(attributes) {
            return None;
        }
        self.space();
        if self.eat("/>") {
            return Some(Element { name: name.to_owned(), content: Content::Text(String::new()) });
        }
        if !self.eat(">") {
            return None;
        }
        let content = self.content(depth)?;
        let closed = self.eat("</") && self.name()? == name;
        self.space();
        (closed && self.eat(">")).then(|| Element { name: name.to_owned(), content })
    }

    fn content(&mut self, depth: usize) -> Option<Content> {
        let text = self.text()?;
        if self.rest.starts_with("</") {
            return Some(Content::Text(text));
        }
        // Text beside elements is no answer of STS.
        if !text.bytes().all(is_space) {
            return None;
        }
        let mut children = Vec::new();
        while !self.rest.starts_with("</") {
            children.push(self.element("", depth + 1)?);
            self.space();
        }
        Some(Content::Children(children))
    }

    /// Up to the next `<`, with the five predefined references resolved.
    fn text(&mut self) -> Option<String> {
        let end = self.rest.find('<')?;
        let (raw, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let mut pieces = raw.split('&');
        let mut text = plain(pieces.next()?)?.to_owned();
        for piece in pieces {
            let (reference, after) = piece.split_once(';')?;
            text.push(predefined(reference)?);
            text.push_str(plain(after)?);
        }
        Some(text)
    }

    fn name(&mut self) -> Option<&'a str> {
        let end = self
            .rest
            .find(|character: char| !character.is_ascii_alphanumeric())
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        name.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(name)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Text without references: no raw `>` (so no `]]>`), no control characters but white space.
fn plain(text: &str) -> Option<&str> {
    let allowed = |character: char| {
        character != '>' && (!character.is_control() || matches!(character, '\t' | '\r' | '\n'))
    };
    text.chars().all(allowed).then_some(text)
}

/// XML 1.0 section 4.6. Character references and declared entities are refused.
fn predefined(reference: &str) -> Option<char> {
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}
