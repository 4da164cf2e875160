//! The JSON that STS sends when asked for it: nested objects of strings. Repeated members are kept, so that the shape check
//! refuses them; numbers, lists, null and booleans are no part of it.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::{Content, Element};

/// Nesting of objects: document, response, result, value.
const MAX_DEPTH: usize = 5;

/// The one member of the document, as a root element.
pub(super) fn parse(text: &str) -> Option<Element> {
    let document = parse_members("", text)?;
    match document.content {
        Content::Children(mut children) if children.len() == 1 => children.pop(),
        Content::Children(_) | Content::Text(_) => None,
    }
}

/// The document's members as the children of an element `name`.
pub(super) fn parse_members(name: &str, text: &str) -> Option<Element> {
    let document: Document = serde_json::from_str(text).ok()?;
    Some(Element { name: name.to_owned(), content: document.0 })
}

struct Document(Content);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ContentSeed { depth: 1 }.deserialize(deserializer).map(Document)
    }
}

#[derive(Clone, Copy)]
struct ContentSeed {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for ContentSeed {
    type Value = Content;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ContentSeed {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an object")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        if self.depth > MAX_DEPTH {
            return Err(A::Error::custom("nested too deeply"));
        }
        let mut children = Vec::new();
        while let Some(name) = map.next_key()? {
            let content = map.next_value_seed(ContentSeed { depth: self.depth + 1 })?;
            children.push(Element { name, content });
        }
        Ok(Content::Children(children))
    }
}
