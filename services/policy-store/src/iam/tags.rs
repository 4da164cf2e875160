//! Tags of users, roles and policies.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html>, "Rules for tagging in IAM and AWS STS": keys differ by more
//! than case, and a tag whose key is there in another case replaces it.

use countersign_proto::policy::v1::Tag;

use super::quota;
use crate::error::Error;

const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 256;

/// `old` with `new` put over them.
pub fn merged(old: Vec<Tag>, new: &[Tag]) -> Result<Vec<Tag>, Error> {
    check(new)?;
    let mut tags = old;
    for tag in new {
        tags.retain(|old| !is_same(&old.key, &tag.key));
        tags.push(tag.clone());
    }
    if tags.len() > quota::TAGS {
        return Err(Error::LimitExceeded { what: "tags".to_owned(), limit: quota::TAGS });
    }
    tags.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(tags)
}

/// `old` without those of these keys; a key that is not there is no error (as in IAM).
pub fn without(old: Vec<Tag>, keys: &[String]) -> Result<Vec<Tag>, Error> {
    check_keys(keys)?;
    let is_kept = |tag: &Tag| !keys.iter().any(|key| is_same(key, &tag.key));
    Ok(old.into_iter().filter(is_kept).collect())
}

/// Whether these may be keys of tags.
pub fn check_keys(keys: &[String]) -> Result<(), Error> {
    if keys.is_empty() || keys.len() > quota::TAGS {
        let rule = format!("1 to {} keys are expected", quota::TAGS);
        return Err(Error::validation("tag_keys", rule));
    }
    keys.iter().try_for_each(|key| check_key("tag_keys", key))
}

/// Whether these may be put, as they are.
pub fn check(tags: &[Tag]) -> Result<(), Error> {
    if tags.len() > quota::TAGS {
        return Err(Error::LimitExceeded { what: "tags".to_owned(), limit: quota::TAGS });
    }
    for (index, tag) in tags.iter().enumerate() {
        check_key("tags", &tag.key)?;
        if tag.value.chars().count() > MAX_VALUE || !tag.value.chars().all(is_allowed) {
            let rule = format!(
                "the value of `{}`: at most {MAX_VALUE} letters, digits, spaces and _.:/=+-@",
                shown(&tag.key)
            );
            return Err(Error::validation("tags", rule));
        }
        if tags.iter().take(index).any(|before| is_same(&before.key, &tag.key)) {
            let rule = format!("`{}` stands twice; keys differ by more than case", shown(&tag.key));
            return Err(Error::validation("tags", rule));
        }
    }
    Ok(())
}

fn check_key(field: &'static str, key: &str) -> Result<(), Error> {
    let length = key.chars().count();
    if length == 0 || length > MAX_KEY || !key.chars().all(is_allowed) {
        let rule = format!(
            "the key `{}`: 1 to {MAX_KEY} letters, digits, spaces and _.:/=+-@",
            shown(key)
        );
        return Err(Error::validation(field, rule));
    }
    if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
        let rule = format!("the key `{}`: `aws:` is AWS's own prefix", shown(key));
        return Err(Error::validation(field, rule));
    }
    Ok(())
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]` of AWS's pattern.
fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c)
}

/// Policies compare tag keys without case, ASCII or not.
fn is_same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: key.into(), value: value.into() }
    }

    #[test]
    fn a_key_in_another_case_is_the_same_key() {
        let old = vec![tag("Team", "a"), tag("Zone", "b")];
        let tags = merged(old.clone(), &[tag("team", "c"), tag("Äpfel", "d")]).unwrap();
        assert_eq!(tags, [tag("Zone", "b"), tag("team", "c"), tag("Äpfel", "d")]);
        assert_eq!(merged(tags, &[tag("ÄPFEL", "e")]).unwrap().len(), 3);
        let left = without(old.clone(), &["TEAM".into(), "absent".into()]).unwrap();
        assert_eq!(left, [tag("Zone", "b")]);
        assert!(merged(old, &[tag("x", "1"), tag("X", "2")]).is_err());
    }

    #[test]
    fn limits() {
        let long = |length: usize| "a".repeat(length);
        for (key, value, good) in [
            ("a", "", true),
            ("a b:c/d", "x@y", true),
            (long(128).as_str(), long(256).as_str(), true),
            ("", "x", false),
            (long(129).as_str(), "", false),
            ("a", long(257).as_str(), false),
            ("aws:a", "", false),
            ("AWS:a", "", false),
            ("a*", "", false),
            ("a", "*", false),
            ("a", "${aws:username}", false),
            ("a\0", "", false),
            ("a\n", "", false),
        ] {
            assert_eq!(check(&[tag(key, value)]).is_ok(), good, "{key:?} {value:?}");
        }
        let many: Vec<Tag> = (0..51).map(|n| tag(&format!("k{n}"), "")).collect();
        assert!(check(&many).is_err());
        assert!(merged(many[..30].to_vec(), &many[25..50]).is_ok());
        assert!(merged(many[..30].to_vec(), &many[20..51]).is_err());
        assert!(without(Vec::new(), &[]).is_err());
    }
}
