//! Patterns: text with `*`, `?` and policy variables, and whether a text matches.
//!
//! A [`Template`] is what a document holds; filled from a request's context it becomes a [`Glob`]. What a variable brings in is
//! literal text, never a pattern (RULES.md 20). Matching takes time linear in the text, whatever the pattern: after each `*` the
//! leftmost occurrence of the next piece is the right one, so nothing is tried twice.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>

use std::collections::HashMap;

use crate::document::Version;

/// One element of a pattern that is ready to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// This character, as the document wrote it.
    Char(char),
    /// This character, brought in by a variable. It matches like any other, but may not end a part of an ARN.
    Value(char),
    /// `?`: exactly one character.
    One,
    /// `*`: any number of characters.
    Many,
}

/// A pattern without variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads `*` and `?` as wildcards, everything else as itself.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { tokens: text.chars().map(wildcard).collect() }
    }

    #[must_use]
    pub fn from_tokens(tokens: Vec<Token>) -> Self {
        Self { tokens }
    }

    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        matches(&self.tokens, &text.chars().collect::<Vec<_>>())
    }

    /// The six parts of an ARN pattern; what follows the fifth colon keeps its own colons. `None` if there are fewer.
    /// `values_separate` says whether a colon that a variable brought in counts.
    #[must_use]
    pub fn arn_parts(&self, values_separate: bool) -> Option<[Glob; 6]> {
        let parts: Vec<Glob> = self
            .tokens
            .splitn(6, |token| {
                *token == Token::Char(':') || (values_separate && *token == Token::Value(':'))
            })
            .map(|part| Self::from_tokens(part.to_vec()))
            .collect();
        parts.try_into().ok()
    }

    /// The literal text, with `*` and `?` as they were written.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.tokens.iter().map(|token| written(*token)).collect()
    }
}

fn wildcard(c: char) -> Token {
    match c {
        '*' => Token::Many,
        '?' => Token::One,
        literal => Token::Char(literal),
    }
}

fn written(token: Token) -> char {
    match token {
        Token::Char(c) | Token::Value(c) => c,
        Token::One => '?',
        Token::Many => '*',
    }
}

fn matches_one(token: Token, c: char) -> bool {
    match token {
        Token::Char(literal) | Token::Value(literal) => literal == c,
        Token::One => true,
        Token::Many => false,
    }
}

fn matches_all(piece: &[Token], text: &[char]) -> bool {
    piece.len() == text.len() && piece.iter().zip(text).all(|(token, c)| matches_one(*token, *c))
}

fn matches(tokens: &[Token], text: &[char]) -> bool {
    let mut pieces = tokens.split(|token| *token == Token::Many);
    let head = pieces.next().unwrap_or_default();
    let Some(tail) = pieces.next_back() else {
        return matches_all(head, text); // no `*` at all
    };
    let Some((start, rest)) = text.split_at_checked(head.len()) else { return false };
    let Some(middle_end) = rest.len().checked_sub(tail.len()) else { return false };
    let Some((mut middle, end)) = rest.split_at_checked(middle_end) else { return false };
    if !matches_all(head, start) || !matches_all(tail, end) {
        return false;
    }
    for piece in pieces {
        match find(piece, middle).and_then(|at| middle.get(at + piece.len()..)) {
            Some(after) => middle = after,
            None => return false,
        }
    }
    true
}

/// Pieces up to this length are looked for position by position.
const SHORT_PIECE: usize = 16;

/// The leftmost position at which the piece occurs.
fn find(piece: &[Token], text: &[char]) -> Option<usize> {
    if piece.is_empty() {
        return Some(0);
    }
    if piece.len() <= SHORT_PIECE {
        return text.windows(piece.len()).position(|window| matches_all(piece, window));
    }
    find_long(piece, text)
}

/// Shift-And: one bit a token; bit i is set when the text read so far ends with the first i + 1 tokens. A long piece costs
/// one word an eighth of a byte long for each 64 tokens and character, so that no repetition in the text can make it slow.
fn find_long(piece: &[Token], text: &[char]) -> Option<usize> {
    let words = piece.len().div_ceil(64);
    let bit = |i: usize| (i / 64, 1_u64 << (i % 64));
    let mut any = vec![0_u64; words];
    let mut of_char: HashMap<char, Vec<u64>> = HashMap::new();
    for (i, token) in piece.iter().enumerate() {
        let (word, mask) = bit(i);
        let masks = match token {
            Token::Char(c) | Token::Value(c) => of_char.entry(*c).or_insert_with(|| vec![0; words]),
            Token::One => &mut any,
            Token::Many => return None,
        };
        if let Some(slot) = masks.get_mut(word) {
            *slot |= mask;
        }
    }
    let nothing = vec![0_u64; words];
    let (last_word, last_mask) = bit(piece.len() - 1);
    let mut state = vec![0_u64; words];
    for (at, c) in text.iter().enumerate() {
        let masks = of_char.get(c).unwrap_or(&nothing);
        let mut carry = 1_u64;
        for ((word, mask), wild) in state.iter_mut().zip(masks).zip(&any) {
            let next_carry = *word >> 63;
            *word = ((*word << 1) | carry) & (mask | wild);
            carry = next_carry;
        }
        if state.get(last_word).is_some_and(|word| word & last_mask != 0) {
            return Some(at + 1 - piece.len());
        }
    }
    None
}

/// A text of a document, with its variables not yet filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Result<Vec<Piece>, MalformedVariable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    One,
    Many,
    /// `${*}`, `${?}`, `${$}`: the character itself.
    Escaped(char),
    Variable(Variable),
}

/// `${key}` or `${key, 'default'}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub key: String,
    pub default: Option<String>,
}

/// A `${` that opens no variable. The text after it, for the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no policy variable: expected `${{key}}` or `${{key, 'default'}}`")]
pub struct MalformedVariable(pub String);

/// What the context has for a variable's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked<'a> {
    One(&'a str),
    /// A multivalued key cannot be used as a variable (RULES.md 25).
    Many,
    Missing,
}

/// What became of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filled {
    Glob(Glob),
    /// A variable has no value, and no default: the text matches nothing (RULES.md 21). It names the key.
    NoValue(String),
    /// The text cannot be evaluated; why.
    Unclear(String),
}

impl Template {
    /// Reads variables if the document's version has them (2008-10-17 has none, RULES.md 24).
    #[must_use]
    pub fn new(text: &str, version: Version) -> Self {
        let pieces = match version {
            Version::V2008_10_17 => Ok(plain(text)),
            Version::V2012_10_17 => with_variables(text),
        };
        Self { text: text.to_owned(), pieces }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The `${` that opens no variable, if there is one.
    #[must_use]
    pub fn malformed(&self) -> Option<&MalformedVariable> {
        self.pieces.as_ref().err()
    }

    /// Whether any variable, `${*}` and its like apart, is in the text (or may be, where it is malformed).
    #[must_use]
    pub fn has_variables(&self) -> bool {
        match &self.pieces {
            Ok(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::Variable(_))),
            Err(MalformedVariable(_)) => true,
        }
    }

    /// Whether a variable stands before the fifth colon, where an ARN may have none.
    #[must_use]
    pub fn has_variable_before_fifth_colon(&self) -> bool {
        let Ok(pieces) = &self.pieces else { return false };
        let mut colons = 0;
        for piece in pieces {
            match piece {
                Piece::Literal(text) => colons += text.matches(':').count(),
                Piece::Variable(_) if colons < 5 => return true,
                Piece::Variable(_) | Piece::One | Piece::Many | Piece::Escaped(_) => {}
            }
        }
        false
    }

    /// Fills in the variables; `*` and `?` stay wildcards.
    pub fn pattern<'a>(&self, look_up: impl Fn(&str) -> Looked<'a>) -> Filled {
        self.fill(look_up, Token::One, Token::Many)
    }

    /// Fills in the variables; `*` and `?` stand for themselves (`StringEquals`, RULES.md 10).
    pub fn literal<'a>(&self, look_up: impl Fn(&str) -> Looked<'a>) -> Filled {
        self.fill(look_up, Token::Char('?'), Token::Char('*'))
    }

    fn fill<'a>(&self, look_up: impl Fn(&str) -> Looked<'a>, one: Token, many: Token) -> Filled {
        let pieces = match &self.pieces {
            Ok(pieces) => pieces,
            Err(malformed) => return Filled::Unclear(malformed.to_string()),
        };
        let mut tokens = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Literal(text) => tokens.extend(text.chars().map(Token::Char)),
                Piece::One => tokens.push(one),
                Piece::Many => tokens.push(many),
                Piece::Escaped(c) => tokens.push(Token::Char(*c)),
                Piece::Variable(Variable { key, default }) => match (look_up(key), default) {
                    (Looked::One(value), _) => tokens.extend(value.chars().map(Token::Value)),
                    (Looked::Missing, Some(default)) => {
                        tokens.extend(default.chars().map(Token::Value))
                    }
                    (Looked::Missing | Looked::Many, None) => return Filled::NoValue(key.clone()),
                    (Looked::Many, Some(_)) => {
                        return Filled::Unclear(format!(
                            "`{key}` holds a set, so its variable has no value to choose"
                        ));
                    }
                },
            }
        }
        Filled::Glob(Glob { tokens })
    }
}

fn plain(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    push_plain(&mut pieces, text);
    pieces
}

fn push_plain(pieces: &mut Vec<Piece>, text: &str) {
    let mut literal = String::new();
    for c in text.chars() {
        let wildcard = match c {
            '*' => Piece::Many,
            '?' => Piece::One,
            other => {
                literal.push(other);
                continue;
            }
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(wildcard);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
}

fn with_variables(text: &str) -> Result<Vec<Piece>, MalformedVariable> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        push_plain(&mut pieces, before);
        let (piece, left) =
            variable(after).ok_or_else(|| MalformedVariable(format!("${{{after}")))?;
        pieces.push(piece);
        rest = left;
    }
    push_plain(&mut pieces, rest);
    Ok(pieces)
}

/// Reads a variable from just after its `${`.
fn variable(after: &str) -> Option<(Piece, &str)> {
    for (written, c) in [("*}", '*'), ("?}", '?'), ("$}", '$')] {
        if let Some(left) = after.strip_prefix(written) {
            return Some((Piece::Escaped(c), left));
        }
    }
    let end = after.find([',', '}', '$', '*', '?', '\'', '{'])?;
    let (key, left) = after.split_at_checked(end)?;
    // A key's name stands after its prefix; blanks around it are nobody's spelling.
    if !key.contains(':') || key.trim() != key || key.starts_with(':') || key.ends_with(':') {
        return None;
    }
    if let Some(left) = left.strip_prefix('}') {
        return Some((Piece::Variable(Variable { key: key.to_owned(), default: None }), left));
    }
    let (default, left) = left.strip_prefix(", '")?.split_once("'}")?;
    Some((
        Piece::Variable(Variable { key: key.to_owned(), default: Some(default.to_owned()) }),
        left,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        fn check(pattern: &str, text: &str, expected: bool) {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("*", "a/b:c", true);
        check("a*", "a", true);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("a?c", "aéc", true);
        check("*b*", "abc", true);
        check("*ab*ab*", "abab", true);
        check("*ab*ab*", "aba", false);
        check("go", "gopher", false);
        check("**a**", "xxaxx", true);
        check("*?*?*", "a", false);
        check("*?*?*", "ab", true);
        check("x*aaaaaaaaaaaaaaaaaaaa?b*y", "xaaaaaaaaaaaaaaaaaaaaaaacby", true);
        check("x*aaaaaaaaaaaaaaaaaaaa?b*y", "xaaaaaaaaaaaaaaaaaaaaaaacdy", false);
    }

    #[test]
    fn templates() {
        fn check(text: &str, against: &str, expected: Option<bool>) {
            let look_up = |key: &str| match key {
                "aws:username" => Looked::One("al*ce"),
                "aws:TagKeys" => Looked::Many,
                _ => Looked::Missing,
            };
            let filled = Template::new(text, Version::V2012_10_17).pattern(look_up);
            let found = match filled {
                Filled::Glob(glob) => Some(glob.matches(against)),
                Filled::NoValue(_) => Some(false),
                Filled::Unclear(_) => None,
            };
            assert_eq!(found, expected, "{text} {against}");
        }
        check("x/${aws:username}/*", "x/al*ce/1", Some(true));
        check("x/${aws:username}/*", "x/alice/1", Some(false));
        check("${aws:none}", "", Some(false));
        check("${aws:none, 'd*'}", "d*", Some(true));
        check("${aws:none, 'd*'}", "dx", Some(false));
        check("${aws:none, ''}", "", Some(true));
        check("${aws:TagKeys}", "a", Some(false));
        check("${aws:TagKeys, 'a'}", "a", None);
        check("a${*}b", "a*b", Some(true));
        check("a${*}b", "aXb", Some(false));
        check("${$}{app:y}", "${app:y}", Some(true));
        check("${?}", "?", Some(true));
        check("$5", "$5", Some(true));
        check("${aws:username", "x", None);
        check("${}", "x", None);
        check("${aws:username,'x'}", "x", None);
        check("${ aws:username}", "x", None);
        check("${username}", "x", None);
    }

    #[test]
    fn old_documents_have_no_variables() {
        let template = Template::new("${aws:username}", Version::V2008_10_17);
        assert_eq!(
            template.pattern(|_| Looked::One("x")),
            Filled::Glob(Glob::new("${aws:username}"))
        );
        assert!(!template.has_variables());
    }
}
