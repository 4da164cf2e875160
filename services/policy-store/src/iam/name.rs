//! Names, paths and ARNs of entities.

use std::fmt::Display;

use crate::error::Error;

/// A name of IAM's: letters, digits and `_+=,.@-`. `most` is 64 for users and roles, 128 for policies.
pub fn name(field: &'static str, text: &str, most: usize) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if text.is_empty() {
        return Err(Error::validation(field, "is required"));
    }
    if text.chars().count() > most || !text.chars().all(allowed) {
        let shown: String = text.chars().take(80).collect();
        let rule = format!("1 to {most} of letters, digits and _+=,.@- are allowed");
        return Err(Error::validation(field, format!("`{}`: {rule}", shown.escape_default())));
    }
    Ok(())
}

/// A path: begins and ends with a slash, and has at most 512 printable ASCII characters between. Empty means `/`.
pub fn path<'a>(field: &'static str, text: &'a str) -> Result<&'a str, Error> {
    if text.is_empty() || text == "/" {
        return Ok("/");
    }
    let allowed = |c: char| c.is_ascii_graphic() && !"*?$\"\\:".contains(c);
    let framed = text.starts_with('/') && text.ends_with('/');
    if text.len() > 512 || !framed || !text.chars().all(allowed) || text.contains("//") {
        let shown: String = text.chars().take(80).collect();
        let rule =
            "a path begins and ends with `/`, such as `/teams/a/`, and has at most 512 characters";
        return Err(Error::validation(field, format!("`{}`: {rule}", shown.escape_default())));
    }
    Ok(text)
}

/// A name that people give: 1 to `most` characters, none of them a control character, no white space at the ends.
pub fn label(field: &'static str, text: &str, most: usize) -> Result<(), Error> {
    let length = text.chars().count();
    if length == 0 || length > most || text.chars().any(char::is_control) || text.trim() != text {
        let shown: String = text.chars().take(80).collect();
        let rule = format!("1 to {most} characters are expected, without control characters");
        return Err(Error::validation(field, format!("`{}`: {rule}", shown.escape_default())));
    }
    Ok(())
}

/// A text for people: at most `most` characters, without control characters other than white space.
pub fn description(field: &'static str, text: &str, most: usize) -> Result<(), Error> {
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    if text.chars().count() > most || text.chars().any(control) {
        return Err(Error::validation(
            field,
            format!("at most {most} characters, no control characters"),
        ));
    }
    Ok(())
}

/// `arn:aws:iam::<account>:user<path><name>`
pub fn user_arn(account: impl Display, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:user{path}{name}")
}

/// `arn:aws:iam::<account>:group<path><name>`
pub fn group_arn(account: impl Display, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:group{path}{name}")
}

/// `arn:aws:iam::<account>:role<path><name>`
pub fn role_arn(account: impl Display, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:role{path}{name}")
}

/// `arn:aws:iam::<account>:policy<path><name>`; `account` may be `aws`.
pub fn policy_arn(account: impl Display, path: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:policy{path}{name}")
}

/// The account (or `aws`), path and name of a managed policy's ARN.
pub fn parse_policy_arn<'a>(
    field: &'static str,
    arn: &'a str,
) -> Result<(&'a str, &'a str, &'a str), Error> {
    let malformed = || {
        let shown: String = arn.chars().take(200).collect();
        let form = "a policy ARN has the form arn:aws:iam::<account or aws>:policy/<path/><name>";
        Error::validation(field, format!("`{}`: {form}", shown.escape_default()))
    };
    let rest = arn.strip_prefix("arn:aws:iam::").ok_or_else(malformed)?;
    let (account, resource) = rest.split_once(':').ok_or_else(malformed)?;
    let resource = resource.strip_prefix("policy").ok_or_else(malformed)?;
    let cut = resource.rfind('/').ok_or_else(malformed)?;
    let (before, after) = resource.split_at_checked(cut + 1).ok_or_else(malformed)?;
    let local = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    if !(local || account == crate::layout::AWS) || name(field, after, 128).is_err() {
        return Err(malformed());
    }
    let before = path(field, before).map_err(|_| malformed())?;
    Ok((account, before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(65);
        for (text, good) in [
            ("alice", true),
            ("a+=,.@-_", true),
            ("", false),
            ("..", true),
            ("a/b", false),
            ("a b", false),
            ("a\0", false),
            ("é", false),
            ("a\n", false),
            (long.as_str(), false),
        ] {
            assert_eq!(name("user_name", text, 64).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn paths() {
        for (text, good) in [
            ("", true),
            ("/", true),
            ("/a/", true),
            ("/a/b/", true),
            ("a/", false),
            ("/a", false),
            ("//", false),
            ("/a//b/", false),
            ("/a*/", false),
            ("/a:b/", false),
            ("/\u{7f}/", false),
        ] {
            assert_eq!(path("path", text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn policy_arns() {
        let check = |arn: &str, expected: Option<(&str, &str, &str)>| {
            assert_eq!(parse_policy_arn("policy_arn", arn).ok(), expected, "{arn}");
        };
        check("arn:aws:iam::aws:policy/ReadOnly", Some(("aws", "/", "ReadOnly")));
        check("arn:aws:iam::123456789012:policy/a/b/P", Some(("123456789012", "/a/b/", "P")));
        for bad in [
            "",
            "arn:aws:iam::aws:policy",
            "arn:aws:iam::aws:policy/",
            "arn:aws:iam::aws:role/X",
            "arn:aws:iam::12:policy/X",
            "arn:aws:iam::123456789012:policyX",
            "arn:aws:iam::123456789012:policy//X",
            "arn:aws:s3::aws:policy/X",
        ] {
            check(bad, None);
        }
    }
}
