//! Patterns: the matcher says what the definition says.

use countersign_policy::document::Version;
use countersign_policy::pattern::{Filled, Glob, Looked, Template, Token};

pub(crate) const WORDS: &[&str] = &[
    "\n",
    "*",
    "?",
    "**",
    "*?",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "${aws:username}",
    "${*}",
    "${$}{",
    "${aws:none, 'd'}",
    "arn:aws:s3:::",
    "é",
    "\u{1f511}",
];

/// Longer inputs show no more, and the definition is slow.
const LONGEST: usize = 400;

/// A pattern, a line feed, and a text.
///
/// # Panics
/// If the answer is not the definition's.
pub fn pattern_matcher(bytes: &[u8]) {
    let all = String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(bytes));
    let (pattern, text) = all.split_once('\n').unwrap_or((&all, ""));
    let text_chars: Vec<char> = text.chars().collect();
    let glob = Glob::new(pattern);
    agrees(&glob, text, &text_chars);
    assert_eq!(glob.to_text(), pattern);
    for version in [Version::V2008_10_17, Version::V2012_10_17] {
        let template = Template::new(pattern, version);
        assert_eq!(template.as_str(), pattern);
        let value =
            |key: &str| if key == "aws:none" { Looked::Missing } else { Looked::One("a*b") };
        match template.pattern(value) {
            Filled::Glob(filled) => {
                agrees(&filled, text, &text_chars);
                if version == Version::V2008_10_17 {
                    assert_eq!(filled, glob);
                }
            }
            Filled::NoValue(_) => assert!(template.has_variables()),
            Filled::Unclear(_) => assert!(template.malformed().is_some()),
        }
    }
    if let Some(parts) = glob.arn_parts(false) {
        let joined: Vec<String> = parts.iter().map(Glob::to_text).collect();
        assert_eq!(joined.join(":"), pattern);
    }
}

fn agrees(glob: &Glob, text: &str, text_chars: &[char]) {
    let expected = by_definition(glob.tokens(), text_chars);
    assert_eq!(glob.matches(text), expected, "{:?} {text:?}", glob.to_text());
}

/// Row by row: whether the first `i` tokens match the first `j` characters.
fn by_definition(tokens: &[Token], text: &[char]) -> bool {
    let mut row: Vec<bool> = (0..=text.len()).map(|j| j == 0).collect();
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        for j in 0..=text.len() {
            next[j] = match token {
                Token::Many => row[j] || (j > 0 && next[j - 1]),
                Token::One => j > 0 && row[j - 1],
                Token::Char(c) | Token::Value(c) => j > 0 && row[j - 1] && text[j - 1] == *c,
            };
        }
        row = next;
    }
    row[text.len()]
}
