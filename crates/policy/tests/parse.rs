//! What no document may hold is refused by name, where it stands.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use countersign_policy::document::{Effect, Version};
use countersign_policy::parse::parse;
use countersign_policy::principal::PrincipalElement;

/// Code, line, column, pointer, and the fix.
type Found = (String, u32, u32, String, Option<String>);

fn findings(text: &str) -> Vec<Found> {
    let Err(malformed) = parse(text) else { return Vec::new() };
    malformed
        .findings
        .into_iter()
        .map(|f| (f.code.to_owned(), f.line, f.column, f.pointer, f.fix))
        .collect()
}

fn check(text: &str, code: &str, line: u32, column: u32, pointer: &str, fix: Option<&str>) {
    let expected = (code.to_owned(), line, column, pointer.to_owned(), fix.map(str::to_owned));
    assert_eq!(findings(text), [expected], "{text}");
}

fn statement(elements: &str) -> String {
    format!("{{\"Version\":\"2012-10-17\",\n\"Statement\":[{{\n{elements}}}]}}")
}

#[test]
fn documents() {
    check("[]", "WrongType", 1, 1, "", None);
    check("{", "InvalidJson", 1, 2, "", None);
    check("{}", "MissingElement", 1, 1, "", None);
    check(
        r#"{"Statement":[],"Statements":[]}"#,
        "UnknownElement",
        1,
        17,
        "/Statements",
        Some("did you mean \"Statement\"?"),
    );
    check(r#"{"Statement":"x"}"#, "WrongType", 1, 14, "/Statement", None);
    check(r#"{"Statement":["x"]}"#, "WrongType", 1, 15, "/Statement/0", None);
    check(r#"{"Statement":[],"Statement":[]}"#, "DuplicateKey", 1, 17, "", None);
    check(r#"{"Statement":[]} x"#, "TrailingText", 1, 18, "", None);
    check(
        r#"{"Version":"2012-10-18","Statement":[]}"#,
        "UnknownVersion",
        1,
        12,
        "/Version",
        Some("write \"Version\": \"2012-10-17\""),
    );
    let deep = format!("{{\"Statement\":{}{}}}", "[".repeat(32), "]".repeat(32));
    check(&deep, "TooDeep", 1, 45, "", None);
}

#[test]
fn statements() {
    let whole = r#""Effect":"Allow","Action":"s3:Get","Resource":"*""#;
    assert_eq!(findings(&statement(whole)), []);
    check(
        &statement(r#""Action":"*","Resource":"*""#),
        "MissingElement",
        2,
        14,
        "/Statement/0",
        None,
    );
    check(
        &statement(r#""Effect":"Deny","Resource":"*""#),
        "MissingElement",
        2,
        14,
        "/Statement/0",
        None,
    );
    check(
        &statement(r#""Effect":"allow","Action":"*","Resource":"*""#),
        "UnknownEffect",
        3,
        10,
        "/Statement/0/Effect",
        Some("did you mean \"Allow\"?"),
    );
    check(
        &statement(&format!("{whole},\n\"Resourse\":\"*\"")),
        "UnknownElement",
        4,
        1,
        "/Statement/0/Resourse",
        Some("did you mean \"Resource\"?"),
    );
    check(
        &statement(&format!("{whole},\n\"NotAction\":\"s3:Put\"")),
        "BothElements",
        4,
        1,
        "/Statement/0",
        None,
    );
    check(
        &statement(&format!("{whole},\n\"NotResource\":\"*\"")),
        "BothElements",
        4,
        1,
        "/Statement/0",
        None,
    );
    check(
        &statement(r#""Effect":"Deny","Action":[],"Resource":"*""#),
        "EmptyList",
        3,
        26,
        "/Statement/0/Action",
        None,
    );
    check(
        &statement(r#""Effect":"Deny","Action":["s3:Get",7],"Resource":"*""#),
        "WrongType",
        3,
        36,
        "/Statement/0/Action/1",
        None,
    );
    check(
        &statement(r#""Effect":"Deny","Action":["s3:Get","put"],"Resource":"*""#),
        "InvalidAction",
        3,
        36,
        "/Statement/0/Action/1",
        None,
    );
    check(
        &statement(r#""Effect":"Deny","Action":"*","Resource":"bucket""#),
        "InvalidResource",
        3,
        41,
        "/Statement/0/Resource",
        None,
    );
}

#[test]
fn principals() {
    let with = |principal: &str| {
        statement(&format!(
            "\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\",\n\"Principal\":{principal}"
        ))
    };
    check(
        &with(r#"{"Aws":"*"}"#),
        "UnknownPrincipalType",
        4,
        14,
        "/Statement/0/Principal/Aws",
        Some("did you mean \"AWS\"?"),
    );
    check(
        &with(r#"{"CanonicalUser":"x"}"#),
        "UnsupportedPrincipalType",
        4,
        14,
        "/Statement/0/Principal/CanonicalUser",
        None,
    );
    check(&with(r#""111122223333""#), "WrongType", 4, 13, "/Statement/0/Principal", None);
    check(&with("{}"), "EmptyList", 4, 13, "/Statement/0/Principal", None);
    let document = parse(&with(
        r#"{"AWS":["111122223333","arn:aws:iam::111122223333:user/*"],"Service":"a.b"}"#,
    ))
    .unwrap();
    let texts: Vec<&str> =
        document.principal_elements().map(|element| element.value.text()).collect();
    assert_eq!(texts, ["111122223333", "arn:aws:iam::111122223333:user/*", "a.b"]);
    assert!(
        document.principal_elements().any(|e| matches!(e.value, PrincipalElement::Nobody { .. }))
    );
}

#[test]
fn conditions() {
    let with = |condition: &str| {
        statement(&format!(
            "\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\",\n\"Condition\":{condition}"
        ))
    };
    check(
        &with(r#"{"StringEqual":{"a:b":"c"}}"#),
        "UnknownOperator",
        4,
        14,
        "/Statement/0/Condition/StringEqual",
        Some("did you mean \"StringEquals\"?"),
    );
    check(
        &with(r#"{"NullIfExists":{"a:b":"true"}}"#),
        "UnknownOperator",
        4,
        14,
        "/Statement/0/Condition/NullIfExists",
        Some("did you mean \"Null\"?"),
    );
    let pointer = "/Statement/0/Condition/StringEquals/a:b~1c";
    check(&with(r#"{"StringEquals":{"a:b/c":null}}"#), "WrongType", 4, 38, pointer, None);
    check(&with(r#"{"StringEquals":{"a:b/c":[]}}"#), "EmptyList", 4, 38, pointer, None);
    check(
        &with(r#"{"StringEquals":"x"}"#),
        "WrongType",
        4,
        29,
        "/Statement/0/Condition/StringEquals",
        None,
    );
    check(&with(r#""x""#), "WrongType", 4, 13, "/Statement/0/Condition", None);
    let document =
        parse(&with(r#"{"Bool":{"a:b":true},"NumericEquals":{"a:c":[1.50,"2"]}}"#)).unwrap();
    let texts: Vec<&str> = document
        .statements()
        .iter()
        .flat_map(|statement| &statement.conditions)
        .flat_map(|condition| &condition.values)
        .map(|value| value.value.text.as_str())
        .collect();
    assert_eq!(texts, ["true", "1.50", "2"]);
}

#[test]
fn every_error_is_told_at_once() {
    let text = statement("\"Effect\":\"allow\",\"Action\":[],\"Resourc\":\"*\"");
    let codes: Vec<String> = findings(&text).into_iter().map(|found| found.0).collect();
    assert_eq!(codes, ["UnknownElement", "UnknownEffect", "EmptyList"]);
}

#[test]
fn what_was_read() {
    let text =
        r#"{"Id":"x","Statement":{"Sid":"A","Effect":"Deny","NotAction":"s3:*","Resource":["*"]}}"#;
    let document = parse(text).unwrap();
    assert_eq!(document.version(), Version::V2008_10_17);
    assert!(!document.has_version());
    assert_eq!(document.id(), Some("x"));
    assert_eq!(&*document.source(), text);
    let [statement] = document.statements() else { panic!("one statement") };
    assert_eq!((statement.index, statement.pointer.as_str()), (0, "/Statement"));
    assert_eq!((statement.at.line, statement.at.column), (1, 23));
    assert_eq!(statement.effect, Effect::Deny);
    assert!(statement.actions.negated);
    assert_eq!(statement.sid.as_ref().map(|sid| sid.value.as_str()), Some("A"));
}

mod properties {
    use countersign_policy::json;
    use countersign_policy::pattern::Glob;
    use proptest::prelude::*;

    /// The definition, in the plainest words.
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(('*', rest)), None) => matches(rest, text),
            (Some(('*', rest)), Some((_, after))) => matches(rest, text) || matches(pattern, after),
            (Some(_), None) => false,
            (Some((p, rest)), Some((c, after))) => (*p == '?' || p == c) && matches(rest, after),
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_defined(pattern in "[ab*?]{0,9}", text in "[ab]{0,10}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(Glob::new(&pattern).matches(&text), matches(&p, &t));
        }

        #[test]
        fn long_pieces_match_as_defined(piece in "[ab?]{17,80}", text in "[ab]{0,200}", at in 0_usize..100) {
            let glob = Glob::new(&["*", &piece, "*"].concat());
            let at = at.min(text.len());
            let planted = [&text[..at], &piece.replace('?', "a"), &text[at..]].concat();
            prop_assert!(glob.matches(&planted));
            let windows = text.len().checked_sub(piece.len()).map_or(0, |n| n + 1);
            let found = (0..windows).any(|i| {
                piece.chars().zip(text[i..].chars()).all(|(p, c)| p == '?' || p == c)
            });
            prop_assert_eq!(glob.matches(&text), found);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,60}|[\\[\\]{}\",:\\\\u0-9eatrufls -]{0,60}") {
            let _ = json::read(&text, json::MAX_DEPTH);
            let _ = countersign_policy::parse::parse(&text);
        }

        #[test]
        fn no_element_makes_the_reader_panic(text in "(\\$\\{|\\}|'|,| |\\*|\\?|:|/|arn:aws:iam::|aws:username|a|é){0,12}") {
            let text = text.replace(['\\', '"'], "");
            let document = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Deny","Action":"*","Resource":"arn:{text}","Principal":{{"AWS":"{text}"}},"Condition":{{"StringLike":{{"a:b":"{text}"}}}}}}}}"#
            );
            prop_assert!(countersign_policy::parse::parse(&document).is_ok());
        }
    }
}
