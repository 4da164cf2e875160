//! A small JSON reader that knows where everything stands.
//!
//! It refuses what lenient readers let pass, because two readers that differ on it may be played against each other: duplicate
//! keys, lone surrogates, nesting deeper than a limit, text after the value. Numbers are kept as they were written.
//! Source: RFC 8259.

use std::collections::HashSet;
use std::ops::Range;

use thiserror::Error;

use crate::document::Position;

/// How deep arrays and objects may nest in a policy document.
pub const MAX_DEPTH: usize = 32;

/// A value, where it begins, and which bytes of the text it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    pub at: Position,
    pub bytes: Range<usize>,
    pub node: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    String(String),
    Array(Vec<Value>),
    /// In the order of the text; no key twice.
    Object(Vec<Member>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub key: String,
    pub at: Position,
    pub value: Value,
}

impl Value {
    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.node {
            Node::Null => "null",
            Node::Bool(_) => "a boolean",
            Node::Number(_) => "a number",
            Node::String(_) => "a string",
            Node::Array(_) => "an array",
            Node::Object(_) => "an object",
        }
    }
}

/// What is wrong with the text, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{at}: {kind}")]
pub struct JsonError {
    pub at: Position,
    pub kind: JsonErrorKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonErrorKind {
    #[error("found {found}, expected {expected}")]
    Unexpected { found: String, expected: &'static str },
    #[error("the key `{0}` stands twice in one object")]
    DuplicateKey(String),
    #[error("arrays and objects nest deeper than {0}")]
    TooDeep(usize),
    #[error("text after the end of the JSON value: {0}")]
    TrailingText(String),
    #[error("a lone surrogate `\\u{0}` is no character")]
    LoneSurrogate(String),
}

impl JsonErrorKind {
    /// A stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            JsonErrorKind::Unexpected { .. } => "InvalidJson",
            JsonErrorKind::DuplicateKey(_) => "DuplicateKey",
            JsonErrorKind::TooDeep(_) => "TooDeep",
            JsonErrorKind::TrailingText(_) => "TrailingText",
            JsonErrorKind::LoneSurrogate(_) => "LoneSurrogate",
        }
    }
}

/// Reads one JSON value that is the whole text.
pub fn read(text: &str, max_depth: usize) -> Result<Value, JsonError> {
    let mut reader = Reader { text, offset: 0, at: Position::START, max_depth };
    reader.skip_blanks();
    let value = reader.value(0)?;
    reader.skip_blanks();
    match reader.peek() {
        None => Ok(value),
        Some(c) => Err(reader.error(JsonErrorKind::TrailingText(name(c)))),
    }
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
    at: Position,
    max_depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.offset += c.len_utf8();
        if c == '\n' {
            self.at = Position { line: self.at.line.saturating_add(1), column: 1 };
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(c)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.next();
        }
    }

    fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError { at: self.at, kind }
    }

    fn unexpected(&self, expected: &'static str) -> JsonError {
        let found = self.peek().map_or_else(|| "the end of the text".to_owned(), name);
        self.error(JsonErrorKind::Unexpected { found, expected })
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        let (at, start) = (self.at, self.offset);
        let node = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Node::String(self.string()?),
            Some('t') => self.word("true", Node::Bool(true))?,
            Some('f') => self.word("false", Node::Bool(false))?,
            Some('n') => self.word("null", Node::Null)?,
            Some('-' | '0'..='9') => self.number()?,
            Some(_) | None => return Err(self.unexpected("a JSON value")),
        };
        Ok(Value { at, bytes: start..self.offset, node })
    }

    fn word(&mut self, word: &str, node: Node) -> Result<Node, JsonError> {
        if !self.rest().starts_with(word) {
            return Err(self.unexpected("a JSON value"));
        }
        for _ in word.chars() {
            self.next();
        }
        Ok(node)
    }

    fn enter(&self, depth: usize) -> Result<usize, JsonError> {
        if depth < self.max_depth {
            Ok(depth + 1)
        } else {
            Err(self.error(JsonErrorKind::TooDeep(self.max_depth)))
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node, JsonError> {
        let depth = self.enter(depth)?;
        self.next();
        self.skip_blanks();
        let mut members = Vec::new();
        let mut keys = HashSet::new();
        if self.peek() == Some('}') {
            self.next();
            return Ok(Node::Object(members));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some('"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let at = self.at;
            let key = self.string()?;
            if !keys.insert(key.clone()) {
                return Err(JsonError { at, kind: JsonErrorKind::DuplicateKey(key) });
            }
            self.skip_blanks();
            if self.peek() != Some(':') {
                return Err(self.unexpected("`:` after the key"));
            }
            self.next();
            self.skip_blanks();
            let value = self.value(depth)?;
            members.push(Member { key, at, value });
            self.skip_blanks();
            match self.peek() {
                Some(',') => self.next(),
                Some('}') => {
                    self.next();
                    return Ok(Node::Object(members));
                }
                Some(_) | None => return Err(self.unexpected("`,` or `}`")),
            };
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node, JsonError> {
        let depth = self.enter(depth)?;
        self.next();
        self.skip_blanks();
        let mut values = Vec::new();
        if self.peek() == Some(']') {
            self.next();
            return Ok(Node::Array(values));
        }
        loop {
            self.skip_blanks();
            values.push(self.value(depth)?);
            self.skip_blanks();
            match self.peek() {
                Some(',') => self.next(),
                Some(']') => {
                    self.next();
                    return Ok(Node::Array(values));
                }
                Some(_) | None => return Err(self.unexpected("`,` or `]`")),
            };
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => {
                    self.next();
                    return Ok(text);
                }
                Some('\\') => {
                    self.next();
                    text.push(self.escape()?);
                }
                Some(c) if c >= ' ' => {
                    self.next();
                    text.push(c);
                }
                Some(_) | None => return Err(self.unexpected("`\"` at the end of the string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let c = match self.peek() {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                self.next();
                return self.unicode();
            }
            Some(_) | None => return Err(self.unexpected("an escape (one of \" \\ / b f n r t u)")),
        };
        self.next();
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let at = self.at;
        let high = self.hex4()?;
        let lone =
            |code: u32| JsonError { at, kind: JsonErrorKind::LoneSurrogate(format!("{code:04x}")) };
        match high {
            0xD800..=0xDBFF => {
                if !self.rest().starts_with("\\u") {
                    return Err(lone(high));
                }
                self.next();
                self.next();
                let low = self.hex4()?;
                if !(0xDC00..=0xDFFF).contains(&low) {
                    return Err(lone(high));
                }
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                    .ok_or_else(|| lone(high))
            }
            _ => char::from_u32(high).ok_or_else(|| lone(high)),
        }
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self
                .peek()
                .and_then(|c| c.to_digit(16))
                .ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
            self.next();
            code = code * 16 + digit;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Node, JsonError> {
        let start = self.offset;
        if self.peek() == Some('-') {
            self.next();
        }
        if self.peek() == Some('0') {
            self.next();
        } else {
            self.digits()?;
        }
        if self.peek() == Some('.') {
            self.next();
            self.digits()?;
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.next();
            if matches!(self.peek(), Some('+' | '-')) {
                self.next();
            }
            self.digits()?;
        }
        Ok(Node::Number(self.text.get(start..self.offset).unwrap_or_default().to_owned()))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return Err(self.unexpected("a digit"));
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.next();
        }
        Ok(())
    }
}

fn name(c: char) -> String {
    if c.is_control() { format!("the character U+{:04X}", u32::from(c)) } else { format!("`{c}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_refused_where_it_goes_wrong() {
        fn check(text: &str, expected: Result<(), (&str, u32, u32)>) {
            let found =
                read(text, 4).map(|_| ()).map_err(|e| (e.kind.code(), e.at.line, e.at.column));
            assert_eq!(found, expected, "{text}");
        }
        check("{}", Ok(()));
        check(" [1, -0.5e+3, \"\\u00e9\\ud83d\\ude00\", true, false, null] ", Ok(()));
        check("[[[[]]]]", Ok(()));
        check("[[[[[]]]]]", Err(("TooDeep", 1, 5)));
        check("{\"a\":1,\n \"a\":2}", Err(("DuplicateKey", 2, 2)));
        check("{\"a\":1,\"\\u0061\":2}", Err(("DuplicateKey", 1, 8)));
        check("{} {}", Err(("TrailingText", 1, 4)));
        check("[\"\\ud800\"]", Err(("LoneSurrogate", 1, 5)));
        check("[\"\\ud800\\u0041\"]", Err(("LoneSurrogate", 1, 5)));
        check("[\"\\udc00\"]", Err(("LoneSurrogate", 1, 5)));
        check("", Err(("InvalidJson", 1, 1)));
        check("[1,]", Err(("InvalidJson", 1, 4)));
        check("{\"a\":1,}", Err(("InvalidJson", 1, 8)));
        check("{a:1}", Err(("InvalidJson", 1, 2)));
        check("[01]", Err(("InvalidJson", 1, 3)));
        check("[1.]", Err(("InvalidJson", 1, 4)));
        check("[+1]", Err(("InvalidJson", 1, 2)));
        check("[\"\n\"]", Err(("InvalidJson", 1, 3)));
        check("[\"\\x\"]", Err(("InvalidJson", 1, 4)));
        check("\u{feff}{}", Err(("InvalidJson", 1, 1)));
        check("[\"é\", x]", Err(("InvalidJson", 1, 7)));
        check("nul", Err(("InvalidJson", 1, 1)));
        check("// c\n{}", Err(("InvalidJson", 1, 1)));
    }
}
