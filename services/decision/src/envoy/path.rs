//! A request's path, and the templates that it is held against.
//!
//! Two readers of one path are the oldest way past a gatekeeper: a path that the service behind might read otherwise (`//`, `..`, an
//! escaped slash, a stray `%`) fits no template at all. What is left is split at slashes and decoded once.

use std::collections::BTreeMap;

/// A path, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Segments(Vec<String>);

/// Why a path is held against nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {0}")]
pub struct Ambiguous(&'static str);

impl Segments {
    /// Of the path of a request, with its query, which is not looked at.
    ///
    /// # Errors
    /// [`Ambiguous`] for a path that two readers may read differently.
    pub fn of(path: &str) -> Result<Self, Ambiguous> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let rest = path.strip_prefix('/').ok_or(Ambiguous("does not begin with `/`"))?;
        if path.contains('#') {
            return Err(Ambiguous("holds a `#`"));
        }
        if rest.is_empty() {
            return Ok(Self(Vec::new()));
        }
        rest.split('/').map(segment).collect::<Result<_, _>>().map(Self)
    }
}

fn segment(text: &str) -> Result<String, Ambiguous> {
    if text.is_empty() {
        return Err(Ambiguous("holds an empty segment: `//`, or a `/` at its end"));
    }
    let decoded = decode(text)?;
    if decoded.chars().any(|c| c == '/' || c == '\\') {
        return Err(Ambiguous("holds a slash in disguise: `%2F`, `%5C` or `\\`"));
    }
    if decoded.chars().any(char::is_control) {
        return Err(Ambiguous("holds a control character"));
    }
    // Some servers cut a segment at its first semicolon.
    if decoded.contains(';') {
        return Err(Ambiguous("holds a `;`"));
    }
    if decoded == "." || decoded == ".." {
        return Err(Ambiguous("holds a `.` or `..` segment"));
    }
    // What is still escaped once it was decoded may be decoded once more behind us.
    if decoded.contains('%') {
        return Err(Ambiguous("holds an escaped `%`"));
    }
    Ok(decoded)
}

/// RFC 3986 section 2.1; a `%` that begins no escape is refused.
fn decode(text: &str) -> Result<String, Ambiguous> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let value = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        decoded.push(value.ok_or(Ambiguous("holds a `%` that begins no escape"))?);
    }
    String::from_utf8(decoded).map_err(|_| Ambiguous("is not UTF-8"))
}

/// `/orders/{id}`, or `/files/{rest=**}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// This very segment.
    Literal(String),
    /// Any one segment.
    One(String),
    /// One or more segments, to the end.
    Rest(String),
}

/// What a path has where the template has names.
pub type Captures = BTreeMap<String, String>;

impl Template {
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest =
            text.strip_prefix('/').ok_or_else(|| format!("`{text}` does not begin with `/`"))?;
        let mut parts = Vec::new();
        if !rest.is_empty() {
            for segment in rest.split('/') {
                if parts.iter().any(|part| matches!(part, Part::Rest(_))) {
                    return Err("`{name=**}` takes the rest of the path: nothing may follow".into());
                }
                parts.push(part(segment)?);
            }
        }
        let template = Self { parts };
        let mut names: Vec<&str> = template.names().collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(format!("`{{{}}}` stands twice", twice.first().unwrap_or(&"")));
        }
        Ok(template)
    }

    /// The names that it captures.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::One(name) | Part::Rest(name) => Some(name.as_str()),
        })
    }

    /// What the path has in it, if it fits.
    pub fn captures(&self, Segments(segments): &Segments) -> Option<Captures> {
        let mut captures = Captures::new();
        let mut left = segments.as_slice();
        for part in &self.parts {
            let (first, after) = left.split_first()?;
            match part {
                Part::Literal(literal) if literal == first => left = after,
                Part::Literal(_) => return None,
                Part::One(name) => {
                    captures.insert(name.clone(), first.clone());
                    left = after;
                }
                Part::Rest(name) => {
                    captures.insert(name.clone(), left.join("/"));
                    left = &[];
                }
            }
        }
        left.is_empty().then_some(captures)
    }
}

fn part(segment: &str) -> Result<Part, String> {
    let Some(inner) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        if segment.contains(['{', '}', '*', '?', '#']) {
            return Err(format!(
                "`{segment}`: a segment is plain text, `{{name}}`, or `{{name=**}}` at the end"
            ));
        }
        return self::segment(segment).map(Part::Literal).map_err(|error| error.to_string());
    };
    let (name, is_rest) = match inner.strip_suffix("=**") {
        Some(name) => (name, true),
        None => (inner, false),
    };
    if !is_name(name) {
        return Err(format!("`{segment}`: a name has letters, digits and `_`"));
    }
    Ok(if is_rest { Part::Rest(name.to_owned()) } else { Part::One(name.to_owned()) })
}

/// Of letters, digits and `_`.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_two_readers_may_read_differently_fits_nothing() {
        for bad in [
            "",
            "orders/1",
            "//orders",
            "/orders//1",
            "/orders/",
            "/orders/.",
            "/orders/../admin",
            "/orders/%2e%2e/admin",
            "/orders/%2E%2e",
            "/orders%2f1",
            "/orders%2F1",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
            "/a%252e%252e",
            "/%ff",
            "/a;x=1/b",
            "/a%3bx",
            "/a#b",
            "/a\tb",
        ] {
            assert!(Segments::of(bad).is_err(), "{bad}");
        }
        for (good, expected) in [
            ("/", vec![]),
            ("/?a=//..", vec![]),
            ("/orders/1?x=%2f", vec!["orders", "1"]),
            ("/a%20b/%C3%A9", vec!["a b", "é"]),
            ("/a+b/...", vec!["a+b", "..."]),
        ] {
            assert_eq!(Segments::of(good).unwrap().0, expected, "{good}");
        }
    }

    #[test]
    fn templates_fit_whole_paths() {
        fn check(template: &str, path: &str, expected: Option<&[(&str, &str)]>) {
            let found = Template::parse(template).unwrap().captures(&Segments::of(path).unwrap());
            let expected = expected.map(|pairs| {
                pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
            });
            assert_eq!(found, expected, "{template} {path}");
        }
        check("/", "/", Some(&[]));
        check("/", "/a", None);
        check("/orders", "/orders", Some(&[]));
        check("/orders", "/Orders", None);
        check("/orders", "/orders/1", None);
        check("/orders/{id}", "/orders/1", Some(&[("id", "1")]));
        check("/orders/{id}", "/orders", None);
        check("/orders/{id}", "/orders/1/items", None);
        check("/{a}/{b}", "/x/y", Some(&[("a", "x"), ("b", "y")]));
        check("/files/{rest=**}", "/files/a/b", Some(&[("rest", "a/b")]));
        check("/files/{rest=**}", "/files", None);
    }

    #[test]
    fn wrong_templates() {
        for bad in [
            "",
            "orders",
            "/a//b",
            "/a/",
            "/{}",
            "/{a b}",
            "/{a}/{a}",
            "/{a=**}/b",
            "/a{b}",
            "/*",
            "/a/../b",
            "/{a=*}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
